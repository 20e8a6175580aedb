//! The loop of `lions run`: linearises what happens, applies it, launches, reports.
//!
//! [`run_sweep`] is the way in. It talks to the user only through a [`Reporter`], starts work only
//! through a [`crate::backend::Backend`] and changes states only through [`crate::store::Store`],
//! so that several runners may work on one store at once and any of them may die at any moment.
//!
//! `begin` writes what has to be there before anything runs. A turn of `dispatcher` is then `poll`,
//! `takeover`, `commit`, `claim`. Each of these is given the state that it may change: the `ledger`
//! (store, `graph`, `report`), the `attempts` of this runner, `admission` and `timers`.

mod admission;
mod attempt;
mod attempts;
mod begin;
mod claim;
mod commit;
mod dispatcher;
mod error;
mod events;
mod graph;
mod health;
mod job;
mod ledger;
mod limits;
mod obey;
mod owner;
mod poll;
mod publisher;
mod report;
mod reporters;
mod takeover;
#[cfg(test)]
mod tests;
mod timers;

pub use begin::open_store;
pub use dispatcher::run_sweep;
pub use error::RunnerError;
pub use events::{Failure, NoReport, OutcomeSource, Reporter, RunnerEvent, SweepEnd, SweepSummary};
pub use job::{RunOptions, Services, SweepJob};
pub use reporters::{JsonReporter, LinesReporter};
