//! Scores a checkpoint: replies by likelihood, pairs by implicit reward, stories by rules.
//!
//! Pure functions from scores and texts to metrics and row records; the forward passes are
//! [`crate::train::score_documents`], [`crate::train::score_pairs`] and [`crate::generate::sample`].
//! Every value carries its standard error over rows and the number of rows. [`judged`] scores chat benchmarks by the
//! verdicts of a judge, [`task`] has evaluation tasks, which are files.

mod cluster;
pub mod judged;
mod likelihood;
mod preference;
mod record;
mod stats;
mod stories;
pub mod task;

pub use cluster::cluster_by;
pub use likelihood::likelihood_metrics;
pub use preference::preference_metrics;
pub use record::{RowRecord, SampleRecord, SetResult};
pub use stats::{mean, mean_metrics};
pub use stories::{Story, StoryError, StoryPrompt, constraints_of, story_metrics, story_prompt};
