//! Graphics processors: memory, kernels and products of a device behind one trait.
//!
//! The kernels in `kernels/` are one text for two compilers: nvcc makes them for a card, a C++ compiler makes them run
//! on an emulation (`emu/`) that finds races, deadlocks and overruns (in shared memory; in global memory writes of up
//! to 4 KiB beside an array, and reads there give NaN), in `cargo test` and without a card. Everything else is written
//! once, over [`Gpu`]: [`Emulated`] stands behind it in tests, a card (feature `gpu`) otherwise.
//!
//! Start with `device.rs`, then any file of `ops/` beside its kernel.

mod allocation;
mod buf;
mod call;
mod card;
mod cards;
mod check;
mod comm;
#[cfg(test)]
mod conformance_tests;
#[cfg(feature = "gpu")]
mod cuda;
pub mod decoder;
mod device;
mod element;
mod emulated;
#[cfg(test)]
mod emulated_tests;
mod emulation;
mod error;
mod ledger;
mod moments;
pub mod ops;
mod pinned;
#[cfg(test)]
mod prebuilt_tests;
#[cfg(test)]
mod product_tests;
mod shared;
#[cfg(test)]
mod speed_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use buf::{Buf, Pinned, Region};
pub use call::{Arg, Call, Launch};
pub use card::{Card, Cards, Cublas};
pub use cards::{cards, cublas, open_card};
pub use check::check;
pub use comm::{Comm, Meeting, Seat, Threads, shares};
#[cfg(feature = "gpu")]
pub use cuda::Cuda;
pub use device::{Event, Gemm, Gpu, Matrix, Memory};
pub use element::{Element, Stored};
pub use emulated::{Counts, Emulated, Emulation, Schedule};
pub use emulation::open_emulation;
pub use error::{GpuError, Result};
pub use shared::SharedGpu;
