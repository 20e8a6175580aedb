//! The lines of a sweep at work, for a terminal of any width. What gives way is the bar, then the id,
//! then the end of a label or name; a number never.

use crate::cli::text::{counted, measured, secs};
use crate::cli::ui::{Tone, paint};
use crate::plan::{RunId, StageKind};
use crate::report::{cut_text, display_width};

/// The sweep as its line shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SweepLine {
    pub(crate) name: String,
    pub(crate) done: usize,
    pub(crate) runs: usize,
    /// Seconds left, if there is anything to go by.
    pub(crate) left: Option<f64>,
}

/// What has a line of its own.
#[derive(Clone, Debug)]
pub(crate) struct RunName {
    pub(crate) stage: StageKind,
    pub(crate) run: RunId,
    /// What its trials have in common.
    pub(crate) label: String,
}

/// A run at work as its line shows it.
#[derive(Clone, Debug)]
pub(crate) struct RunLine {
    pub(crate) name: RunName,
    /// Nothing before it has said how far it is.
    pub(crate) at: Option<RunPlace>,
}

/// How far a run is.
#[derive(Clone, Debug)]
pub(crate) struct RunPlace {
    pub(crate) unit: String,
    pub(crate) done: u64,
    /// 0 if it is not known.
    pub(crate) total: u64,
    pub(crate) loss: Option<f64>,
}

/// Longest name of a sweep beside its bar, columns.
const LONGEST_NAME: usize = 24;
/// A bar that is shorter than this says nothing, columns.
const SHORTEST_BAR: usize = 4;
/// With less room for the label something else gives way, columns.
const LEAST_LABEL: usize = 12;

impl SweepLine {
    /// `my-sweep ━━━━━╸────── 71/92 runs  12m05s (left 4m10s)`.
    pub(crate) fn text(&self, elapsed: f64, width: usize, color: bool) -> String {
        let left = self.left.map(|left| format!(" (left {})", secs(left)));
        let numbers = format!(
            "{}/{}  {}{}",
            self.done,
            counted(self.runs, "run"),
            secs(elapsed),
            left.unwrap_or_default()
        );
        let room = width.saturating_sub(display_width(&numbers) + 1);
        let name = cut_text(&self.name, room.min(LONGEST_NAME));
        let bar = room.saturating_sub(display_width(&name) + 1);
        if name.is_empty() {
            return numbers;
        }
        let mut line = paint(color, Tone::Strong, &name);
        if bar >= SHORTEST_BAR {
            line += &format!(" {}", bar_of(self.done as f64, self.runs as f64, bar));
        }
        format!("{line} {numbers}")
    }
}

impl RunLine {
    /// `  ━━━━╸───────   412/949   pairs, loss 0.7123  dpo       ab12cd34ef56  beta=0.1 …`.
    pub(crate) fn text(&self, width: usize) -> String {
        let label = &self.name.label;
        let least = display_width(label).min(LEAST_LABEL);
        for (bar, with_id, least) in [
            (12, true, least),
            (6, true, least),
            (6, false, least),
            (0, false, 0),
        ] {
            let head = self.head(bar, with_id);
            let room = width.checked_sub(display_width(&head) + 2);
            if let Some(room) = room.filter(|room| *room >= least) {
                let line = format!("{head}  {}", cut_text(label, room));
                return line.trim_end().to_owned();
            }
        }
        cut_text(&format!("  {}", self.numbers()), width)
    }

    fn head(&self, bar: usize, with_id: bool) -> String {
        let (done, total) = match &self.at {
            Some(at) => (at.done as f64, at.total as f64),
            None => (0.0, 0.0),
        };
        let bar = match bar {
            0 => String::new(),
            _ => bar_of(done, total, bar) + " ",
        };
        let id = if with_id {
            format!(" {}", self.name.run)
        } else {
            String::new()
        };
        let stage = self.name.stage.name();
        format!("  {bar}{}  {stage:<9}{id}", self.numbers())
    }

    fn numbers(&self) -> String {
        let Some(at) = &self.at else {
            return "starting".to_owned();
        };
        let loss = at.loss.map(|loss| format!(", loss {}", measured(loss)));
        let loss = loss.unwrap_or_default();
        let RunPlace {
            unit, done, total, ..
        } = at;
        match total {
            0 => format!("{done:>5} {unit}{loss}"),
            _ => format!("{done:>5}/{total:<5} {unit}{loss}"),
        }
    }
}

impl RunName {
    /// `✓ sft       ab12cd34ef56 beta=0.1 …  3m05s`: the label gives way to how it ended.
    pub(crate) fn ended(&self, mark: &str, how: &str, width: usize) -> String {
        let head = self.head(mark);
        let taken = display_width(&head) + 1 + 2 + display_width(how);
        let label = cut_text(&self.label, width.saturating_sub(taken));
        let gap = if label.is_empty() { "" } else { " " };
        format!("{head}{gap}{label}  {how}")
    }

    /// `✗ sft       ab12cd34ef56`.
    pub(crate) fn head(&self, mark: &str) -> String {
        format!("{mark} {:<9} {}", self.stage.name(), self.run)
    }
}

