//! What a sweep would use, looked at before any of it runs.
//!
//! [`Preflight`] opens model folders (`config.json` against the headers of the weights, tokenizer,
//! template) and data files (their rows, and a sample of those through template and tokenizer), asks
//! whether each stage has as many rows as it is told to use and would train at all, and whether what is
//! held out is trained on. It says everything that it finds and changes nothing.

mod inputs;
mod leaks;
mod look;
mod problem;
mod stages;

pub use look::{Depth, Preflight};
pub use problem::{Place, Problem, Weight};
