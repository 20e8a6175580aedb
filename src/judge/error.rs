//! Why replies cannot be judged.

use crate::base::PathError;
use crate::data::DataError;
use crate::model::ModelError;
use std::path::PathBuf;

/// The error of every function of this module.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] PathError),
    /// A tokenizer or a chat template does not do.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A judge's own model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tensor library refused.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// A judge's model folder is not what its recipe says.
    #[error("`{}` is no {wanted}: {problem}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// One item cannot be judged.
    #[error("item `{id}`: {problem}")]
    Item {
        /// Id of the prompt's row.
        id: String,
        /// Why.
        problem: String,
    },
    /// The endpoint refuses, or did not answer often enough.
    #[error("`{url}` gives no answer for item `{id}`: {problem}")]
    Endpoint {
        /// What was asked.
        url: String,
        /// Id of the prompt's row.
        id: String,
        /// What it said at last.
        problem: String,
    },
    /// No answer of the endpoint holds a verdict.
    #[error(
        "none of {asks} answers about item `{id}` holds a verdict: {problem}; the answers are in `{}`",
        answers.display()
    )]
    NoVerdict {
        /// Id of the prompt's row.
        id: String,
        /// How often it was asked.
        asks: usize,
        /// What is wrong with the last answer.
        problem: String,
        /// The file of answers.
        answers: PathBuf,
    },
    /// The file of answers holds something else.
    #[error("line {line} of `{}` is no answer: {problem}", path.display())]
    Answers {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Someone asked to stop.
    #[error("stopped on request")]
    Stopped,
}

impl JudgeError {
    /// An error about one item.
    pub(super) fn item(id: &str, problem: impl Into<String>) -> Self {
        Self::Item {
            id: id.to_owned(),
            problem: problem.into(),
        }
    }
}

/// The score, if it is a number.
pub(super) fn finite(id: &str, score: f64) -> Result<f64, JudgeError> {
    if score.is_finite() {
        return Ok(score);
    }
    Err(JudgeError::item(id, format!("a score is {score}")))
}