/// A bar of `width` columns; empty if it is not known of how much `done` is a part.
fn bar_of(done: f64, total: f64, width: usize) -> String {
    let share = if total > 0.0 {
        (done / total).min(1.0)
    } else {
        0.0
    };
    let full = (share * width as f64) as usize;
    let tip = usize::from(share > 0.0 && full < width);
    let rest = width - full - tip;
    "━".repeat(full) + &"╸".repeat(tip) + &"─".repeat(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [usize; 4] = [60, 80, 120, 200];
    const LABEL: &str =
        "batching=best-fit learning-rate=0.000015 preference-loss=sigmoid-smoothed seed=1";
    const WIDE_LABEL: &str =
        "データの混合=指示と物語と対話と要約 学習率=0.000015 損失=シグモイド seed=1";

    fn name(label: &str) -> RunName {
        RunName {
            stage: StageKind::RefLogps,
            run: RunId("ab".repeat(32)),
            label: label.to_owned(),
        }
    }

    fn at_work(label: &str, done: u64, total: u64, loss: Option<f64>) -> RunLine {
        let unit = "pairs".to_owned();
        let at = Some(RunPlace {
            unit,
            done,
            total,
            loss,
        });
        RunLine {
            name: name(label),
            at,
        }
    }

    #[test]
    fn a_run_at_work_fits_its_line_with_its_numbers_whole() {
        for label in [LABEL, WIDE_LABEL, "beta=0.1", ""] {
            for (done, total) in [(4, 949), (123_456, 1_234_567), (17, 0)] {
                for (loss, shown) in [
                    (None, ""),
                    (Some(0.712_345), "loss 0.7123"),
                    (Some(4.2e-5), "loss 4.200e-5"),
                ] {
                    let line = at_work(label, done, total, loss);
                    for width in WIDTHS {
                        let text = line.text(width);
                        assert!(display_width(&text) <= width, "{width}: {text}");
                        assert!(text.contains(shown), "{width}: {text}");
                        let of = format!("{done}/{total}");
                        assert!(total == 0 || text.contains(&of), "{width}: {text}");
                        assert!(text.contains("ref-logps"), "{width}: {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_gives_way_is_bar_id_and_label_in_this_order() {
        let line = at_work(LABEL, 412, 949, Some(0.712_345));
        let texts = WIDTHS.map(|width| line.text(width));
        assert_eq!(
            texts,
            [
                "    412/949   pairs, loss 0.7123  ref-logps  batching=best-…",
                "  ━━╸───   412/949   pairs, loss 0.7123  ref-logps abababababab  batching=best-…",
                "  ━━━━━╸──────   412/949   pairs, loss 0.7123  ref-logps abababababab  batching=best-fit learning-rate=0.000015 …",
                "  ━━━━━╸──────   412/949   pairs, loss 0.7123  ref-logps abababababab  batching=best-fit learning-rate=0.000015 preference-loss=sigmoid-smoothed seed=1",
            ]
        );
        let starting = RunLine {
            name: name("beta=0.1"),
            at: None,
        };
        assert_eq!(
            starting.text(80),
            "  ──────────── starting  ref-logps abababababab  beta=0.1"
        );
    }

    #[test]
    fn the_line_of_the_sweep_fits_and_its_bar_follows_the_width() {
        let mut line = SweepLine {
            name: "a-name-of-a-sweep-that-is-very-long".to_owned(),
            done: 71,
            runs: 92,
            left: None,
        };
        for name in [
            "beta",
            "a-name-of-a-sweep-that-is-very-long",
            "選好の学習と混合の比較の実験",
        ] {
            name.clone_into(&mut line.name);
            for left in [None, Some(0.4), Some(98_765.0)] {
                line.left = left;
                for width in WIDTHS {
                    let text = line.text(3_725.0, width, true);
                    // The bar fills what is left of the line.
                    assert_eq!(display_width(&text), width, "{text}");
                    assert!(text.contains("71/92 runs  1h02m"), "{width}: {text}");
                }
                let narrow = line.text(3_725.0, 20, false);
                assert!(narrow.contains("71/92 runs  1h02m"), "{narrow}");
            }
        }
        line.left = Some(250.0);
        assert_eq!(
            line.text(3_725.0, 60, false),
            "選好の学習と混合の比較… ━━━╸─ 71/92 runs  1h02m (left 4m10s)"
        );
        line.runs = 1;
        line.done = 0;
        line.left = None;
        assert!(line.text(1.0, 60, false).ends_with(" 0/1 run  1.0s"));
    }

    #[test]
    fn the_end_of_a_run_is_told_whole_beside_its_label() {
        for label in [LABEL, WIDE_LABEL, ""] {
            for width in WIDTHS {
                let text = name(label).ended("✓", "1h02m", width);
                assert!(display_width(&text) <= width, "{width}: {text}");
                assert!(text.starts_with("✓ ref-logps abababababab"), "{text}");
                assert!(text.ends_with("  1h02m"), "{width}: {text}");
            }
        }
        assert_eq!(
            name(LABEL).ended("✓", "3m05s", 60),
            "✓ ref-logps abababababab batching=best-fit …  3m05s"
        );
    }
}
