//! What can be wrong with a model folder.

use crate::arch::ArchError;
use crate::base::PathError;
use crate::gpu::GpuError;
use std::path::PathBuf;

/// A model that cannot be read, built or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `config.json` is not that of a decoder known here.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] PathError),
    /// A file that should be JSON is not.
    #[error("`{}` is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// A field of `adapter_config.json` is missing or senseless.
    #[error("`{field}` in `{}` {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder has neither weights nor an index.
    #[error("no `model.safetensors` or `model.safetensors.index.json` in `{}`{help}", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// What is there instead, and what to do with it.
        help: &'static str,
    },
    /// A tied configuration, and a head that is no copy of the embedding.
    #[error(
        "`lm_head.weight` in `{}` is another matrix than the embedding, to which `config.json` ties it: \
         set `tie_word_embeddings` to false to use it, or take the tensor out of the file",
        path.display()
    )]
    OtherHead {
        /// Weights file that holds the head.
        path: PathBuf,
    },
    /// A weights file is damaged.
    #[error("`{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// A tensor of the architecture is not in the files.
    #[error("tensor `{name}` of shape {expected:?} is missing in `{}`", path.display())]
    MissingTensor {
        /// Hugging Face name.
        name: String,
        /// Shape by `config.json`.
        expected: Vec<usize>,
        /// Weights file or index.
        path: PathBuf,
    },
    /// The files hold tensors that the architecture has no place for.
    #[error("`{}` holds tensors that `config.json` has no place for: {names}", path.display())]
    ExtraTensors {
        /// The first few names.
        names: String,
        /// Weights file or index.
        path: PathBuf,
    },
    /// A tensor has another shape than `config.json` says.
    #[error("tensor `{name}` in `{}` has shape {found:?}, `config.json` asks for {expected:?}", path.display())]
    WrongShape {
        /// Hugging Face name.
        name: String,
        /// Shape by `config.json`.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
        /// Weights file.
        path: PathBuf,
    },
    /// A tensor is stored in a format that is not a float.
    #[error("tensor `{name}` in `{}` is stored as {found}, which is no float format known here", path.display())]
    WrongDtype {
        /// Hugging Face name.
        name: String,
        /// Format in the file.
        found: String,
        /// Weights file.
        path: PathBuf,
    },
    /// A tensor of adapters would spoil the model that it is merged into.
    #[error("tensor `{name}` in `{}` holds a number that is NaN or infinite", path.display())]
    NotFinite {
        /// Name in the file.
        name: String,
        /// Weights file.
        path: PathBuf,
    },
    /// A reward model without a scalar head.
    #[error("no scalar head in `{}`: a reward model has {known}", dir.display())]
    NoScalarHead {
        /// The folder.
        dir: PathBuf,
        /// Names of tensors that would be one.
        known: String,
    },
    /// A sequence that cannot be scored.
    #[error("sequence {index} of {count} is empty")]
    EmptySequence {
        /// From 1.
        index: usize,
        /// Sequences given.
        count: usize,
    },
    /// Parameters given to a decoder do not fit its configuration.
    #[error("parameter `{name}` is missing")]
    MissingParameter {
        /// Hugging Face name.
        name: String,
    },
    /// The device of [`gpu`](crate::gpu) refused. (Not transparent: who asks for the class looks for the source.)
    #[error("{0}")]
    Gpu(#[from] GpuError),
    /// The tensor library refused.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}
