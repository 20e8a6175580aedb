//! Memory that work on a decoder takes on a card, from the shape of the model.
//!
//! - Parameters that learn lie in arrays of their own: 16 bytes each, whatever passes read: in f32 the number, its
//!   gradient and two moments; in bf16 the number in two halves, one of which passes read. Adapters in bf16 take two more.
//! - Frozen parameters take their own size; under adapters, the model with them added as much again where it is measured
//!   or moved towards, and one matrix in f32.
//! - Activations are of one size for all passes of so many positions ([`activation_bytes`]).
//!
//! The driver's own share of the memory, and cuBLAS's, are not in it. Keys and values of sampling take what is left.

use crate::arch::activations::{Extent, Keep, activation_bytes, head_rows};
use crate::arch::config::DecoderConfig;
use crate::arch::cost::Learned;

/// Numbers to whose multiples each parameter is aligned in an array that all share: 128 bytes of bf16.
pub const PARAMETER_ALIGNMENT: usize = 64;

/// Bytes of the room where halves are made whole for files, at most.
pub const JOINING_ROOM: usize = 64 << 20;

/// What is computed on a card, as far as its memory goes.
#[derive(Clone, Copy, Debug)]
pub struct CardFootprint<'a> {
    /// Weights and activations are bf16.
    pub bf16: bool,
    /// What learns; absent: nothing, passes are forward only.
    pub learned: Option<&'a Learned>,
    /// Positions of one pass.
    pub positions: usize,
    /// Layers whose activations are kept for the backward pass; the others are computed again.
    pub kept_layers: usize,
    /// The model is measured while it learns.
    pub measured: bool,
    /// The share of the policy in a reference that moves, if one does.
    pub reference: Option<f64>,
}

impl CardFootprint<'_> {
    /// Bytes at the peak.
    pub fn peak(&self, config: &DecoderConfig) -> u64 {
        let width = if self.bf16 { 2 } else { 4 };
        let model = parameter_numbers(config);
        let extent = Extent {
            positions: self.positions,
            keep: match self.learned {
                None => Keep::Nothing,
                Some(_) => Keep::Layers(self.kept_layers),
            },
            head_rows: head_rows(config.vocab_size),
            rank: match self.learned {
                Some(Learned::Adapters { rank, .. }) => *rank,
                _ => 0,
            },
        };
        let angles = 4 * self.positions.next_power_of_two() * config.head_dim;
        let parameters = match self.learned {
            None => model * width,
            Some(Learned::All) => self.learning(model, false),
            Some(learned @ Learned::Adapters { .. }) => {
                let own = learned.parameters(config) as usize;
                let merged = if self.measured || self.reference.is_some() {
                    model * width
                } else {
                    0
                };
                let largest = config.tensors().values().map(|s| numbers(s)).max();
                let scratch = 4 * largest.unwrap_or(0);
                model * width + merged + scratch + self.learning(own, true)
            }
        };
        let reference = match self.reference {
            None => 0,
            Some(share) if share >= 1.0 || !self.bf16 => model * width,
            Some(_) => model * 6,
        };
        let activations = activation_bytes(config, &extent, width);
        (parameters + reference + angles + activations) as u64
    }

    /// Arrays of so many parameters that learn.
    fn learning(&self, count: usize, are_adapters: bool) -> usize {
        let beside = match (self.bf16, are_adapters) {
            (false, _) => 0,
            (true, true) => 2 * count,
            (true, false) => JOINING_ROOM.min(4 * count),
        };
        16 * count + beside
    }
}

fn numbers(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Numbers of an array that all parameters of a decoder share, with what lies between them.
pub fn parameter_numbers(config: &DecoderConfig) -> usize {
    let tensors = config.tensors();
    let aligned = |shape: &Vec<usize>| numbers(shape).next_multiple_of(PARAMETER_ALIGNMENT);
    tensors.values().map(aligned).sum()
}
