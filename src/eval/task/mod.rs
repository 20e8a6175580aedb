//! Evaluation tasks: rows to questions, questions to tokens, answers to scores, scores to metrics.
//!
//! A task is a recipe and no code ([`crate::config::spec::TaskRecipe`]). What it asks and how it is scored agrees with
//! lm-evaluation-harness to the letter where a task of its has been written down.

mod aggregate;
mod document;
mod error;
mod few_shot;
mod request;
pub mod score;
mod stop;

pub use aggregate::{ScoredRow, task_result};
pub use document::{ChatWriter, Document, Question, Target, load_documents, part_names};
pub use error::TaskError;
pub use request::encode_questions;
pub use stop::cut_at;
