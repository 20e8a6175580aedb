//! Which rows of the training data are kept.
//!
//! [`select_rows`] is the entry. Every method is a score for each row and a rule over the scores
//! ([`Selection`] holds both); [`crate::config::select`] lists the methods with their sources.
//!
//! - `order`: rules over scores, pure: the best, a seeded sample, quotas of bins.
//! - `columns`, `ids`: what the rows and a file of ids say themselves.
//! - `likelihood`: perplexity, IFD, margins, from log-probabilities of replies.
//! - `reward`, `deita`: models of their own beside the pipeline's.
//! - `less`, `projection`: gradients of single rows, projected on random signs.
//!
//! On the CPU the same rows, models and seed give the same selection. Equal scores are ordered by the
//! row's place.

mod choose;
mod columns;
mod context;
mod deita;
mod error;
mod ids;
mod less;
mod likelihood;
mod models;
mod order;
mod projection;
mod reward;
mod rows;
#[cfg(test)]
mod tests;
mod work;

pub use choose::select_rows;
pub use columns::{choosable, score_at};
pub use context::{SelectContext, SelectModels};
pub use deita::check_scorer;
pub use error::SelectError;
pub use ids::check_ids;
pub use order::Selection;
pub use rows::{RowsRef, align_pairs};
pub use work::SelectProgress;
