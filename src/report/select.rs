//! What is known of a sweep: its trials, their runs, and rows and steps on demand.

use crate::base::PathError;
use crate::base::fs::is_gone;
use crate::config::sweep::{AxisValue, show_value};
use crate::figures::FigureError;
use crate::plan::{EVAL_ROWS_ARTIFACT, RunId, SAMPLES_ARTIFACT, StageKind};
use crate::rundir::{
    AttemptEvent, BatchLayout, MetricValue, RunDir, RundirError, Usage, attempt_numbers,
    read_batch_layout, read_events,
};
use crate::store::{StoreError, StoredSweep};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A figure refused.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file of lm-evaluation-harness holds no results.
    #[error("`{}` is no results file of lm-evaluation-harness: {reason}", path.display())]
    Harness {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A run's folder cannot be read.
    #[error(transparent)]
    Run(#[from] RundirError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line of a results file is not what it should be.
    #[error("line {line} of `{}` is not a results row", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A figure needs an axis that the sweep does not have.
    #[error("figure `{figure}` asks for axis `{axis}`, which the sweep does not have")]
    UnknownAxis {
        /// The figure.
        figure: String,
        /// The axis.
        axis: String,
    },
    /// A line figure without numbers on x.
    #[error("figure `{figure}` draws lines over `{axis}`, whose value `{value}` is not a number")]
    NotNumeric {
        /// The figure.
        figure: String,
        /// The axis.
        axis: String,
        /// The value.
        value: String,
    },
    /// A figure of a kind that needs an x axis has none.
    #[error("figure `{figure}` needs `x`, the axis to draw over, or `x-metric`")]
    NoX {
        /// The figure.
        figure: String,
    },
}

/// Where a run stands, as far as a reader of results cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// It has an outcome.
    Done,
    /// It is being executed.
    Running,
    /// It was not executed yet.
    NotRun,
    /// It failed, with the message.
    Failed(String),
    /// An input failed, so it cannot run.
    Skipped,
    /// Somebody cancelled it.
    Cancelled,
}

impl RunStatus {
    /// One or two words for a table cell.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::NotRun => "not run",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One run with its results.
#[derive(Clone, Debug, PartialEq)]
pub struct RunInfo {
    /// The run.
    pub id: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// The stage's seed, where it was read.
    pub seed: Option<u64>,
    /// Where it stands.
    pub status: RunStatus,
    /// Final metrics by key.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Documents, pairs and tokens kept, cut and dropped.
    pub counts: BTreeMap<String, u64>,
    /// Remarks of the stage.
    pub notes: Vec<String>,
    /// What it cost, if it is done.
    pub usage: Option<Usage>,
    /// Version, device and what else computed it, by name. No host: a committed report should not name machines.
    pub provenance: BTreeMap<String, String>,
}

/// One trial and the runs that answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialResult {
    /// Position in the sweep.
    pub index: usize,
    /// Its label, without the seed.
    pub label: String,
    /// Its seed.
    pub seed: u64,
    /// Axis values.
    pub assignments: BTreeMap<String, AxisValue>,
    /// Its runs in stage order.
    pub runs: Vec<RunId>,
    /// The run that evaluates it.
    pub eval: RunId,
}

/// Metrics of one evaluated row.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RowValue {
    /// The evaluated set.
    pub set: String,
    /// The row's id, the same in every run.
    pub row: String,
    /// Values by key without the set. `tokens`, if there, is the number of reply tokens.
    pub metrics: BTreeMap<String, f64>,
    /// Rows of one cluster are not independent; absent: the row is one by itself.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// One sampled text of an evaluation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SampleText {
    /// The evaluated set.
    pub set: String,
    /// The id of the prompt's row, the same in every run.
    pub row: String,
    /// Which sample of the prompt, from 0.
    pub sample: usize,
    /// The prompt.
    pub prompt: String,
    /// What the model wrote.
    pub text: String,
}

/// Metrics at one optimiser step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRow {
    /// The step, 0 being before the first.
    pub step: u64,
    /// Values by key.
    pub metrics: BTreeMap<String, f64>,
}

/// Where rows and steps come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Details {
    /// The run folders of the project at this root.
    Folders(PathBuf),
    /// The same, but for some runs whose rows are at hand.
    Beside {
        /// The project.
        root: PathBuf,
        /// Rows by run.
        rows: BTreeMap<RunId, Vec<RowValue>>,
    },
    /// Values at hand, by run.
    Memory {
        /// Evaluated rows.
        rows: BTreeMap<RunId, Vec<RowValue>>,
        /// Training steps.
        steps: BTreeMap<RunId, Vec<StepRow>>,
        /// First batches of DPO runs.
        batches: BTreeMap<RunId, BatchLayout>,
        /// Sampled texts.
        samples: BTreeMap<RunId, Vec<SampleText>>,
    },
}

/// Everything a report is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepResults {
    /// The sweep.
    pub sweep: StoredSweep,
    /// The text of its file.
    pub source: String,
    /// All trials in the sweep's order.
    pub trials: Vec<TrialResult>,
    /// All their runs.
    pub runs: BTreeMap<RunId, RunInfo>,
    /// Configurations that halving stopped.
    pub stopped: Vec<Stopped>,
    /// Rows and steps.
    pub details: Details,
}

