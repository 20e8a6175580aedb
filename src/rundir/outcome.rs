//! What a finished attempt says of itself (`result.json`) and what the runner publishes
//! (`outcome.json`).

use crate::base::{Digest, Timestamp};
use crate::plan::{RunId, StageKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A measured value with its uncertainty and the number of things measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// The value, in the metric's unit.
    pub value: f64,
    /// Standard error over the `n` items, where they are a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// Number of items (rows, pairs, samples, tokens).
    pub n: u64,
}

impl MetricValue {
    /// A value measured once.
    pub fn single(value: f64) -> Self {
        Self {
            value,
            stderr: None,
            n: 1,
        }
    }
}

/// What an execution cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall-clock seconds.
    pub wall_secs: f64,
    /// Processor seconds, user and system.
    pub cpu_secs: f64,
    /// Most resident memory, bytes.
    pub peak_memory_bytes: u64,
    /// Most memory of a device beside the processor, bytes; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// Real (not padding) tokens processed forward.
    pub tokens: u64,
    /// Positions computed, padding included.
    pub positions: u64,
    /// Estimated floating-point operations.
    pub flops: f64,
}

/// The stage's last act: what it made. Its artifacts lie in the attempt's `out/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Version of this file's format.
    pub format: u32,
    /// Names under `out/`, files or folders.
    pub artifacts: Vec<String>,
    /// Final metrics by key.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Documents and tokens kept, cut, dropped, by name.
    pub counts: BTreeMap<String, u64>,
    /// Remarks for the report, for example "17 pairs were left out".
    pub notes: Vec<String>,
    /// What it cost.
    pub usage: Usage,
}

/// A published artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Path under `artifacts/`, files only.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of the content.
    pub digest: Digest,
}

/// The marker that a run is done. If it is there, everything it names is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of this file's format.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// The attempt that made it.
    pub attempt: u32,
    /// When the attempt began and when it was published.
    pub started: Timestamp,
    /// See `started`.
    pub finished: Timestamp,
    /// Every file under `artifacts/`.
    pub artifacts: Vec<Artifact>,
    /// As in [`StageResult`].
    pub result: StageResult,
}

/// Version of `result.json`, `made.json` and `outcome.json`. 2: they carry a digest of themselves.
pub const OUTCOME_FORMAT: u32 = 2;
