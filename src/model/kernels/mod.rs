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

pub(crate) mod aligned;
pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod decode_attention;
pub(crate) mod gated;
pub(crate) mod gemm;
pub(crate) mod head;
pub(crate) mod isa;
pub(crate) mod kv_page;
pub(crate) mod lanes;
pub(crate) mod mat;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod pack;
pub(crate) mod real;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod segments;
pub(crate) mod small_gemm;
pub(crate) mod sums;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tile;
