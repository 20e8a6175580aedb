//! One stream of what happens in a sweep, for terminals, pipes and files alike.

use crate::base::Device;
use crate::plan::{RunId, StageKind};
use crate::rundir::{FailureClass, MetricValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Where an outcome came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeSource {
    /// An attempt of this runner.
    Executed,
    /// An attempt that had finished before and was not published, or an outcome found in a folder.
    Adopted,
    /// Another runner.
    Elsewhere,
}

/// Something that happened in a sweep. Runs are named by their full id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RunnerEvent {
    /// The sweep is registered; work begins.
    SweepStarted {
        /// Its name.
        sweep: String,
        /// Trials.
        trials: usize,
        /// Runs in all.
        runs: usize,
        /// Runs that are done already.
        done: usize,
        /// Runs that the store had not known.
        new: usize,
        /// Runs that failed or were cancelled earlier, with those that need them; not tried again
        /// unless asked for.
        barred: usize,
        /// Attempts at once.
        slots: usize,
    },
    /// An attempt begins.
    RunStarted {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
        /// What its trials have in common, for example `batching=concat seed=1`.
        label: String,
        /// Number of the attempt.
        attempt: u32,
        /// Where it computes.
        device: Device,
    },
    /// An attempt waits at a scheduler, or waits for another reason than before.
    RunQueued {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
        /// What its trials have in common.
        label: String,
        /// Number of the attempt.
        attempt: u32,
        /// Why, in the scheduler's words.
        reason: String,
    },
    /// This runner goes on with an attempt that outlived another one.
    RunAdopted {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
        /// What its trials have in common.
        label: String,
        /// Number of the attempt.
        attempt: u32,
    },
    /// An attempt has got on.
    RunProgress {
        /// The run.
        run: RunId,
        /// What is counted: `steps`, `pairs`, `rows`, `prompts`, `samples`.
        unit: String,
        /// So many are done.
        done: u64,
        /// Of so many; 0 if it is not known.
        total: u64,
        /// Latest training loss.
        loss: Option<f64>,
    },
    /// Something a person should read.
    Warning {
        /// The run that it is about, if one.
        run: Option<RunId>,
        /// The text.
        message: String,
    },
    /// A run is done.
    RunFinished {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
        /// What its trials have in common.
        label: String,
        /// Where the outcome came from.
        origin: OutcomeSource,
        /// From the attempt's start to its publishing, seconds.
        secs: f64,
        /// Final metrics.
        metrics: BTreeMap<String, MetricValue>,
    },
    /// An attempt ended without a word, or for want of an input that is made again; the run will be tried
    /// again.
    RunCrashed {
        /// The run.
        run: RunId,
        /// Number of the attempt.
        attempt: u32,
        /// Crashes so far.
        crashes: u32,
        /// After so many it is given up.
        limit: u32,
        /// What is known.
        message: String,
    },
    /// A run failed.
    RunFailed {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
        /// What its trials have in common.
        label: String,
        /// Absent: it crashed too often.
        class: Option<FailureClass>,
        /// Why.
        message: String,
        /// What can be done.
        hint: String,
    },
    /// A run is not tried, since one that it needs failed or was cancelled.
    RunSkipped {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
    },
    /// A person cancelled a run.
    RunCancelled {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
    },
    /// An attempt stopped because it was asked to; the run is ready again.
    RunInterrupted {
        /// The run.
        run: RunId,
        /// Its stage.
        stage: StageKind,
    },
    /// Attempts are being asked to save their state and stop.
    Stopping {
        /// How many.
        attempts: usize,
    },
    /// The runner ends, and its attempts go on without it until the next one.
    Leaving {
        /// How many.
        attempts: usize,
    },
    /// No attempt is started for now.
    Paused {
        /// Why.
        reason: String,
    },
    /// Attempts are started again.
    Resumed,
    /// The runner is done.
    SweepFinished {
        /// How it went.
        summary: SweepSummary,
    },
}

/// How a runner's work on a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepEnd {
    /// Every run is done.
    Succeeded,
    /// Nothing more can be done; some runs did not succeed.
    Incomplete,
    /// It was asked to stop; what was at work is ready again.
    Interrupted,
    /// The time that it was given is up; what was at work is ready again.
    TimeUp,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub stage: StageKind,
    /// What its trials have in common.
    pub label: String,
    /// Absent: it crashed too often.
    pub class: Option<FailureClass>,
    /// Why.
    pub message: String,
    /// What can be done.
    pub hint: String,
}

/// How a sweep stands when its runner ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepSummary {
    /// The sweep.
    pub sweep: String,
    /// How the runner ended.
    pub end: SweepEnd,
    /// Runs in all.
    pub runs: usize,
    /// Runs that are done.
    pub succeeded: usize,
    /// Those of them that were done before this runner began.
    pub reused: usize,
    /// Those of them that this runner carried out.
    pub executed: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Runs that need one that failed or was cancelled.
    pub skipped: usize,
    /// Runs that a person cancelled.
    pub cancelled: usize,
    /// Runs that could still be done.
    pub waiting: usize,
    /// Seconds from start to end.
    pub secs: f64,
    /// Seconds that attempts of this runner were at work, all together.
    #[serde(default)]
    pub work_secs: f64,
    /// Every failed run, earlier failures included.
    pub failures: Vec<Failure>,
}

/// A reader of the stream. One that fails is dropped with a warning in the log and never fails
/// the sweep.
pub trait Reporter {
    /// Takes notice of an event.
    fn report(&mut self, event: &RunnerEvent) -> io::Result<()>;

    /// Shows lines that people read, such as a table; programs are told nothing.
    fn show(&mut self, _text: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A reporter that tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReport;

impl Reporter for NoReport {
    fn report(&mut self, _event: &RunnerEvent) -> io::Result<()> {
        Ok(())
    }
}
