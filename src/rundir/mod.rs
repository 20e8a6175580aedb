//! The contract between the wings: paths, events, outcome.
//!
//! An attempt writes only below its own folder; the runner alone publishes artifacts and, last,
//! `outcome.json`.

pub mod event;
pub mod layout;
pub mod outcome;

pub use event::{AttemptEvent, EVENT_FORMAT, EventHeader, FailureClass};
pub use layout::{AttemptDir, RunDir};
pub use outcome::{Artifact, MetricValue, OUTCOME_FORMAT, Outcome, StageResult, Usage};
