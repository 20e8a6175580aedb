//! What can keep a sweep from being planned.

use crate::base::PathError;

/// An error of planning.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file cannot be read or digested.
    #[error(transparent)]
    File(#[from] PathError),
    /// A value cannot be written as JSON.
    #[error("cannot write {what} as JSON")]
    Json {
        /// What was written.
        what: String,
        /// serde's reason.
        source: serde_json::Error,
    },
    /// NaN or infinity in a recipe.
    #[error("{what} has a number that is not finite at `{path}`")]
    NotFinite {
        /// The document.
        what: String,
        /// Dotted path in it.
        path: String,
    },
    /// The pipeline names a stage that the configuration lacks.
    #[error("trial `{trial}` names stage `{stage}` but has no `{stage}` table")]
    NoStage {
        /// The trial's label.
        trial: String,
        /// The stage.
        stage: &'static str,
    },
}
