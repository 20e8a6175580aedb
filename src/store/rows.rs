//! Rows as typed values: what the store answers.

use crate::base::{Device, Digest, Timestamp};
use crate::plan::{RunId, StageKind};
use crate::queue::{Blocker, RunState};
use crate::rundir::{FailureClass, MetricValue, Usage};
use crate::store::error::StoreError;
use serde::Serialize;
use std::collections::BTreeMap;

/// A sweep and where its runs stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepRow {
    /// Its name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// When it was last registered.
    pub registered: Timestamp,
    /// How many trials it has.
    pub trials: usize,
    /// How many of its runs are in each state.
    pub states: StateCounts,
    /// Since when it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Timestamp>,
    /// Of several sweeps the one with the higher number goes first.
    #[serde(skip_serializing_if = "is_usual")]
    pub priority: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_usual(priority: &i64) -> bool {
    *priority == 0
}

/// How many runs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateCounts {
    /// An input is not done.
    pub blocked: usize,
    /// Could start.
    pub ready: usize,
    /// At work.
    pub leased: usize,
    /// Done.
    pub succeeded: usize,
    /// Failed.
    pub failed: usize,
    /// An input failed.
    pub skipped: usize,
    /// Cancelled.
    pub cancelled: usize,
}

impl StateCounts {
    /// Counts one more run.
    pub fn add(&mut self, state: RunState) {
        *self.of(state) += 1;
    }

    /// All runs.
    pub fn total(&self) -> usize {
        self.blocked
            + self.ready
            + self.leased
            + self.succeeded
            + self.failed
            + self.skipped
            + self.cancelled
    }

    fn of(&mut self, state: RunState) -> &mut usize {
        match state {
            RunState::Blocked => &mut self.blocked,
            RunState::Ready => &mut self.ready,
            RunState::Leased { .. } => &mut self.leased,
            RunState::Succeeded => &mut self.succeeded,
            RunState::Failed => &mut self.failed,
            RunState::Skipped => &mut self.skipped,
            RunState::Cancelled => &mut self.cancelled,
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// Where it stands.
    pub state: RunState,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that went silent since the last retry.
    pub crashes: u32,
    /// Estimated tokens.
    pub tokens: u64,
    /// Estimated floating-point operations.
    pub flops: f64,
    /// Estimated peak memory, bytes.
    pub peak_memory_bytes: u64,
    /// When it was first registered.
    pub created: Timestamp,
    /// When its outcome was published.
    pub finished: Option<Timestamp>,
    /// How its last attempt failed, if it said so.
    pub class: Option<FailureClass>,
    /// Why its last attempt ended badly.
    pub message: Option<String>,
    /// Since when it is paused by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Timestamp>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptRow {
    /// From 1.
    pub number: u32,
    /// `live`, `succeeded`, `failed`, `crashed`, `interrupted`, `lost` or `cancelled`.
    pub state: String,
    /// The runner that began it.
    pub owner: String,
    /// Its device; `unknown` where only the outcome is known.
    pub device: String,
    /// How the backend finds it again.
    pub handle: Option<String>,
    /// When it was claimed.
    pub started: Timestamp,
    /// End of its lease.
    pub expires: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it failed, if it said so.
    pub class: Option<FailureClass>,
    /// Why it ended badly.
    pub message: Option<String>,
    /// What it cost, if it succeeded.
    pub usage: Option<Usage>,
}

/// An attempt at work, with what is needed to find it again.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveAttempt {
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// Number of the attempt.
    pub attempt: u32,
    /// The runner that began it.
    pub owner: String,
    /// Where it computes.
    pub device: Device,
    /// How the backend finds it again.
    pub handle: Option<String>,
    /// When it was claimed.
    pub started: Timestamp,
    /// End of its lease.
    pub expires: Timestamp,
}

/// A trial with the metrics of its evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialRow {
    /// Position in the sweep, from 0.
    pub index: usize,
    /// `beta=0.1 size=440`.
    pub label: String,
    /// Its seed.
    pub seed: u64,
    /// Axis name to value.
    pub assignments: BTreeMap<String, serde_json::Value>,
    /// Its runs in stage order.
    pub runs: Vec<TrialRun>,
    /// The run that scores it.
    pub eval: RunId,
    /// Where `eval` stands.
    pub state: RunState,
    /// Final metrics of `eval`; empty until it is done.
    pub metrics: BTreeMap<String, MetricValue>,
}

/// A run of a trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialRun {
    /// The run.
    pub id: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// Where it stands.
    pub state: RunState,
}

/// A file that a run published.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArtifactRow {
    /// Path under `artifacts/`.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Digest of the content.
    pub digest: Digest,
}

/// A trial that needs a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialUse {
    /// The sweep.
    pub sweep: String,
    /// Position in the sweep, from 0.
    pub index: usize,
    /// Its label.
    pub label: String,
    /// Its seed.
    pub seed: u64,
}

/// Why a run is not done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The run.
    pub run: RunRow,
    /// Every reason, most telling first; empty if it is done.
    pub blockers: Vec<Blocker>,
}

pub(crate) fn kind_of(text: &str) -> Result<StageKind, StoreError> {
    text.parse().map_err(|_| StoreError::Cell {
        column: "run.kind",
        text: text.to_owned(),
    })
}

/// The device of an attempt at work.
pub(crate) fn device_of(text: String) -> Result<Device, StoreError> {
    text.parse().map_err(|_| StoreError::Cell {
        column: "attempt.device",
        text,
    })
}

/// The state of a run; `live` is number and lease of its live attempt.
pub(crate) fn state_of(text: &str, live: Option<(u32, Timestamp)>) -> Result<RunState, StoreError> {
    Ok(match (text, live) {
        ("blocked", _) => RunState::Blocked,
        ("ready", _) => RunState::Ready,
        ("leased", Some((attempt, expires))) => RunState::Leased { attempt, expires },
        ("succeeded", _) => RunState::Succeeded,
        ("failed", _) => RunState::Failed,
        ("skipped", _) => RunState::Skipped,
        ("cancelled", _) => RunState::Cancelled,
        _ => {
            return Err(StoreError::Cell {
                column: "run.state",
                text: text.to_owned(),
            });
        }
    })
}

pub(crate) fn class_of(text: Option<String>) -> Result<Option<FailureClass>, StoreError> {
    text.map(|text| {
        text.parse().map_err(|_| StoreError::Cell {
            column: "attempt.class",
            text,
        })
    })
    .transpose()
}

pub(crate) fn class_name(class: FailureClass) -> &'static str {
    class.into()
}

/// SQLite's integers are signed; sizes and counts beyond their range are cut to it.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An estimate of operations for a column that has no word for what is not finite: nothing is known.
pub(crate) fn known_flops(flops: f64) -> f64 {
    if flops.is_finite() { flops } else { 0.0 }
}

pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
