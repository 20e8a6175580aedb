//! Loops over plain slices: what the ops and executors of the CPU are made of.
//!
//! No tensors, no graph, no device; all numeric `unsafe` of the engine. A kernel is written once
//! and compiled for each instruction set (`isa`). The order of every sum is given by shapes
//! alone: neither the set (among those with fused multiply-add) nor the threads nor what is computed
//! together changes a bit.
//!
//! Start with `isa/` and `gemm.rs`.

#![expect(
    clippy::inline_always,
    reason = "a helper that is not inlined would run with the baseline instruction set"
)]

pub mod aligned;
pub mod attention;
pub mod bf16;
pub mod bf16_gemm;
pub mod decode_attention;
pub mod gated;
pub mod gemm;
pub mod head;
mod instances;
pub mod isa;
pub mod kv_page;
pub mod lanes;
pub mod mat;
pub mod matmul;
pub mod norm;
pub mod pack;
#[cfg(target_arch = "x86_64")]
pub mod pairs;
pub mod real;
pub mod rope;
pub mod rows;
pub mod segments;
pub mod shape;
pub mod small_gemm;
pub mod sums;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tile;

pub use instances::instances;
