//! What can be wrong with a task or its rows.

use crate::data::{DataError, Origin};
use crate::generate::GenerateError;
use crate::train::TrainError;
use std::path::PathBuf;

/// A task that cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A row does not fit the task.
    #[error("task `{task}`, row {origin}: {what}: {reason}")]
    Row {
        /// The task.
        task: String,
        /// File and line.
        origin: Origin,
        /// The part of the task that it does not fit.
        what: String,
        /// Why.
        reason: String,
    },
    /// The task itself is wrong.
    #[error("task `{task}`: {what}: {reason}")]
    Task {
        /// The task.
        task: String,
        /// The part of it.
        what: String,
        /// Why.
        reason: String,
    },
    /// A question has no answer although all were asked: what was kept of it is of another kind.
    #[error("question {row} has no answer; remove `{}` and ask again", path.display())]
    Unanswered {
        /// Which row, from 0.
        row: usize,
        /// Where answers are kept.
        path: PathBuf,
    },
    /// Files or tokens.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot score.
    #[error(transparent)]
    Score(#[from] TrainError),
    /// The model cannot continue.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}
