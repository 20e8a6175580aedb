//! The sources of `lions::model::kernels` and what they need of the rest, in a crate of their own.

#![allow(dead_code, unused_imports, reason = "ops and executors, which call the kernels, are not here")]

#[path = "../../src/model/kernels/mod.rs"]
mod kernels;
#[path = "../../src/arch/layer.rs"]
mod layer;

/// Under the path by which the kernels name one another.
mod model {
    pub(crate) use crate::kernels;
}

mod arch {
    pub use crate::layer::{AttentionShape, GateActivation};
}
