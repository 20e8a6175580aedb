//! Lowers trials to a DAG of runs named by content, and says why a run is new.
//!
//! [`plan_sweep`] does the work; what names a run is documented in `identity`, what it costs in
//! [`RunCost`].

mod canonical;
mod content;
mod device;
mod difference;
mod digests;
mod documents;
mod error;
mod estimate;
#[cfg(test)]
mod expected_tests;
mod identity;
mod lower;
mod resolve;
mod stage;
#[cfg(test)]
mod tests;

pub use device::{Bench, DeviceRate, Gpu, MeasuredRates};
pub use difference::{FieldChange, nearest_difference, recipe_difference};
pub use digests::{DIGESTS_PATH, DigestCache, TextSize};
pub use documents::{Documents, KnownLengths};
pub use error::PlanError;
pub use estimate::RunCost;
pub use lower::{Plan, PlannedRun, PlannedTrial, plan_sweep};
pub use resolve::MissingInput;
pub use stage::{
    EVAL_ROWS_ARTIFACT, InputRef, InputRole, JudgeStageRecipe, MODEL_ARTIFACT, PAIRS_ARTIFACT,
    PairSet, REF_LOGPS_ARTIFACT, RefLogpsRecipe, RunId, SAMPLES_ARTIFACT, SELECTION_ARTIFACT,
    STAGE_FORMAT, SampleStageRecipe, SelectRows, SelectStageRecipe, StageFile, StageKind,
    StageRecipe, checkpoint_artifact,
};
