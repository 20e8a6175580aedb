//! Memory that work on a decoder takes on a card, from the shape of the model.
//!
//! - Parameters that learn lie in arrays of their own: 16 bytes each, whatever passes read: in f32 the number, its
//!   gradient and two moments; in bf16 the number in two halves, one of which passes read. Adapters in bf16 take two more.
//!   Where that does not fit, moments and the half that passes do not read lie on the host: 8 or 6 bytes stay.
//! - Frozen parameters take their own size; under adapters, the model with them added as much again where it is measured
//!   or moved towards, and one matrix in f32.
//! - Activations are of one size for all passes of so many positions ([`activation_bytes`]).
//!
//! The driver's own share of the memory, and cuBLAS's, are not in it. Keys and values of sampling take what is left.

use crate::arch::activations::{Extent, Keep, activation_bytes, head_rows};
use crate::arch::config::DecoderConfig;
use crate::arch::cost::Learned;
use std::num::NonZeroU32;

/// Bytes a number of the optimiser's state that may lie on the host: two moments, and with bf16 weights what they lack.
const STATE_BYTES_F32: usize = 8;
const STATE_BYTES_BF16: usize = 10;

/// Numbers to whose multiples each parameter is aligned in an array that all share: 128 bytes of bf16.
pub const PARAMETER_ALIGNMENT: usize = 64;

/// Numbers to whose multiples the shares begin that cards have of an array: those that a part of a norm is made of.
pub const SHARE_ALIGNMENT: usize = 4096;

/// Numbers of an array that pass from one card to another at a time, at most.
const PASSED: usize = 8 << 20;

/// Numbers that pass from one of `ranks` cards to another at a time, of arrays of so many.
pub fn passed_at_once(len: usize, ranks: usize) -> usize {
    let each = len.div_ceil(ranks.max(1)).next_multiple_of(SHARE_ALIGNMENT);
    each.min(len).clamp(1, PASSED)
}

/// Bytes of the room where halves are made whole for files, at most.
pub const JOINING_ROOM: usize = 64 << 20;

/// What a process takes of a card beside its arrays, bytes: the driver's context, the kernels that are loaded, and cuBLAS with
/// its working memory. Some 500 MiB are usual on large cards.
const PROCESS_SHARE: u64 = 768 << 20;

/// What one of `runs` that share a card may allocate there, bytes; nothing of a card that is too small for so many.
pub fn share_of_card(bytes: u64, runs: NonZeroU32) -> u64 {
    match runs.get() {
        1 => bytes,
        runs => (bytes / u64::from(runs)).saturating_sub(PROCESS_SHARE),
    }
}

/// What arrays may take of a card's free bytes where it has `total`: a thirty-second of all is left to what batches upload and
/// what products take to work with.
pub fn room_for_arrays(free: u64, total: u64) -> u64 {
    free.saturating_sub(total / 32)
}

/// What the arrays of one of `runs` on a card of so many bytes may take there, as the run itself finds it when it begins.
pub fn usable_of_card(bytes: u64, runs: NonZeroU32) -> u64 {
    if runs.get() == 1 {
        return room_for_arrays(bytes.saturating_sub(PROCESS_SHARE), bytes);
    }
    let share = share_of_card(bytes, runs);
    room_for_arrays(share, share)
}

/// Positions of the largest pass: what a micro-batch takes, or one row if that is longer, but no more than a whole step.
pub fn largest_pass(micro_batch: usize, row: usize, step: usize) -> usize {
    micro_batch.max(row).min(step)
}

