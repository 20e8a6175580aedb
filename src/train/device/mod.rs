//! The engine on a device of [`gpu`](crate::gpu): passes written by hand over flat arrays, AdamW with f32 masters,
//! adapters, and a reference that moves; on one device or on several at once (`several.rs`). Its arrays have the names, shapes and order of the host's.

mod adapters;
mod engine;
mod learner;
mod learning;
mod machine;
mod masters;
mod open;
mod pieces;
mod reference;
mod several;
#[cfg(test)]
mod several_tests;
mod state;
#[cfg(test)]
mod tests;

pub use engine::DeviceEngine;
pub use learner::open_learner_on_device;
pub use open::open_on_device;
pub use several::{OpenRank, Ranks, open_on_devices};
