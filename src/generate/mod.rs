//! Batched sampling from a policy.

mod sampler;

pub use sampler::draw_token;
