//! What a decoder is, read from `config.json`: its shape and form, its tensors, what it costs.
//!
//! Nothing here computes: no tensors, no devices. [`DecoderConfig`] is the one description of a
//! model that planning, training and measuring share. `families` says what the families of decoders
//! differ in, `hf_config` is the one reader of `config.json`, `layout` names the tensors, `cost` counts
//! parameters and operations, `memory` what work on a model takes on the CPU, `card_memory` what on a card.

mod activations;
mod card_memory;
mod config;
mod cost;
mod error;
mod families;
mod hf_config;
mod layer;
mod layout;
mod memory;
mod rope;

pub use activations::{
    ACTIVATION_ALIGNMENT, Extent, Keep, PARTS, activation_bytes, head_rows, layers_that_fit,
};
pub use card_memory::{
    CardFootprint, JOINING_ROOM, PARAMETER_ALIGNMENT, SHARE_ALIGNMENT, largest_pass,
    parameter_numbers, passed_at_once, room_for_arrays, share_of_card, state_room, usable_of_card,
};
pub use config::{DecoderConfig, FloatFormat};
pub use cost::{Learned, Pass, forward_flops, parameter_count, training_flops};
pub use error::ArchError;
pub(crate) use hf_config::{MOST_COUNT, MOST_WIDTH};
pub use layer::{AttentionShape, GateActivation, NormWeight};
pub use layout::{EMBEDDING, decays};
pub use memory::{Footprint, PROCESS_BYTES, logit_rows};
pub use rope::{RopeConfig, RopeScaling};
