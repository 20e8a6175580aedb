//! Lowers trials to a DAG of runs named by content, and says why a run is new.
//!
//! [`plan_sweep`] does the work; what names a run is documented in `identity`, what it costs in
//! [`Estimate`].

mod canonical;
mod difference;
mod digests;
mod error;
mod estimate;
mod identity;
mod lower;
mod resolve;
pub mod stage;
#[cfg(test)]
mod tests;

pub use difference::{FieldChange, nearest_difference};
pub use digests::{DigestCache, TextSize};
pub use error::PlanError;
pub use estimate::Estimate;
pub use lower::{Plan, PlannedRun, PlannedTrial, plan_sweep};
pub use resolve::MissingInput;
pub use stage::{
    EVAL_ROWS_ARTIFACT, InputRef, InputRole, MODEL_ARTIFACT, PairSet, REF_LOGPS_ARTIFACT,
    RefLogpsRecipe, RunId, STAGE_FORMAT, StageFile, StageKind, StageRecipe,
};
