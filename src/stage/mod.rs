//! Runs one attempt of one stage inside its directory.
//!
//! [`execute`] reads `stage.json`, checks that data and inputs are those of the plan, trains or
//! measures, and writes events, artifacts and `result.json`. There is one file for each kind of
//! stage; what they share is in `job` (inputs) and `training` (watching and resuming).

mod context;
mod dpo;
mod error;
mod eval;
mod execute;
mod job;
mod ref_logps;
mod sft;
mod telemetry;
mod training;

#[cfg(test)]
mod tests;

pub use context::{DeviceChoice, DeviceError, StageContext, UnknownDevice};
pub use error::StageError;
pub use execute::execute;
