//! Bars on a terminal: one for the sweep, one for each run at work. Each is drawn anew twice a second, as
//! wide as the terminal is then.

use crate::base::printable;
use crate::cli::progress_line::{RunLine, RunName, RunPlace, SweepLine};
use crate::cli::text::{counted, secs};
use crate::cli::ui::{Tone, ours, paint, shown, width_err};
use crate::live::WorkLeft;
use crate::plan::{RunId, StageKind};
use crate::report::wrap_text;
use crate::runner::{Reporter, RunnerEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Draws the runner's events as bars on stderr.
pub(crate) struct BarsReporter {
    left: WorkLeft,
    all: MultiProgress,
    sweep: ProgressBar,
    line: Arc<Mutex<SweepLine>>,
    runs: BTreeMap<RunId, (ProgressBar, Arc<Mutex<RunLine>>)>,
    color: bool,
}

/// Where no terminal says how wide it is.
const USUAL_WIDTH: usize = 80;

/// How often lines are drawn anew.
const TICK: Duration = Duration::from_millis(500);

impl BarsReporter {
    /// `todo` are the planned operations of each run that is not done yet.
    pub(crate) fn new(color: bool, todo: BTreeMap<RunId, f64>) -> Self {
        let all = MultiProgress::new();
        let sweep = all.add(ProgressBar::new(0));
        let line = Arc::new(Mutex::new(SweepLine::default()));
        let (drawn, begun) = (Arc::clone(&line), Instant::now());
        sweep.set_style(style(move |width| {
            locked(&drawn).text(begun.elapsed().as_secs_f64(), width, color)
        }));
        Self {
            left: WorkLeft::new(todo),
            all,
            sweep,
            line,
            runs: BTreeMap::new(),
            color,
        }
    }

    /// A line above the bars that stays.
    fn tell(&self, text: &str) -> io::Result<()> {
        self.all
            .println(wrap_text(&shown(text), width(), 2).join("\n"))
    }

    fn mark(&self, good: bool) -> String {
        let (tone, mark) = if good {
            (Tone::Good, "✓")
        } else {
            (Tone::Bad, "✗")
        };
        paint(self.color, tone, mark)
    }

    fn start(&mut self, name: RunName) {
        let bar = self.all.add(ProgressBar::new(0));
        let run = name.run.clone();
        let line = Arc::new(Mutex::new(RunLine { name, at: None }));
        let drawn = Arc::clone(&line);
        bar.set_style(style(move |width| locked(&drawn).text(width)));
        bar.tick();
        bar.enable_steady_tick(TICK);
        self.runs.insert(run, (bar, line));
    }

    fn get_on(&mut self, run: &RunId, place: RunPlace) {
        self.left.report(run, place.done, place.total);
        if let Some((bar, line)) = self.runs.get(run) {
            locked(line).at = Some(place);
            redraw(bar);
        }
        self.say_left();
    }

    /// Says how long the rest will take.
    fn say_left(&self) {
        locked(&self.line).left = self.left.secs(self.left.elapsed());
        redraw(&self.sweep);
    }

    /// The run's line goes.
    fn stop(&mut self, run: &RunId) {
        if let Some((bar, _)) = self.runs.remove(run) {
            bar.finish_and_clear();
        }
    }

    /// Nothing more will be done for the run.
    fn end(&mut self, run: &RunId, worked: bool) {
        self.stop(run);
        self.left.end(run, worked);
        locked(&self.line).done += 1;
        self.say_left();
    }
}

/// A style that draws the line which `text` makes for a width.
fn style(text: impl Fn(usize) -> String + Clone + Send + Sync + 'static) -> ProgressStyle {
    let write = move |_: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&shown(&text(width())));
    };
    let style = ProgressStyle::with_template("{line}");
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("line", write)
}

/// Columns of a line. The last one of the terminal stays free: some terminals go on to the next line when
/// it is filled.
fn width() -> usize {
    width_err().unwrap_or(USUAL_WIDTH).saturating_sub(1)
}