/// A configuration that halving stopped, so that it has no trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Axis values.
    pub assignments: BTreeMap<String, AxisValue>,
    /// Axes by which those differed that it competed with.
    pub over: Vec<String>,
    /// `stopped at step 20: rank 3 of 4 on valid/loss`.
    pub words: String,
}

/// The trials of one configuration, all seeds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration<'a> {
    /// Axis values.
    pub assignments: &'a BTreeMap<String, AxisValue>,
    /// Its trials, one a seed.
    pub trials: Vec<&'a TrialResult>,
}

impl SweepResults {
    /// The final value of a metric; `None` if the evaluation is not done or lacks it.
    pub fn metric(&self, trial: &TrialResult, key: &str) -> Option<MetricValue> {
        self.runs.get(&trial.eval)?.metrics.get(key).copied()
    }

    /// The accuracy on a set's pairs of always preferring the reply that is `longer` or `shorter`, which `end` says. It is the
    /// same at every seed, or, where seeds are measured on different pairs, the mean over these.
    pub(crate) fn length_baseline(&self, set: &str, end: &str) -> Option<MetricValue> {
        let key = format!("{set}/length_baseline/{end}");
        let mut by_seed: BTreeMap<u64, (&TrialResult, MetricValue)> = BTreeMap::new();
        for trial in &self.trials {
            if let Some(found) = self.metric(trial, &key) {
                by_seed.entry(trial.seed).or_insert((trial, found));
            }
        }
        let (_, first) = *by_seed.values().next()?;
        if by_seed.values().all(|(_, value)| *value == first) {
            return Some(first);
        }
        // Seeds on the same pairs count once.
        let parts: BTreeMap<Vec<String>, MetricValue> = by_seed
            .into_values()
            .filter_map(|(trial, value)| {
                let rows = self.rows(&trial.eval).ok()?.into_iter();
                let rows = rows.filter(|row| row.set == set).map(|row| row.row);
                Some((rows.collect(), value))
            })
            .collect();
        let n: u64 = parts.values().map(|part| part.n).sum();
        let sum: f64 = parts.values().map(|part| part.value * part.n as f64).sum();
        Some(MetricValue {
            value: sum / n as f64,
            stderr: None,
            n,
        })
    }

    /// Why a trial has no value for a metric: the first unfinished run in stage order, or that the
    /// metric was not measured.
    pub fn why_missing(&self, trial: &TrialResult) -> Why {
        for id in &trial.runs {
            match self.runs.get(id) {
                Some(run) if run.status == RunStatus::Done => {}
                Some(run) => {
                    return Why {
                        word: run.status.word(),
                        text: blame(run),
                    };
                }
                None => {
                    return Why {
                        word: "not run",
                        text: format!("run {id} is unknown to the store"),
                    };
                }
            }
        }
        Why {
            word: "not measured",
            text: "the evaluation has no such metric".to_owned(),
        }
    }

    /// Configurations whose trials fit `filter`, in the order of the sweep.
    pub fn configurations(&self, filter: &BTreeMap<String, AxisValue>) -> Vec<Configuration<'_>> {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut found: Vec<Configuration<'_>> = Vec::new();
        for trial in self.trials.iter().filter(|t| fits(&t.assignments, filter)) {
            let key = configuration_key(&trial.assignments);
            let place = *places.entry(key).or_insert(found.len());
            if place == found.len() {
                found.push(Configuration {
                    assignments: &trial.assignments,
                    trials: Vec::new(),
                });
            }
            found[place].trials.push(trial);
        }
        found
    }

    /// Axes whose value differs between these configurations or those that were stopped, in the sweep's order.
    pub fn varying_axes(&self, configurations: &[Configuration<'_>]) -> Vec<String> {
        let halved = |name: &String| self.stopped.iter().any(|row| row.over.contains(name));
        let differs = |name: &String| {
            let mut values = configurations.iter().map(|c| c.assignments.get(name));
            let first = values.next().flatten();
            values.any(|v| v != first)
        };
        self.sweep
            .axes
            .iter()
            .map(|a| a.name.clone())
            .filter(|name| halved(name) || differs(name))
            .collect()
    }

    /// The evaluated rows of a run; empty if it has none.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn rows(&self, run: &RunId) -> Result<Vec<RowValue>, ReportError> {
        match &self.details {
            Details::Memory { rows, .. } => Ok(rows.get(run).cloned().unwrap_or_default()),
            Details::Folders(root) => rows_in(root, run),
            Details::Beside { root, rows } => match rows.get(run) {
                Some(rows) => Ok(rows.clone()),
                None => rows_in(root, run),
            },
        }
    }

    /// The texts that an evaluation sampled, in the order of the data; none if it sampled nothing.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn samples(&self, run: &RunId) -> Result<Vec<SampleText>, ReportError> {
        match &self.details {
            Details::Memory { samples, .. } => Ok(samples.get(run).cloned().unwrap_or_default()),
            Details::Folders(root) | Details::Beside { root, .. } => {
                let path = RunDir::new(root, run).artifacts().join(SAMPLES_ARTIFACT);
                read_lines(&path, |line| serde_json::from_str(line).map(Some))
            }
        }
    }

    /// Lengths of the pairs of a DPO run's first step; `None` if it did not record them.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn batch_layout(&self, run: &RunId) -> Result<Option<BatchLayout>, ReportError> {
        match &self.details {
            Details::Memory { batches, .. } => Ok(batches.get(run).cloned()),
            Details::Folders(root) | Details::Beside { root, .. } => {
                Ok(read_batch_layout(&RunDir::new(root, run))?)
            }
        }
    }

    /// The metrics along training of a run, in step order; of a step that several attempts made,
    /// the last attempt's.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn steps(&self, run: &RunId) -> Result<Vec<StepRow>, ReportError> {
        match &self.details {
            Details::Memory { steps, .. } => Ok(steps.get(run).cloned().unwrap_or_default()),
            Details::Folders(root) | Details::Beside { root, .. } => {
                read_steps(&RunDir::new(root, run))
            }
        }
    }
}

