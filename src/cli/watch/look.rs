//! What a page of the screen shows, read from the store and the journals.

use crate::base::{Clock as _, SystemClock};
use crate::cli::database::store_error;
use crate::cli::error::CommandError;
use crate::live::{AtWork, RunView, SweepView, Watch, why};
use crate::plan::RunId;
use crate::queue::Blocker;
use crate::report::read_steps;
use crate::rundir::{MetricValue, Pause, RunDir, attempt_numbers, pauses, tail_lines};
use crate::store::{AttemptRow, StoreError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines of a log below a run.
const LOG_LINES: usize = 20;

/// A page of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Sweeps,
    Sweep(String),
    Run { sweep: String, run: RunId },
}

/// What a page shows.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// Every sweep.
    Sweeps(Vec<SweepView>, Vec<Pause>),
    /// One sweep with all its runs, those that ask for attention first.
    Sweep(SweepView, Vec<RunView>, Vec<Pause>),
    /// One run.
    Run(Box<RunDetail>),
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct RunDetail {
    pub(crate) view: RunView,
    pub(crate) at_work: Option<AtWork>,
    pub(crate) why: Vec<String>,
    pub(crate) attempts: Vec<AttemptRow>,
    pub(crate) metrics: BTreeMap<String, MetricValue>,
    pub(crate) losses: Vec<f64>,
    pub(crate) log: Vec<String>,
}

/// Reads pages.
#[derive(Debug)]
pub(crate) struct Looker {
    root: PathBuf,
    watch: Watch,
}

impl Looker {
    /// Over the project at `root`; nothing where nothing has run yet.
    pub(crate) fn open(root: &Path) -> Result<Option<Self>, CommandError> {
        let watch = Watch::open(root).map_err(store_error)?;
        Ok(watch.map(|watch| Self {
            root: root.to_owned(),
            watch,
        }))
    }

    /// What a page shows now.
    ///
    /// # Errors
    /// The store does not answer, or what the page is about is not in it.
    pub(crate) fn look(&mut self, page: &Page) -> Result<Shown, StoreError> {
        if self.watch.is_gone()
            && let Some(watch) = Watch::open(&self.root)?
        {
            self.watch = watch;
        }
        match page {
            Page::Sweeps => Ok(Shown::Sweeps(self.sweeps()?, self.pauses())),
            Page::Sweep(name) => {
                let view = self.watch.sweep(name)?;
                let mut runs: Vec<RunView> = view.runs.to_vec();
                runs.sort_by_key(|run| urgency(run.state));
                Ok(Shown::Sweep(view, runs, self.pauses()))
            }
            Page::Run { sweep, run } => {
                let detail = self.run(sweep, run)?;
                Ok(Shown::Run(Box::new(detail)))
            }
        }
    }

    /// Every sweep, the latest first.
    pub(crate) fn sweeps(&mut self) -> Result<Vec<SweepView>, StoreError> {
        let names: Vec<String> = self
            .watch
            .sweeps()?
            .into_iter()
            .map(|row| row.name)
            .collect();
        names.iter().map(|name| self.watch.sweep(name)).collect()
    }

    /// One sweep.
    pub(crate) fn sweep(&mut self, name: &str) -> Result<SweepView, StoreError> {
        self.watch.sweep(name)
    }

    fn pauses(&self) -> Vec<Pause> {
        pauses(&self.root).unwrap_or_default()
    }

    fn run(&mut self, sweep: &str, run: &RunId) -> Result<RunDetail, StoreError> {
        let view = self.watch.sweep(sweep)?;
        let missing = || StoreError::NoRun {
            prefix: run.short().to_owned(),
        };
        let shown = view
            .runs
            .iter()
            .find(|view| view.run == *run)
            .ok_or_else(missing)?
            .clone();
        let at_work = view.at_work.into_iter().find(|work| work.run == *run);
        let dir = RunDir::new(&self.root, run);
        let store = self.watch.store();
        let why = why(&self.root, store, run, SystemClock.now())?;
        let losses = match &at_work {
            Some(work) => work.progress.losses.clone(),
            None => losses(&dir),
        };
        Ok(RunDetail {
            view: shown,
            at_work,
            why: why.blockers.iter().map(Blocker::to_string).collect(),
            attempts: store.attempts(run)?,
            metrics: store.metrics(run)?,
            losses,
            log: log(&dir),
        })
    }
}

/// What asks for attention stands first.
fn urgency(state: &str) -> usize {
    let order = [
        "running",
        "silent",
        "failed",
        "ready",
        "waiting",
        "skipped",
        "cancelled",
        "done",
    ];
    order.iter().position(|word| *word == state).unwrap_or(3)
}

fn losses(dir: &RunDir) -> Vec<f64> {
    let steps = read_steps(dir).unwrap_or_default();
    steps
        .iter()
        .filter_map(|step| step.metrics.get("loss").copied())
        .collect()
}

/// The last lines that the last attempt's process wrote.
fn log(dir: &RunDir) -> Vec<String> {
    let Some(number) = attempt_numbers(dir).unwrap_or_default().last().copied() else {
        return Vec::new();
    };
    let attempt = dir.attempt(number);
    [attempt.stdout(), attempt.stderr()]
        .iter()
        .flat_map(|path| tail_lines(path, LOG_LINES).unwrap_or_default())
        .collect()
}