/// Draws a bar before its next tick, unless all were drawn a moment ago. (`tick` does nothing where ticks
/// come by themselves.)
fn redraw(bar: &ProgressBar) {
    bar.set_message("");
}

fn locked<T>(line: &Mutex<T>) -> MutexGuard<'_, T> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has a line of its own, fit to be shown on one.
fn named(stage: StageKind, run: &RunId, label: &str) -> RunName {
    RunName {
        stage,
        run: run.clone(),
        label: printable(label).replace('\n', " "),
    }
}

impl Reporter for BarsReporter {
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()> {
        match event {
            RunnerEvent::SweepStarted {
                sweep, runs, done, ..
            } => {
                let mut line = locked(&self.line);
                line.name = printable(sweep).into_owned();
                (line.runs, line.done) = (*runs, *done);
                drop(line);
                self.sweep.tick();
                self.sweep.enable_steady_tick(TICK);
            }
            RunnerEvent::RunStarted {
                run, stage, label, ..
            } => {
                self.stop(run);
                self.start(named(*stage, run, label));
            }
            RunnerEvent::RunProgress {
                run,
                unit,
                done,
                total,
                loss,
            } => {
                let (unit, done, total, loss) = (unit.clone(), *done, *total, *loss);
                let place = RunPlace {
                    unit,
                    done,
                    total,
                    loss,
                };
                self.get_on(run, place);
            }
            RunnerEvent::RunFinished {
                run,
                stage,
                label,
                secs: taken,
                ..
            } => {
                self.end(run, true);
                let name = named(*stage, run, label);
                self.tell(&name.ended(&self.mark(true), &secs(*taken), width()))?;
            }
            RunnerEvent::RunFailed {
                run,
                stage,
                label,
                message,
                ..
            } => {
                self.end(run, false);
                let name = named(*stage, run, label);
                let head = name.head(&self.mark(false));
                self.tell(&format!("{head} {}  {message}", name.label))?;
            }
            RunnerEvent::RunSkipped { run, stage } => {
                self.end(run, false);
                let head = named(*stage, run, "").head("-");
                self.tell(&format!(
                    "{head} skipped: a run that it needs did not succeed"
                ))?;
            }
            RunnerEvent::RunCancelled { run, stage } => {
                self.end(run, false);
                let head = named(*stage, run, "").head("-");
                self.tell(&format!("{head} cancelled"))?;
            }
            RunnerEvent::RunInterrupted { run, .. } => self.stop(run),
            RunnerEvent::RunCrashed {
                run,
                crashes,
                limit,
                message,
                ..
            } => {
                self.stop(run);
                self.tell(&format!(
                    "! {run} crashed ({crashes} of {limit}): {message}"
                ))?;
            }
            RunnerEvent::Warning { run, message } => {
                let about = run
                    .as_ref()
                    .map(|run| format!("{run}: "))
                    .unwrap_or_default();
                self.tell(&format!("! {about}{message}"))?;
            }
            RunnerEvent::RunQueued {
                run,
                stage,
                label,
                reason,
                ..
            } => {
                let name = named(*stage, run, label);
                self.tell(&format!(
                    "{} {}  waits: {reason}",
                    name.head("·"),
                    name.label
                ))?;
            }
            RunnerEvent::RunAdopted {
                run, stage, label, ..
            } => self.start(named(*stage, run, label)),
            RunnerEvent::Leaving { attempts } => {
                self.tell(&format!(
                    "leaving: {} wait or work at the scheduler and go on",
                    counted(*attempts, "run")
                ))?;
            }
            RunnerEvent::Stopping { attempts } => {
                self.tell(&format!(
                    "stopping: the state of {} is saved (Ctrl-C again ends at once)",
                    counted(*attempts, "run")
                ))?;
            }
            RunnerEvent::Paused { reason } => self.tell(&format!("! paused: {reason}"))?,
            RunnerEvent::Resumed => self.tell("going on")?,
            RunnerEvent::SweepFinished { .. } => self.sweep.finish_and_clear(),
        }
        Ok(())
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.all.println(shown(&ours(text)))
    }
}
