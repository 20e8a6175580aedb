//! Chat benchmarks whose replies a judge scores: MT-Bench, AlpacaEval 2 and Arena-Hard-Auto v0.1.
//!
//! Pure functions from questions to requests, from a judge's replies to verdicts ([`grammar`]), and from verdicts to the
//! numbers that each project's own tool prints; [`files`] reads and writes the projects' own files.

pub mod alpaca;
pub mod arena;
mod bench;
mod error;
pub mod files;
pub mod grammar;
mod measure;
pub mod mt_bench;
#[cfg(test)]
mod testing;

pub use bench::{Ask, Bench, Judgments, Reply, Said};
pub use error::JudgedError;
pub use measure::{Measured, measure};
