//! Batched sampling from a policy.
//!
//! [`sample`] keeps a fixed number of rows in flight and refills rows that end. Every sample draws
//! from its own generator, so that a batch of one and a batch of sixteen give the same tokens.

mod engine;
mod sampler;

pub use engine::{Completion, GenerateError, SampleJob, sample};
pub use sampler::draw_token;
