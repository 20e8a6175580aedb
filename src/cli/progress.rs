//! Bars on a terminal: one for the sweep, one for each run at work. A line fits any width: what a run is
//! called stands at its end and is cut there.

use crate::base::printable;
use crate::cli::text::{counted, secs};
use crate::cli::ui::shown;
use crate::plan::RunId;
use crate::runner::{Reporter, RunnerEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// Draws the runner's events as bars on stderr.
pub(crate) struct BarsReporter {
    left: WorkLeft,
    all: MultiProgress,
    sweep: ProgressBar,
    runs: BTreeMap<RunId, (ProgressBar, String)>,
    color: bool,
}

/// How long the rest will take, by planned operations: runs differ by orders of magnitude.
struct WorkLeft {
    begun: Instant,
    /// Planned operations of each run that is not done.
    todo: BTreeMap<RunId, f64>,
    /// Done since the beginning by finished runs.
    finished: f64,
    /// The share of each run at work that was done when it first reported, and that is done now: what
    /// an earlier session did took none of this one's time.
    shares: BTreeMap<RunId, (f64, f64)>,
}

impl WorkLeft {
    fn new(todo: BTreeMap<RunId, f64>) -> Self {
        Self {
            begun: Instant::now(),
            todo,
            finished: 0.0,
            shares: BTreeMap::new(),
        }
    }

    /// So much of `run` is done.
    fn report(&mut self, run: &RunId, share: f64) {
        let (first, now) = self.shares.entry(run.clone()).or_insert((share, share));
        // An attempt that begins anew falls behind where the one before it began.
        *first = first.min(share);
        *now = share;
    }

    /// `run` will do nothing more.
    fn end(&mut self, run: &RunId, worked: bool) {
        let first = self.shares.remove(run).map_or(0.0, |(first, _)| first);
        let work = self.todo.remove(run).unwrap_or_default();
        self.finished += if worked { (1.0 - first) * work } else { 0.0 };
    }

    /// Seconds left if work goes on as so far; none before there is anything to go by.
    fn secs(&self, elapsed: f64) -> Option<f64> {
        let (mut done, mut rest) = (self.finished, 0.0);
        for (run, work) in &self.todo {
            let (first, now) = self.shares.get(run).copied().unwrap_or_default();
            done += (now - first) * work;
            rest += (1.0 - now) * work;
        }
        (done > 0.0).then(|| elapsed * rest.max(0.0) / done)
    }
}

impl BarsReporter {
    /// `todo` are the planned operations of each run that is not done yet.
    pub(crate) fn new(color: bool, todo: BTreeMap<RunId, f64>) -> Self {
        let all = MultiProgress::new();
        let sweep = all.add(ProgressBar::new(0));
        sweep.set_style(style(
            "{prefix:.bold} {wide_bar} {pos}/{len} runs  {elapsed}{msg}",
        ));
        Self {
            left: WorkLeft::new(todo),
            all,
            sweep,
            runs: BTreeMap::new(),
            color,
        }
    }

    fn line(&self, text: &str) -> io::Result<()> {
        self.all.println(shown(text))
    }

    fn mark(&self, good: bool) -> &'static str {
        match (good, self.color) {
            (true, true) => "\u{1b}[32m✓\u{1b}[0m",
            (true, false) => "✓",
            (false, true) => "\u{1b}[31m✗\u{1b}[0m",
            (false, false) => "✗",
        }
    }

    fn start(&mut self, run: &RunId, name: &str) {
        let bar = self.all.add(ProgressBar::new(0));
        bar.set_style(style("  {bar:12} {pos:>5}/{len:<5} {wide_msg}"));
        let name = printable(name).into_owned();
        bar.set_message(name.clone());
        bar.enable_steady_tick(Duration::from_millis(500));
        self.runs.insert(run.clone(), (bar, name));
    }

    /// Says how long the rest will take.
    fn say_left(&self) {
        let left = self.left.secs(self.left.begun.elapsed().as_secs_f64());
        let text = left.map(|left| format!(" (left {})", secs(left)));
        self.sweep.set_message(text.unwrap_or_default());
    }

    fn end(&mut self, run: &RunId) {
        if let Some((bar, _)) = self.runs.remove(run) {
            bar.finish_and_clear();
        }
    }
}

/// Longest name of a sweep beside its bar, characters: at 60 columns the rest of the line still fits.
const LONGEST_NAME: usize = 20;

/// The first `most` characters of a text, the last of them an ellipsis if there are more.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most - 1).collect();
    head + "…"
}

/// A style, or the default one should the template not parse.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

