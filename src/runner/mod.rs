//! The loop of `lions run`: linearises what happens, applies it, launches, reports.
//!
//! [`run_sweep`] is the way in. It talks to the user only through a [`Reporter`], starts work only
//! through a [`crate::backend::Backend`] and changes states only through [`crate::store::Store`],
//! so that several runners may work on one store at once and any of them may die at any moment.

pub mod dispatcher;
pub mod error;
pub mod events;
pub mod job;
mod live;
mod others;
mod owner;
mod publisher;
mod publishing;
pub mod reporters;
mod starting;
mod telling;
#[cfg(test)]
mod tests;
mod watching;

pub use dispatcher::run_sweep;
pub use error::RunnerError;
pub use events::{Failure, NoReport, Origin, Reporter, RunnerEvent, SweepEnd, SweepSummary};
pub use job::{DISK_FLOOR_BYTES, GRACE_MILLIS, Rim, RunOptions, SweepJob};
pub use reporters::{JsonReporter, LinesReporter};
