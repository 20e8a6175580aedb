//! Draws a page on a terminal of any size. What gives way where it is narrow is the bar, then the id, then the end of a
//! label; a number never.

use crate::cli::text::{bytes, counted, measured, secs, si};
use crate::cli::ui::Tone;
use crate::cli::watch::look::{Page, RunDetail, Shown};
use crate::cli::watch::rows::{left, one_line, right, spark};
use crate::cli::watch::state::WatchState;
use crate::live::{AtWork, RunView, SweepView};
use crate::report::wrap_text;
use crate::rundir::Pause;
use crate::store::AttemptRow;
use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// From so many columns on, ids are shown.
const WITH_ID: usize = 66;
/// From so many on, bars, sparklines, rates and memory.
const WITH_ALL: usize = 110;

/// Draws what is shown.
pub(crate) fn draw(
    frame: &mut Frame<'_>,
    state: &WatchState,
    shown: &Shown,
    note: Option<&str>,
    color: bool,
) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let pen = Pen { color, width };
    let (mut lines, rows) = match shown {
        Shown::Sweeps(sweeps, pauses) => (pen.pauses(pauses), pen.sweeps(state, sweeps)),
        Shown::Sweep(view, runs, pauses) => (pen.head(view, pauses), pen.runs(state, view, runs)),
        Shown::Run(detail) => (pen.run_head(detail), pen.run(detail)),
    };
    let foot = pen.foot(state, note);
    lines.truncate(height.saturating_sub(2));
    let room = height.saturating_sub(lines.len() + 1);
    let names = state.rows(shown);
    let place = state.place(&names);
    let from = match shown {
        // A list follows what is chosen, a text scrolls.
        Shown::Run(_) => place.min(rows.len().saturating_sub(room)),
        _ => (place + 1).saturating_sub(room.saturating_sub(1)),
    };
    let is_list = !matches!(shown, Shown::Run(_));
    for (index, row) in rows.into_iter().enumerate().skip(from).take(room) {
        let chosen = is_list && index == place;
        lines.push(if chosen {
            row.patch_style(Style::new().add_modifier(Modifier::REVERSED))
        } else {
            row
        });
    }
    lines.resize(height.saturating_sub(1), Line::default());
    lines.push(foot);
    frame.render_widget(Paragraph::new(lines), area);
}

/// Colours, or none, and how wide a line is.
struct Pen {
    color: bool,
    width: usize,
}

