//! Passes of a decoder on a device, forward and backward, written by hand over flat arrays.
//!
//! [`Parts`] says what a decoder consists of and in which order its parameters lie ([`Layout`]). A [`Batch`] is checked
//! on the host, which is what kernels that follow its numbers rely on. Activations lie in one piece of memory, whose
//! places one function gives ([`Activations`]); a pass allocates nothing once that is large enough. [`Passes`] is the way
//! in.
//!
//! Letters of shapes as in the rest: T positions, D width, H query heads, K key and value heads, E head width, F inner
//! width, V vocabulary, N targets, R rank of adapters.

mod activations;
mod batch;
mod continuing;
mod convert;
mod head;
mod key_values;
mod layer;
mod layout;
mod linear;
mod pages;
mod parts;
mod passes;
mod reading;
#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use batch::Batch;
pub use continuing::Prompt;
pub use convert::{beside, rounded, widened};
pub use head::Found;
pub use key_values::KeyValues;
pub use layout::{Layout, Place};
pub use linear::{Adapter, Weight, product};
pub use pages::{Pages, Sequence};
pub use parts::{LayerParts, Linear, Parts};
pub use passes::{Passes, Shape, check_heads};
