//! What a decoder is, read from `config.json`: its shape and form, its tensors, what it costs.
//!
//! Nothing here computes: no tensors, no devices. [`DecoderConfig`] is the one description of a
//! model that planning, training and measuring share. `hf_config` is the one reader of
//! `config.json`, `layout` names the tensors, `cost` counts them and their operations.

mod config;
mod cost;
mod error;
mod hf_config;
mod layer;
mod layout;
mod rope;

pub use config::{Architecture, DecoderConfig, FloatFormat};
pub use cost::{flops_per_token, head_flops, parameter_count};
pub use error::ArchError;
pub use layer::{AttentionShape, GateActivation, NormWeight};
pub use layout::EMBEDDING;
pub use rope::{RopeConfig, RopeScaling};
