//! Instruction sets: a kernel is written once as plain loops and compiled for each of them.
//!
//! The set is chosen at run time, so one binary runs everywhere. A set is a file here: a type whose
//! values prove that the processor has it, its tile for the matrix product, and its place in
//! `select.rs` (the list of sets, and an arm of `kernel!`).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
#[cfg(target_arch = "x86_64")]
mod bf16_tile;
mod limit;
#[cfg(target_arch = "x86_64")]
mod pair_tiles;
mod select;
mod set;

#[cfg(target_arch = "x86_64")]
pub use amx::{Amx, Tiles};
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use avx512_bf16::Avx512Bf16;
pub use limit::Unit;
#[cfg(target_arch = "x86_64")]
pub use pair_tiles::{PAIRS, PairTiles, Pairing, SIDE, TILE};
pub(crate) use select::kernel;
pub use select::{Isa, Vectors, isa, vectors};
pub use select::{IsaError, instruction_set, use_instruction_set};
#[cfg(any(test, feature = "testing"))]
pub use select::{on_this_thread, use_on_this_thread};
#[cfg(any(test, feature = "testing"))]
pub use set::Baseline;
pub use set::{LeftRows, SQUARE, Simd, TileJob};
