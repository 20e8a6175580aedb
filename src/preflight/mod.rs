//! What a sweep would use, looked at before any of it runs.
//!
//! [`Preflight`] opens model folders, those of judges and filters, too (`config.json` against the headers
//! of the weights, tokenizer, template), and data files (their rows, and a sample of those through template
//! and tokenizer), asks whether each stage has as many rows as it is told to use and would train at all,
//! and whether what is held out is trained on. It says everything that it finds and changes nothing.

mod folders;
mod inputs;
mod judges;
mod leaks;
mod lengths;
mod look;
mod problem;
mod rows;
mod selection;
mod stages;
mod trial;

pub use look::{Depth, Preflight};
pub use problem::{Place, Problem, Weight};
