//! The decoder and the ways in which it is computed.
//!
//! | executor | file | for |
//! | --- | --- | --- |
//! | op by op, in candle's graph | `layer.rs` | other devices, prompts into the cache, `f64` outside tests, and the reference in tests |
//! | all layers as one op, forward and backward | `fused.rs`, `fused_layer.rs` | training and scoring on the CPU |
//! | one token a row over cached keys and values | `decode.rs`, `kv_cache.rs` | sampling on the CPU |
//!
//! A feature of a family (a bias, a norm, a window, a cap) stands in each of them; `agree_tests.rs`
//! sends random combinations of all features through all of them.

mod decode;
mod fused;
mod fused_layer;
mod kv_cache;
mod layer;
mod model;
mod reader;
mod reward;
mod slot;

#[cfg(test)]
mod agree_tests;
#[cfg(test)]
mod tests;

pub use fused::Recompute;
pub use kv_cache::{CachedPrompt, KvCache};
pub use model::Decoder;
pub use reward::{RewardModel, check_reward_weights};
pub(super) use reward::{ScalarHead, headless, tensors_with};