impl Reporter for BarsReporter {
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()> {
        match event {
            RunnerEvent::SweepStarted {
                sweep, runs, done, ..
            } => {
                self.sweep.set_prefix(cut(&printable(sweep), LONGEST_NAME));
                self.sweep.set_length(*runs as u64);
                self.sweep.set_position(*done as u64);
                self.sweep.tick();
            }
            RunnerEvent::RunStarted {
                run, stage, label, ..
            } => self.start(run, &format!("{stage:<9} {run} {label}")),
            RunnerEvent::RunProgress {
                run,
                unit,
                done,
                total,
                loss,
            } => {
                if let Some((bar, name)) = self.runs.get(run) {
                    bar.set_length(*total);
                    bar.set_position(*done);
                    let loss = loss.map(|loss| format!(", loss {loss:.3}"));
                    bar.set_message(format!("{unit}{}  {name}", loss.unwrap_or_default()));
                }
                let share = *done as f64 / (*total).max(1) as f64;
                self.left.report(run, share);
                self.say_left();
            }
            RunnerEvent::RunFinished {
                run,
                stage,
                label,
                secs: taken,
                ..
            } => {
                self.end(run);
                self.left.end(run, true);
                self.say_left();
                self.sweep.inc(1);
                self.line(&format!(
                    "{} {stage:<9} {run} {label}  {}",
                    self.mark(true),
                    secs(*taken)
                ))?;
            }
            RunnerEvent::RunFailed {
                run,
                stage,
                label,
                message,
                ..
            } => {
                self.end(run);
                self.left.end(run, false);
                self.sweep.inc(1);
                self.line(&format!(
                    "{} {stage:<9} {run} {label}  {message}",
                    self.mark(false)
                ))?;
            }
            RunnerEvent::RunSkipped { run, stage } => {
                self.left.end(run, false);
                self.sweep.inc(1);
                self.line(&format!(
                    "- {stage:<9} {run} skipped: a run that it needs failed"
                ))?;
            }
            RunnerEvent::RunCancelled { run, stage } => {
                self.end(run);
                self.left.end(run, false);
                self.sweep.inc(1);
                self.line(&format!("- {stage:<9} {run} cancelled"))?;
            }
            RunnerEvent::RunInterrupted { run, .. } => self.end(run),
            RunnerEvent::RunCrashed {
                run,
                crashes,
                limit,
                message,
                ..
            } => {
                self.end(run);
                self.line(&format!(
                    "! {run} went silent ({crashes} of {limit}): {message}"
                ))?;
            }
            RunnerEvent::Warning { run, message } => {
                let about = run
                    .as_ref()
                    .map(|run| format!("{run}: "))
                    .unwrap_or_default();
                self.line(&format!("! {about}{message}"))?;
            }
            RunnerEvent::Stopping { attempts } => {
                self.line(&format!(
                    "stopping: {} at work: the state is saved (Ctrl-C again ends at once)",
                    counted(*attempts, "run")
                ))?;
            }
            RunnerEvent::Paused { reason } => self.line(&format!("! paused: {reason}"))?,
            RunnerEvent::Resumed => self.line("going on")?,
            RunnerEvent::SweepFinished { .. } => self.sweep.finish_and_clear(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_told_by_planned_work_and_not_by_runs() {
        let run = |name: &str| RunId(name.to_owned());
        let todo = [("a", 1.0), ("b", 98.0), ("c", 1.0)];
        let mut left = WorkLeft::new(todo.map(|(name, work)| (run(name), work)).into());
        assert_eq!(left.secs(5.0), None);
        left.end(&run("a"), true);
        assert_eq!(left.secs(2.0), Some(198.0));
        left.report(&run("b"), 0.0);
        left.report(&run("b"), 0.5);
        assert_eq!(left.secs(100.0), Some(100.0));
        left.end(&run("b"), true);
        left.end(&run("c"), false);
        assert_eq!(left.secs(100.0), Some(0.0));
    }

    // Ten hours, of which an earlier session did nine: half an hour for each twentieth.
    #[test]
    fn what_an_earlier_session_did_took_no_time_of_this_one() {
        let run = RunId("a".to_owned());
        let mut left = WorkLeft::new(BTreeMap::from([(run.clone(), 10.0)]));
        left.report(&run, 0.9);
        assert_eq!(left.secs(60.0), None);
        left.report(&run, 0.95);
        let secs = left.secs(1800.0).unwrap();
        assert!((secs - 1800.0).abs() < 1e-6, "{secs}");
        let other = RunId("b".to_owned());
        left.todo.insert(other.clone(), 1.0);
        left.end(&run, true);
        let secs = left.secs(3600.0).unwrap();
        assert!((secs - 3600.0).abs() < 1e-6, "{secs}");
        // A crash loses what was done since the last saved state.
        left.report(&other, 0.5);
        left.report(&other, 0.25);
        let secs = left.secs(3600.0).unwrap();
        assert!((secs - 2700.0).abs() < 1e-6, "{secs}");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("short", 20), "short");
        assert_eq!(
            cut("a-name-of-a-sweep-that-is-long", 20),
            "a-name-of-a-sweep-t…"
        );
    }
}
