//! Causal attention over packed segments, forward and backward.
//!
//! A pass goes over groups of segments in parallel (`segmented`); within a segment, a block of
//! queries meets keys in tiles of the triangle below the diagonal (`tiles`).

mod backward;
mod forward;
mod inputs;
mod segmented;
mod tiles;

pub use inputs::SegmentInputs;
pub use segmented::{attention_backward, attention_forward};
