//! Evaluation tasks: rows to questions, questions to tokens, answers to scores, scores to metrics.
//!
//! A task is a recipe and no code ([`crate::config::spec::TaskRecipe`]). What it asks and how it is scored agrees with
//! lm-evaluation-harness to the letter where a task of its has been written down.

mod aggregate;
mod answer;
mod document;
mod error;
mod few_shot;
mod harness;
mod kept;
mod measure;
mod request;
pub mod score;
mod stop;

pub use aggregate::ScoredRow;
pub use answer::{RowProgress, answer_choices, answer_texts};
pub use document::{ChatWriter, Document, Question, Target, load_documents, part_names};
pub use error::TaskError;
pub use harness::{DoneTask, HarnessHead, HarnessSamples, harness_files};
pub use kept::KeptAnswers;
pub use measure::{PreparedTask, look_at_task};