impl Pen {
    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        match tone {
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Dim if self.color => style.add_modifier(Modifier::DIM),
            Tone::Good if self.color => style.fg(Color::Green),
            Tone::Bad if self.color => style.fg(Color::Red),
            Tone::Warn if self.color => style.fg(Color::Yellow),
            Tone::Accent if self.color => style.fg(Color::Cyan),
            _ => style,
        }
    }

    fn span(&self, tone: Tone, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.style(tone))
    }

    /// Sentences, broken between words.
    fn text(&self, tone: Tone, text: &str) -> Vec<Line<'static>> {
        let lines = wrap_text(&one_line(text), self.width, 2);
        lines
            .into_iter()
            .map(|line| Line::from(self.span(tone, line)))
            .collect()
    }

    fn pauses(&self, pauses: &[Pause]) -> Vec<Line<'static>> {
        let told =
            |pause: &Pause| format!("paused since {}: {}", pause.since.iso8601(), pause.reason);
        pauses
            .iter()
            .flat_map(|pause| self.text(Tone::Warn, &told(pause)))
            .collect()
    }

    /// Name, question, how much is done, and how many runs are in each state.
    fn head(&self, view: &SweepView, pauses: &[Pause]) -> Vec<Line<'static>> {
        let name = self.span(Tone::Strong, left(&one_line(&view.name), self.width));
        let mut lines = vec![Line::from(name)];
        lines.extend(self.text(Tone::Dim, &view.question));
        lines.push(self.progress(view, self.width));
        lines.extend(self.states(view));
        lines.extend(self.pauses(pauses));
        lines.push(Line::default());
        lines
    }

    /// `━━━━━━────── 71/92 runs (left 4m10s)`.
    fn progress(&self, view: &SweepView, width: usize) -> Line<'static> {
        let (done, total) = (view.states.succeeded, view.states.total());
        let rest = view.secs_left.map(|rest| format!(" (left {})", secs(rest)));
        let numbers = format!(
            " {done}/{}{}",
            counted(total, "run"),
            rest.unwrap_or_default()
        );
        let room = width.saturating_sub(numbers.chars().count());
        let full = room * done / total.max(1);
        Line::from(vec![
            self.span(Tone::Good, "━".repeat(full)),
            self.span(Tone::Dim, "─".repeat(room - full)),
            Span::raw(numbers),
        ])
    }

    fn states(&self, view: &SweepView) -> Vec<Line<'static>> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for run in view.runs.iter() {
            match counts.iter_mut().find(|(word, _)| *word == run.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((run.state, 1)),
            }
        }
        let parts: Vec<String> = counts
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        self.text(Tone::Dim, &parts.join(", "))
    }

    fn sweeps(&self, state: &WatchState, sweeps: &[SweepView]) -> Vec<Line<'static>> {
        let names = state.rows(&Shown::Sweeps(sweeps.to_vec(), Vec::new()));
        let fits = sweeps.iter().filter(|sweep| names.contains(&sweep.name));
        let name_width = (self.width / 3).clamp(10, 40);
        let row = |sweep: &SweepView| {
            let failed = sweep.states.failed;
            let failed = if failed > 0 {
                format!(" {failed} failed")
            } else {
                String::new()
            };
            let rest = self.width.saturating_sub(name_width + 1 + failed.len());
            let mut line = self.progress(sweep, rest);
            line.spans
                .insert(0, Span::raw(left(&one_line(&sweep.name), name_width) + " "));
            line.spans.push(self.span(Tone::Bad, failed));
            line
        };
        fits.map(row).collect()
    }

    fn runs(&self, state: &WatchState, view: &SweepView, runs: &[RunView]) -> Vec<Line<'static>> {
        let work = |run: &RunView| view.at_work.iter().find(|work| work.run == run.run);
        let fits = runs.iter().filter(|run| state.fits_run(run));
        fits.map(|run| self.run_row(run, work(run))).collect()
    }

    /// One run of a list.
    fn run_row(&self, run: &RunView, work: Option<&AtWork>) -> Line<'static> {
        let mut cells = vec![Span::raw(left(run.stage.name(), 9) + " ")];
        if self.width >= WITH_ID {
            cells.push(self.span(Tone::Dim, left(run.run.short(), 12) + " "));
        }
        if let Some(work) = work {
            cells.extend(self.work_cells(work));
        } else {
            let word = self.span(Tone::of_state(run.state), left(run.state, 9) + " ");
            let took = run.secs.map(secs).unwrap_or_default();
            cells.extend([word, Span::raw(right(&took, 7) + " ")]);
        }
        let taken: usize = cells.iter().map(Span::width).sum();
        let label = match (&run.message, work) {
            (Some(message), None) => format!("{}  {message}", run.label),
            _ => run.label.clone(),
        };
        cells.push(Span::raw(left(
            &one_line(&label),
            self.width.saturating_sub(taken),
        )));
        Line::from(cells)
    }

    fn work_cells(&self, work: &AtWork) -> Vec<Span<'static>> {
        let progress = &work.progress;
        let done = match (progress.unit.is_empty(), progress.total) {
            (true, _) => "starting".to_owned(),
            (false, 0) => format!("{} {}", progress.done, progress.unit),
            (false, total) => format!("{}/{total}", progress.done),
        };
        let mut cells = Vec::new();
        if self.width >= WITH_ALL {
            let full = (progress.done.saturating_mul(10) / progress.total.max(1)).min(10) as usize;
            cells.push(self.span(Tone::Accent, "━".repeat(full)));
            cells.push(self.span(Tone::Dim, "─".repeat(10 - full)));
            cells.push(Span::raw(" "));
        }
        cells.push(self.span(Tone::Accent, right(&done, 9) + " "));
        let loss = progress.loss.map(measured).unwrap_or_default();
        cells.push(Span::raw(right(&loss, 7) + " "));
        if self.width >= WITH_ALL {
            cells.push(self.span(Tone::Accent, left(&spark(&progress.losses, 12), 12) + " "));
            let rate = work
                .tokens_per_sec
                .map(|rate| format!("{} tok/s", si(rate)));
            cells.push(Span::raw(right(&rate.unwrap_or_default(), 12) + " "));
            let memory = format!("{} planned", bytes(work.planned_memory_bytes as f64));
            cells.push(self.span(Tone::Dim, right(&memory, 17) + " "));
        }
        let rest = work.secs_left.map(|rest| format!("-{}", secs(rest)));
        cells.push(Span::raw(right(&rest.unwrap_or_default(), 7) + " "));
        cells
    }

    fn run_head(&self, detail: &RunDetail) -> Vec<Line<'static>> {
        let run = &detail.view;
        let title = format!("{} {}  ", run.stage.name(), run.run.short());
        let mut lines = vec![Line::from(vec![
            self.span(Tone::Strong, title),
            self.span(Tone::of_state(run.state), run.state),
        ])];
        lines.extend(self.text(Tone::Dim, &run.label));
        lines
    }

    /// Everything about a run, to be scrolled.
    fn run(&self, detail: &RunDetail) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for reason in &detail.why {
            lines.extend(self.text(Tone::Warn, reason));
        }
        if let Some(work) = &detail.at_work {
            let mut cells = self.work_cells(work);
            cells.push(Span::raw(format!("on {}", one_line(&work.device))));
            lines.push(Line::from(cells));
        }
        let curve = spark(&detail.losses, self.width.saturating_sub(22));
        if !curve.is_empty() {
            let last = detail
                .losses
                .last()
                .copied()
                .map(measured)
                .unwrap_or_default();
            lines.push(Line::from(vec![
                self.span(Tone::Dim, "loss "),
                self.span(Tone::Accent, curve),
                Span::raw(format!(" {last}")),
            ]));
        }
        self.section(
            &mut lines,
            "attempts",
            detail.attempts.iter().map(attempt_text),
        );
        let metrics = detail.metrics.iter();
        let metric =
            metrics.map(|(key, metric)| format!("{}  {}", right(&measured(metric.value), 12), key));
        self.section(&mut lines, "metrics", metric);
        self.section(&mut lines, "log", detail.log.iter().cloned());
        lines
    }

    fn section(
        &self,
        lines: &mut Vec<Line<'static>>,
        name: &'static str,
        items: impl Iterator<Item = String>,
    ) {
        let items: Vec<String> = items.collect();
        if items.is_empty() {
            return;
        }
        lines.extend([Line::default(), Line::from(self.span(Tone::Accent, name))]);
        for item in items {
            let item = format!("  {}", one_line(&item));
            lines.extend(wrap_text(&item, self.width, 2).into_iter().map(Line::from));
        }
    }

    fn foot(&self, state: &WatchState, note: Option<&str>) -> Line<'static> {
        if let Some(note) = note {
            return Line::from(self.span(Tone::Bad, left(&one_line(note), self.width)));
        }
        if state.typing || !state.filter.is_empty() {
            let end = if state.typing { "_" } else { "  (esc clears)" };
            return Line::from(left(
                &format!("/{}{end}", one_line(&state.filter)),
                self.width,
            ));
        }
        let keys = match (state.page(), state.is_deep()) {
            (Page::Run { .. }, _) => "q quit  ↑↓ scroll  esc back",
            (_, true) => "q quit  ↑↓ move  enter open  / filter  esc back",
            (_, false) => "q quit  ↑↓ move  enter open  / filter",
        };
        Line::from(self.span(Tone::Dim, left(keys, self.width)))
    }
}

fn attempt_text(attempt: &AttemptRow) -> String {
    let took = attempt
        .ended
        .map(|end| secs(end.secs_since(attempt.started)));
    let cost = attempt.usage.map(|usage| {
        let rate = usage.tokens as f64 / usage.wall_secs.max(1e-9);
        format!("{}/s, {}", si(rate), bytes(usage.peak_memory_bytes as f64))
    });
    let parts = [
        Some(attempt.number.to_string()),
        Some(attempt.state.clone()),
        Some(attempt.device.clone()),
        Some(attempt.started.iso8601()),
        took,
        cost,
        attempt.message.clone(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}
