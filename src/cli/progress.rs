//! Bars on a terminal: one for the sweep, one for each run at work.

use crate::base::printable;
use crate::cli::text::secs;
use crate::cli::ui::shown;
use crate::plan::RunId;
use crate::runner::{Reporter, RunnerEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Draws the runner's events as bars on stderr.
pub(crate) struct BarsReporter {
    all: MultiProgress,
    sweep: ProgressBar,
    runs: BTreeMap<RunId, ProgressBar>,
    color: bool,
}

impl BarsReporter {
    pub(crate) fn new(color: bool) -> Self {
        let all = MultiProgress::new();
        let sweep = all.add(ProgressBar::new(0));
        sweep.set_style(style(
            "{prefix:.bold} {wide_bar} {pos}/{len} runs  {elapsed} (left {eta})",
        ));
        Self {
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
        bar.set_style(style("  {prefix:.dim} {bar:24} {pos:>5}/{len:<5} {msg}"));
        bar.set_prefix(printable(name).into_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        self.runs.insert(run.clone(), bar);
    }

    fn end(&mut self, run: &RunId) {
        if let Some(bar) = self.runs.remove(run) {
            bar.finish_and_clear();
        }
    }
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
                self.sweep.set_prefix(printable(sweep).into_owned());
                self.sweep.set_length(*runs as u64);
                self.sweep.set_position(*done as u64);
                // Runs that were done before would make the rate look better than it is.
                self.sweep.reset_eta();
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
                if let Some(bar) = self.runs.get(run) {
                    bar.set_length(*total);
                    bar.set_position(*done);
                    bar.set_message(
                        loss.map_or_else(|| unit.clone(), |loss| format!("{unit}, loss {loss:.3}")),
                    );
                }
            }
            RunnerEvent::RunFinished {
                run,
                stage,
                label,
                secs: taken,
                ..
            } => {
                self.end(run);
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
                self.sweep.inc(1);
                self.line(&format!(
                    "{} {stage:<9} {run} {label}  {message}",
                    self.mark(false)
                ))?;
            }
            RunnerEvent::RunSkipped { run, stage } => {
                self.sweep.inc(1);
                self.line(&format!(
                    "- {stage:<9} {run} skipped: a run that it needs failed"
                ))?;
            }
            RunnerEvent::RunCancelled { run, stage } => {
                self.end(run);
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
                    "stopping: {attempts} at work save their state (Ctrl-C again ends at once)"
                ))?;
            }
            RunnerEvent::Paused { reason } => self.line(&format!("! paused: {reason}"))?,
            RunnerEvent::Resumed => self.line("going on")?,
            RunnerEvent::SweepFinished { .. } => self.sweep.finish_and_clear(),
        }
        Ok(())
    }
}
