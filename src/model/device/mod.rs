//! Models that are asked and not trained on a device of [`gpu`](crate::gpu).

mod frozen;
mod opener;
mod reader;
mod reward;
#[cfg(test)]
mod tests;
mod upload;

pub use frozen::DeviceModel;
pub use opener::DeviceOpener;
pub use upload::{WeightSource, frozen_parts, placed_parts, upload_rounded, upload_weights};
