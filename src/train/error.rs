//! What can go wrong while training.

use crate::base::PathError;
use crate::data::DataError;
use crate::gpu::GpuError;
use crate::model::ModelError;
use std::path::PathBuf;

/// Training cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss is NaN or infinite.
    #[error(
        "the loss is {value} at step {step}; examples of the batch: {}",
        show_ids(examples)
    )]
    LossNotFinite {
        /// The step, 1-based.
        step: u64,
        /// What the loss was.
        value: f64,
        /// Ids of the examples of that step.
        examples: Vec<String>,
    },
    /// A gradient is NaN or infinite.
    #[error(
        "the gradient of `{parameter}` is not finite at step {step}; examples of the batch: {}",
        show_ids(examples)
    )]
    GradientNotFinite {
        /// The step, 1-based.
        step: u64,
        /// The first such parameter, by name.
        parameter: String,
        /// Ids of the examples of that step.
        examples: Vec<String>,
    },
    /// A held-out measure is NaN or infinite.
    #[error("`{key}` is {value} after step {step}")]
    MonitorNotFinite {
        /// Steps taken.
        step: u64,
        /// The metric.
        key: String,
        /// What it was.
        value: f64,
    },
    /// An op without a backward pass cut parameters off from the loss.
    #[error("no gradient reached {}", names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))]
    NoGradient {
        /// The parameters.
        names: Vec<String>,
    },
    /// A pair has no stored reference log-probabilities.
    #[error(
        "no reference log-probabilities for pair `{id}` (key `{key}`): the `ref-logps` run was made \
         from other pairs, another template or other length limits"
    )]
    NoReference {
        /// Row id of the pair.
        id: String,
        /// Its key.
        key: String,
    },
    /// No step can be made from the data.
    #[error("nothing to train on: {0}")]
    Nothing(String),
    /// A saved state does not fit this run.
    #[error("the saved state `{}` does not fit: {why}", path.display())]
    State {
        /// The state's folder or file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// The weights of a moving reference do not fit.
    #[error("the moving reference cannot be used: {0}")]
    Reference(String),
    /// No row of the embedding would learn.
    #[error("`trainable-embeddings` leaves none of the {vocabulary} rows of the embedding")]
    NoEmbedding {
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// Someone asked to stop in the middle of work that keeps no state.
    #[error("stopped on request")]
    Stopped,
    /// Whoever watches could not take note.
    #[error("cannot record the course of training")]
    Observer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The data could not be prepared.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device of [`gpu`](crate::gpu) refused. (Not transparent: who asks for the class looks for the source.)
    #[error("{0}")]
    Gpu(#[from] GpuError),
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

/// The first ids, and how many more.
fn show_ids(ids: &[String]) -> String {
    const SHOWN: usize = 16;
    let mut text = ids
        .iter()
        .take(SHOWN)
        .map(|id| format!("`{id}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if ids.len() > SHOWN {
        text = format!("{text} and {} more", ids.len() - SHOWN);
    }
    text
}
