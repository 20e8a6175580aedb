//! The engine on the CPU (and on what candle computes on): the decoder with its graph, sums of
//! gradients, AdamW, and a reference that moves.

mod engine;
mod gradients;
mod optimizer;
mod pass;
mod reference;
mod trained;

pub use engine::HostEngine;
pub use gradients::{Clip, Gradients, clip_by_global_norm};
pub use optimizer::AdamW;
pub use pass::{HostLearner, hidden_states};
pub use trained::Trained;
