//! Why a judged benchmark cannot be scored.

use crate::base::PathError;
use std::path::PathBuf;

/// The error of every function of this module.
#[derive(Debug, thiserror::Error)]
pub enum JudgedError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] PathError),
    /// A line or value of a file is not of the form that the benchmark's own tool writes.
    #[error("line {line} of `{}`: {problem}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that a question needs is missing.
    #[error("question `{question}`: {problem}")]
    Question {
        /// Its id.
        question: String,
        /// What is missing.
        problem: String,
    },
    /// A score cannot be computed.
    #[error("{0}")]
    Score(String),
}

impl JudgedError {
    /// An error about one question.
    pub(crate) fn question(question: impl ToString, problem: impl Into<String>) -> Self {
        Self::Question {
            question: question.to_string(),
            problem: problem.into(),
        }
    }
}
