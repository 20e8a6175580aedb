//! What state a run is in and what may happen to it next.
//!
//! Everything here is a pure function of its arguments: no clock, no database, no processes.
//! [`step()`] is the whole life of a run; [`schedule()`] decides what to launch; [`explain()`]
//! says why a run is not done.

mod explain;
mod schedule;
#[cfg(test)]
mod simulation_tests;
mod state;

pub use explain::{Blocker, Facts, explain};
pub use schedule::{Candidate, Needs, Slot, chains, schedule};
pub use state::{
    AttemptEnd, CRASH_LIMIT, Effect, Inputs, LEASE_MILLIS, LOST_LIMIT, QueuedRun, RunEvent,
    RunState, Stale, hint, rest_after_crash, step,
};
