//! What an attempt tells while it runs: one JSON line each in `events.jsonl`.

use crate::base::Device;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why an attempt failed; decides what a retry can help.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum FailureClass {
    /// The recipe, the data or the model cannot work as they are.
    User,
    /// The loss or a gradient is not finite.
    NotFinite,
    /// Out of memory.
    OutOfMemory,
    /// The disk or quota is full.
    DiskFull,
    /// What an earlier run made is not there any more as it was.
    Damaged,
    /// The system refused access to a file or folder.
    Permission,
    /// The card that it computed on answers no more: its fault or the run's, which the next card tells.
    DeviceFault,
    /// No progress for longer than is allowed; it was ended.
    Hung,
    /// Our bug.
    Internal,
}

/// One thing that happened in an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AttemptEvent {
    /// The process is up.
    Started {
        /// Where it computes.
        device: Device,
    },
    /// Work is about to begin: what the units are and how many.
    Begin {
        /// `steps`, `pairs`, `rows`, `prompts`, `samples`.
        unit: String,
        /// How many in all.
        total: u64,
    },
    /// So many units are done. Sent at most about five times a second.
    Progress {
        /// Units done.
        done: u64,
    },
    /// Metrics at an optimiser step, 1-based; 0 is before the first.
    Step {
        /// The step.
        step: u64,
        /// Values by key.
        metrics: BTreeMap<String, f64>,
    },
    /// A resumable state was written.
    Checkpointed {
        /// The step it continues after.
        step: u64,
    },
    /// The attempt continues a state of an earlier one.
    Resumed {
        /// The step it continues after.
        step: u64,
    },
    /// Something a user should read, the attempt goes on.
    Warning {
        /// The text.
        message: String,
    },
    /// The stage is done; `result.json` is there.
    Finished,
    /// The stage stopped because it was asked to; its state is saved.
    Interrupted,
    /// The stage cannot go on.
    Failed {
        /// Why, for retry rules.
        class: FailureClass,
        /// Why, for a person: the whole chain of causes.
        message: String,
    },
}

/// First line of `events.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EventHeader {
    /// Version of the format.
    pub(super) format: u32,
}

/// Version of `events.jsonl`.
pub(super) const EVENT_FORMAT: u32 = 1;
