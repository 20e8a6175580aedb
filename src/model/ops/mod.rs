//! Differentiable ops of the decoder: forward, backward, a naive twin and their tests, one a file.
//!
//! On the CPU in `f32` (in tests in `f64` too, for gradient checks) each op runs a fused kernel with its
//! own backward; half-precision formats are computed in `f32` between two casts; other devices run the
//! twin out of candle's own differentiable ops. Letters of shapes are those of
//! [`crate::model`]. Results are the same bytes for any number of threads.

#[cfg(test)]
mod attention_tests;
#[cfg(test)]
pub(crate) mod check;

mod attention;
mod embedding;
mod gated;
mod linear;
mod nll;
mod rms_norm;
mod rope;
pub(crate) mod storage;
mod token_logps;

pub use crate::model::kernels::rope::Rotation;
pub use crate::model::kernels::segments::Segments;
pub use attention::{attention, attention_naive};
pub use embedding::{embedding, embedding_naive};
pub use gated::{gated, gated_naive};
pub use linear::{linear, linear_naive};
pub use nll::{SummedNll, summed_nll, summed_nll_naive};
pub use rms_norm::{rms_norm, rms_norm_naive};
pub use rope::{rope, rope_naive};
pub use token_logps::{Targets, TokenStats, token_logps, token_logps_naive};
