//! Differentiable ops of the decoder: forward, backward, a naive twin and their tests, one a file.
//!
//! On the CPU in `f32` (and `f64`, for gradient checks) each op runs a fused kernel with its own
//! backward; half-precision formats are computed in `f32` between two casts; other devices run the
//! twin out of candle's own differentiable ops. Where all weights allow it, `stack` computes all
//! layers as one op out of the same kernels. Letters of shapes are those of
//! [`crate::model`]. Results are the same bytes for any number of threads.

#![expect(
    clippy::inline_always,
    reason = "a helper that is not inlined would run with the baseline instruction set"
)]

#[cfg(test)]
pub(crate) mod check;

use crate::arch::{AttentionShape, GateActivation, NormWeight};

mod aligned;
mod attention;
mod bf16;
mod decode;
mod decode_attention;
mod embedding;
mod gated;
mod head;
mod inject;
mod kv_page;
mod layer;
mod linear;
mod matmul;
mod nll;
mod panel;
mod product;
mod rms_norm;
mod rope;
mod segments;
mod simd;
mod stack;
mod storage;
mod sums;
mod token_logps;

pub use attention::{attention, attention_naive};
pub(crate) use decode::DecodeWeights;
pub(crate) use decode_attention::{Scratch, decode_attention};
pub use embedding::{embedding, embedding_naive};
pub use gated::{gated, gated_naive};
pub use inject::backward_from;
pub(crate) use kv_page::{CachedRow, PageShape};
pub(crate) use layer::{LayerShape, SLOTS, Slot};
pub use linear::{linear, linear_naive};
pub use nll::{SummedNll, summed_nll, summed_nll_naive};
pub use rms_norm::{rms_norm, rms_norm_naive};
pub use rope::{Rotation, rope, rope_naive};
pub use segments::Segments;
pub use simd::Real;
pub use stack::Recompute;
pub(crate) use stack::Stack;
pub use token_logps::{Targets, TokenStats, token_logps, token_logps_naive};
