//! Why rows cannot be chosen.

use crate::base::PathError;
use crate::data::DataError;
use crate::model::ModelError;
use crate::train::TrainError;

/// A selection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The recipe breaks a rule.
    #[error("{0}")]
    Recipe(String),
    /// Rows and their tokens do not belong together.
    #[error("row {index} is `{row}`, but its tokens are those of `{tokens}`")]
    Tokens {
        /// From 1.
        index: usize,
        /// Id of the row.
        row: String,
        /// Id of the tokens.
        tokens: String,
    },
    /// A model that the method asks was not given.
    #[error("`{method}` needs {model}, which was not given")]
    NoModel {
        /// The method.
        method: &'static str,
        /// The model.
        model: &'static str,
    },
    /// Fewer rows than wanted can be chosen.
    #[error("`keep` is {wanted}, but only {found} of {rows} rows can be chosen{why}")]
    TooFew {
        /// As in the recipe.
        wanted: usize,
        /// Rows that can be chosen.
        found: usize,
        /// Rows there are.
        rows: usize,
        /// What kept the others out; begins with a colon or is empty.
        why: String,
    },
    /// Rows without a number in a column.
    #[error(
        "{count} of {rows} rows {} no number at `{column}`, the first is `{id}` ({found})",
        if *count == 1 { "has" } else { "have" }
    )]
    Column {
        /// Path of the column.
        column: String,
        /// Id of the first such row.
        id: String,
        /// What stands there.
        found: String,
        /// Such rows.
        count: usize,
        /// Rows there are.
        rows: usize,
    },
    /// A file of ids that cannot be used.
    #[error("`{path}`: {problem}")]
    Ids {
        /// The file, as the recipe names it.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A scorer's tokenizer that cannot say a score.
    #[error("the tokenizer of `{model}` has no token `{token}`, which the scores are read from")]
    NoToken {
        /// The model folder, as the recipe names it.
        model: String,
        /// The token.
        token: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Data could not be read or tokenised.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model could not be read or refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Scoring failed or was stopped.
    #[error(transparent)]
    Train(#[from] TrainError),
}
