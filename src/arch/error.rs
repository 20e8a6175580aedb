//! What can be wrong with a model's `config.json`.

use crate::base::PathError;
use std::path::PathBuf;

/// A `config.json` that cannot be read or asks for something not implemented.
#[derive(Debug, thiserror::Error)]
pub enum ArchError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] PathError),
    /// The file is not JSON.
    #[error("`{}` is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// A field is missing or senseless.
    #[error("`{field}` in `{}` {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The model family is not implemented.
    #[error("`{}` names the architecture `{found}`; known are {known}", path.display())]
    UnknownArchitecture {
        /// The file.
        path: PathBuf,
        /// The name in the file.
        found: String,
        /// Names that this build knows.
        known: String,
    },
}

impl ArchError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::UnknownArchitecture { .. } => "take a model of one of these families",
            Self::Field { .. } => {
                "take a model that has it as it must be, or fix `config.json` if the weights are such"
            }
            Self::File(_) | Self::Json { .. } => "fetch the model's `config.json` again",
        }
    }
}
