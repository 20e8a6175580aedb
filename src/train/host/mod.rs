//! The engine on the CPU: the decoder with its graph, sums of
//! gradients, AdamW, and a reference that moves.

mod engine;
mod gradients;
mod open;
mod optimizer;
mod pass;
mod reference;
mod trained;

pub use engine::HostEngine;
pub use gradients::{Clip, Gradients, clip_by_global_norm};
pub use open::open_on_host;
pub use optimizer::AdamW;
pub use pass::{HostLearner, hidden_states};
pub use trained::Trained;
