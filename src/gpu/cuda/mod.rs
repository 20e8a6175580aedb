//! A card of NVIDIA's, by its driver and cuBLAS, which are opened when they are asked for.

mod blas;
mod card;
mod cards;
mod clock;
mod context;
mod failure;
mod images;
mod library;

pub use card::Cuda;
pub(super) use cards::{cards, cublas};
