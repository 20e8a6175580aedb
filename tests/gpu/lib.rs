//! The sources of `lions::gpu` and what they need of the rest, in a crate of their own.

#[path = "../../src/gpu/mod.rs"]
pub mod gpu;
#[allow(dead_code, reason = "the kernels need not all of it")]
#[path = "../../src/model/kernels/shape.rs"]
mod layer;

/// Under the path by which the kernels name it.
mod arch {
    pub use crate::layer::{AttentionShape, GateActivation};
}