/// Numbers of a piece of the optimiser's state that comes from the host, of so many: a sixteenth, or as many as
/// [`JOINING_ROOM`] takes, enough for the time of a copy not to be that of its start.
pub fn state_room(count: usize) -> usize {
    let part = count.div_ceil(16).next_multiple_of(PARAMETER_ALIGNMENT);
    part.min(JOINING_ROOM / 4).min(count)
}

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
    /// Moments, and what bf16 weights lack, lie on the host, if all weights learn.
    pub state_on_host: bool,
    /// Cards that share the training, this among them: each has all weights and gradients, and its share of the rest.
    pub ranks: usize,
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
                let scratch = 4 * largest_tensor(config);
                model * width + merged + scratch + self.learning(own, true)
            }
        };
        let reference = match self.reference {
            None => 0,
            Some(share) if share >= 1.0 || !self.bf16 => model * width,
            Some(_) => model * 6,
        };
        let activations = activation_bytes(config, &extent, width);
        let passing = match self.ranks {
            0 | 1 => 0,
            ranks => 4 * ranks * passed_at_once(model, ranks),
        };
        (passing + parameters + reference + angles + activations) as u64
    }

    /// Bytes of page-locked memory of the host at the peak: the optimiser's state of all weights, if that is where it lies.
    pub fn on_host(&self, config: &DecoderConfig) -> u64 {
        if !self.state_on_host || !matches!(self.learned, Some(Learned::All)) {
            return 0;
        }
        (self.state_bytes() * self.share(parameter_numbers(config))) as u64
    }

    /// Bytes of the optimiser's state that may lie on the host, of each number.
    fn state_bytes(&self) -> usize {
        if self.bf16 {
            STATE_BYTES_BF16
        } else {
            STATE_BYTES_F32
        }
    }

    /// Arrays of so many parameters that learn.
    fn learning(&self, count: usize, are_adapters: bool) -> usize {
        // Adapters in bf16 have whole masters.
        let state = if are_adapters {
            STATE_BYTES_F32
        } else {
            self.state_bytes()
        };
        let own = self.share(count);
        // The sums of gradients of all cards.
        let sums = if self.ranks > 1 { 4 * own } else { 0 };
        let everywhere = (16 - state) * count + sums;
        if self.state_on_host && !are_adapters {
            let joining = if self.bf16 { 4 } else { 0 };
            return everywhere + (state + joining) * state_room(own);
        }
        let beside = match (self.bf16, are_adapters) {
            (false, _) => 0,
            (true, true) => 2 * count,
            (true, false) => JOINING_ROOM.min(4 * own),
        };
        everywhere + state * own + beside
    }

    /// How many of so many numbers are updated here.
    fn share(&self, count: usize) -> usize {
        match self.ranks {
            0 | 1 => count,
            ranks => count
                .div_ceil(ranks)
                .next_multiple_of(SHARE_ALIGNMENT)
                .min(count),
        }
    }
}

/// Numbers of the largest tensor of a decoder.
fn largest_tensor(config: &DecoderConfig) -> usize {
    let tensors = config.tensors();
    tensors.values().map(|s| numbers(s)).max().unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    // By hand: 81,920 MiB less 768 and a thirty-second, 2,560; a quarter is 20,480 less 768, and less a thirty-second of that.
    #[test]
    fn what_a_run_may_take_of_a_card_is_what_the_driver_and_batches_leave() {
        let (card, runs) = (81_920 << 20, |n| NonZeroU32::new(n).unwrap());
        assert_eq!(usable_of_card(card, runs(1)), 78_592 << 20);
        assert_eq!(share_of_card(card, runs(4)), 19_712 << 20);
        assert_eq!(usable_of_card(card, runs(4)), (19_712 - 616) << 20);
        assert_eq!(usable_of_card(1 << 20, runs(1)), 0);
        assert_eq!(usable_of_card(card, runs(1000)), 0);
    }

    #[test]
    fn a_row_that_is_longer_than_a_micro_batch_is_computed_whole() {
        assert_eq!(largest_pass(8192, 2048, 100_000), 8192);
        assert_eq!(largest_pass(8192, 16_384, 100_000), 16_384);
        assert_eq!(largest_pass(8192, 2048, 4096), 4096);
    }
}
