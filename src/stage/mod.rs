//! Runs one attempt of one stage inside its directory.
//!
//! [`execute`] reads `stage.json`, checks that data and inputs are those of the plan, trains or
//! measures, and writes events, artifacts and `result.json`. There is one file for each kind of
//! stage; what they share is in `attempt` (inputs), `engine` (what computes), `output` (results), `training` (watching
//! and resuming) and `checkpoints` (models that are kept). [`bench`] measures the same work without a run,
//! [`ask_tasks`] asks a checkpoint the questions of evaluation tasks without one, and a [`Session`] talks to one.

mod ask_tasks;
mod attempt;
mod bench;
mod benchmark;
mod benchmark_answers;
mod benchmark_verdicts;
mod benchmarks;
mod checkpoints;
mod context;
mod device;
mod dpo;
mod endpoint;
mod engine;
mod error;
mod eval;
mod execute;
mod judge;
mod local_judge;
mod output;
mod ref_logps;
mod sample;
mod select;
mod session;
mod sft;
mod telemetry;
mod training;
mod written;

#[cfg(test)]
mod option_tests;
#[cfg(test)]
mod tests;

pub use ask_tasks::{AskTasks, TaskReport, ask_tasks};
pub use attempt::{kept_rows, run_input};
pub use bench::{
    BenchDevice, BenchKind, BenchModel, BenchReport, BenchRequest, BenchShape, BenchStep,
    BenchUnit, Between, PhaseTime, Spread, bench,
};
pub use context::StageContext;
pub use device::{DeviceAccess, open_device};
pub use error::StageError;
pub use execute::execute;
pub use session::{OpenModel, Session};
pub use written::{Ask, Finish, Piece, TokenLogp, Written};
