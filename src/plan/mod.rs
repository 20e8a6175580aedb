//! Lowers trials to a DAG of runs named by content, and says why a run is new.

pub mod stage;

pub use stage::{
    EVAL_ROWS_ARTIFACT, InputRef, InputRole, MODEL_ARTIFACT, PairSet, REF_LOGPS_ARTIFACT,
    RefLogpsRecipe, RunId, STAGE_FORMAT, StageFile, StageKind, StageRecipe,
};
