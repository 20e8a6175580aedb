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
mod decoder;
mod device;
mod error;
mod host_opener;
pub mod ops;
pub mod phase_timer;
mod rate;
mod sequences;
mod weights;

pub use allocator::tune_allocator;
pub use decoder::{CachedPrompt, Decoder, KvCache, Recompute, RewardModel, check_reward_weights};
pub use device::{
    DeviceModel, DeviceOpener, WeightSource, frozen_parts, placed_parts, upload_rounded,
    upload_weights,
};
pub use error::ModelError;
pub use host_opener::HostOpener;
use lions_kernels as kernels;
pub use lions_kernels::isa::{IsaError, instruction_set, use_instruction_set};
pub use ops::{Segments, SummedNll, TokenStats};
pub use rate::{MatmulRate, UnitLimit, matmul_rate, unit_limit};
pub use sequences::{ModelOpener, SequenceReader, SequenceScorer, in_passes, score_sequences};
pub use weights::{
    ArrayReader, ArrayWriter, Arrays, Companions, FrozenParams, Lora, Params, StoredWeights, Take,
    adapter_names, changed_weights, check_weights, convert_checkpoint, dtype_of, format_of,
    load_tensors, merge_adapter, new_adapters, save_adapter, save_arrays, save_checkpoint,
    weight_shapes,
};
