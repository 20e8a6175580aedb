//! One checked function a kernel: the sizes of its arrays are asserted before it is launched.
//!
//! An op is a file here, its kernel (`kernels/NAME.cu`), and the tests that compare both with plain loops in f64, on
//! the emulation always and on a card if there is one.

pub mod attention;
pub mod attention_fast;
#[cfg(test)]
mod attention_tests;
pub mod decode_attention;
#[cfg(test)]
mod decode_attention_tests;
pub mod draw;
pub mod embedding;
pub mod gated;
pub mod head;
pub mod head_norm;
pub mod mix;
pub mod norm;
pub mod optimizer;
pub mod rope;
pub mod rows;
pub(crate) mod table;