/// Why a value is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// For a cell.
    pub word: &'static str,
    /// For a sentence.
    pub text: String,
}

fn blame(run: &RunInfo) -> String {
    let (kind, id) = (run.kind, &run.id);
    match &run.status {
        RunStatus::Failed(message) => {
            let first = message.lines().next().unwrap_or_default();
            format!("{kind} run {id} failed: {first}")
        }
        RunStatus::Skipped => format!("{kind} run {id} was skipped, because an input failed"),
        RunStatus::NotRun => format!("{kind} run {id} has not run yet"),
        RunStatus::Running => format!("{kind} run {id} is still running"),
        RunStatus::Cancelled => format!("{kind} run {id} was cancelled"),
        RunStatus::Done => format!("{kind} run {id} is done"),
    }
}

/// Whether a trial has all these axis values.
pub(crate) fn fits(
    assignments: &BTreeMap<String, AxisValue>,
    wanted: &BTreeMap<String, AxisValue>,
) -> bool {
    wanted
        .iter()
        .all(|(axis, value)| assignments.get(axis).is_some_and(|v| same_value(v, value)))
}

/// Equal as a person sees it: `1` and `1.0` are the same number.
pub(crate) fn same_value(a: &AxisValue, b: &AxisValue) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= f64::EPSILON * a.abs().max(b.abs()),
        _ => a == b,
    }
}

/// One text for all trials of a configuration.
pub(crate) fn configuration_key(assignments: &BTreeMap<String, AxisValue>) -> String {
    let parts = assignments.iter().map(|(k, v)| match v.as_f64() {
        Some(number) => format!("{k}={number}"),
        None => format!("{k}={v}"),
    });
    parts.collect::<Vec<_>>().join("\u{1f}")
}

/// `mask=all-tokens size=440`, of the named axes only; `base` if none of them is set.
pub(crate) fn short_label(assignments: &BTreeMap<String, AxisValue>, axes: &[String]) -> String {
    let parts = axes
        .iter()
        .filter_map(|a| Some(format!("{a}={}", show_value(assignments.get(a)?))));
    let label = parts.collect::<Vec<_>>().join(" ");
    if label.is_empty() {
        "base".to_owned()
    } else {
        label
    }
}

/// The evaluated rows in the folder of a run.
pub(super) fn rows_in(root: &Path, run: &RunId) -> Result<Vec<RowValue>, ReportError> {
    let path = RunDir::new(root, run).artifacts().join(EVAL_ROWS_ARTIFACT);
    read_lines(&path, |line| serde_json::from_str(line).map(Some))
}

/// Parses every line of a file that may be absent; a torn last line is dropped, as is what `parse` makes nothing of.
pub(super) fn read_lines<T>(
    path: &Path,
    parse: impl Fn(&str) -> Result<Option<T>, serde_json::Error>,
) -> Result<Vec<T>, ReportError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    let mut values = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match parse(line.trim_end()) {
            Ok(value) => values.extend(value),
            Err(_) if !line.ends_with('\n') => {}
            Err(source) => {
                return Err(ReportError::Line {
                    path: path.to_owned(),
                    line: number,
                    source,
                });
            }
        }
    }
    Ok(values)
}

/// The metrics along training in a run's journals, in step order; of a step that several attempts made, the last
/// attempt's.
///
/// # Errors
/// A file is there and cannot be read.
pub fn read_steps(dir: &RunDir) -> Result<Vec<StepRow>, ReportError> {
    let mut steps: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
    for number in attempt_numbers(dir)? {
        for event in read_events(&dir.attempt(number).events())? {
            match event {
                AttemptEvent::Step { step, metrics } => {
                    steps.entry(step).or_default().extend(metrics);
                }
                // What an earlier attempt did after the state that this one continues is undone.
                AttemptEvent::Resumed { step } => drop(steps.split_off(&(step + 1))),
                _ => {}
            }
        }
    }
    Ok(steps
        .into_iter()
        .map(|(step, metrics)| StepRow { step, metrics })
        .collect())
}
