//! What can go wrong while sampling.

use crate::gpu::GpuError;

/// Sampling cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A prompt leaves no room for a token.
    #[error("prompt {prompt} has {len} tokens; the model has room for {limit}")]
    PromptTooLong {
        /// Index of the prompt.
        prompt: usize,
        /// Its tokens.
        len: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// The model gave NaN.
    #[error("the logits of prompt {prompt}, sample {sample} are not finite at token {token}")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
        /// Which sample.
        sample: usize,
        /// Which new token, from 0.
        token: usize,
    },
    /// Someone asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// The device of [`gpu`](crate::gpu) refused. (Not transparent: who asks for the class looks for the source.)
    #[error("{0}")]
    Gpu(#[from] GpuError),
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}
