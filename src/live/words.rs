//! Where a run stands, in one word.

use crate::base::Timestamp;
use crate::plan::RunId;
use crate::queue::{LEASE_MILLIS, RunState};
use crate::rundir::{RunDir, read_job_note};
use std::path::Path;

/// When an attempt whose lease has run out was last seen to live.
pub fn silent_since(state: RunState, now: Timestamp) -> Option<Timestamp> {
    match state {
        RunState::Leased { expires, .. } if now > expires => {
            Some(expires.plus_millis(-LEASE_MILLIS))
        }
        _ => None,
    }
}

/// A run's state as people read it: `waiting`, `ready`, `running`, `silent`, `done`, `failed`, `skipped` or `cancelled`.
pub fn state_word(state: RunState, now: Timestamp) -> &'static str {
    match state {
        RunState::Leased { .. } if silent_since(state, now).is_some() => "silent",
        RunState::Blocked => "waiting",
        RunState::Ready => "ready",
        RunState::Leased { .. } => "running",
        RunState::Succeeded => "done",
        RunState::Failed => "failed",
        RunState::Skipped => "skipped",
        RunState::Cancelled => "cancelled",
    }
}

/// Why the live attempt of a run in this state waits at a scheduler, and since when; none if it does not.
pub fn queue_reason(root: &Path, id: &RunId, state: RunState) -> Option<(String, Timestamp)> {
    let RunState::Leased { attempt, .. } = state else {
        return None;
    };
    let note = read_job_note(&RunDir::new(root, id).attempt(attempt))?;
    note.waits.map(|waits| (waits.reason, waits.since))
}
