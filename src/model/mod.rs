//! The decoder, its ops with gradients, its weights on disk.
//!
//! One decoder serves every family ([`crate::arch`]); a family is a
//! [`DecoderConfig`](crate::arch::DecoderConfig). It is built
//! from [`Params`] (trained) or from [`FrozenParams`] (detached, the same storage), computes on
//! packed tokens without a batch dimension, and never holds the logits of a whole batch.
//!
//! Letters of shapes, here and in [`ops`]: T positions, D width, H query heads, K key/value heads,
//! E head width, F feed-forward width, V vocabulary, S segments, N targets, B rows of a cache.
//!
//! Start with [`Decoder`].

mod allocator;
mod checkpoint;
mod decoder;
mod error;
mod kv_cache;
mod lora;
pub mod ops;
mod params;
pub mod phase_timer;
mod rate;
mod reward;
mod weights_file;

pub use allocator::tune_allocator;
pub use checkpoint::save_checkpoint;
pub use decoder::Decoder;
pub use error::ModelError;
pub use kv_cache::{CachedPrompt, KvCache};
pub use lora::{Lora, merge_adapter};
pub use ops::{Recompute, Segments, SummedNll, TokenStats};
pub use params::{FrozenParams, Params, missing_gradients};
pub use rate::{MatmulRate, matmul_rate};
pub use reward::RewardModel;
pub use weights_file::load_tensors;
