//! Memory that work on a decoder takes at its peak on the CPU, from the shape of the model.
//!
//! - Training holds, for each weight that learns, 16 bytes: the weight, its gradient and two moments,
//!   in `f32`. In bf16 it is 22: the weight (2), a working copy of it, its gradient, a master copy and
//!   two moments. Weights that do not learn take their own size, in bf16 with an `f32` copy beside.
//! - Adapters leave the matrices that they change as they are and add two of the same size, their
//!   product and the sum, and the gradient of both.
//! - Of every position that a pass computes, each layer keeps what its backward pass reads (half as
//!   much in bf16), or its input alone if it is computed again; measuring keeps one layer's.
//! - The head holds the logits of a block of scored positions.
//! - Saving a state takes a tensor at a time and so less than a step; see `written`.
//!
//! A step has two peaks: the end of its forward pass, when the activations of all layers and the
//! gradient of the head are there, and that of its backward pass, when all gradients are. Within 2 %
//! of what `lions bench train` measured on Llama, Gemma 2 and Qwen 3 shapes of 22 to 27 million weights,
//! with 16 to 2,048 positions.

use crate::arch::config::DecoderConfig;
use crate::arch::cost::{Learned, parameter_count};

/// What a process takes that has read a model of no size and some data, bytes: measured.
pub const PROCESS_BYTES: u64 = 48 << 20;

/// Scored positions whose logits the engine holds at once, for a vocabulary of so many pieces. Those of
/// a small vocabulary stay in the cache: about a quarter of a million. Those of a large one cannot;
/// there the head is read anew for each chunk, so chunks are as long as 128 MiB of `f32` logits allow,
/// and 256 rows at least.
pub fn logit_rows(vocab: usize) -> usize {
    const SMALL: usize = 1024;
    let held = if vocab <= SMALL { 1 << 18 } else { 1 << 25 };
    (held / vocab.max(1)).clamp(256, 1024)
}

/// What is computed, as far as its memory goes.
#[derive(Clone, Copy, Debug)]
pub struct Footprint<'a> {
    /// Weights and activations are bf16.
    pub bf16: bool,
    /// What learns; absent: nothing, passes are forward only.
    pub learned: Option<&'a Learned>,
    /// Positions of one pass.
    pub positions: f64,
    /// Those among them whose next token is scored.
    pub scored: f64,
    /// A step takes several passes, whose gradients are summed.
    pub split: bool,
    /// Layers are computed again in the backward pass.
    pub recompute: bool,
}

impl Footprint<'_> {
    /// Bytes at the peak.
    pub fn peak(&self, config: &DecoderConfig) -> f64 {
        let vocab = config.vocab_size as f64;
        let table = 4.0 * vocab * config.hidden_size as f64;
        let logits = 4.0 * vocab * self.scored.min(logit_rows(config.vocab_size) as f64);
        let layer = 4.0 * self.positions * kept_by_a_layer(config);
        let hidden = 4.0 * self.positions * config.hidden_size as f64;
        // Its input, what it keeps, and what of that waits to be shortened.
        let before = PROCESS_BYTES as f64 + self.weights(config);
        let Some(learned) = self.learned else {
            return before + layer + 2.0 * hidden + logits;
        };
        let gradients = gradients(config, learned);
        let sums = if self.split { gradients } else { 0.0 };
        let layers = config.layers() as f64;
        let kept = match (self.recompute, self.bf16) {
            (false, false) => layers * layer,
            (false, true) => layers * layer / 2.0 + layer,
            (true, false) => layers * hidden + layer,
            (true, true) => layers * hidden / 2.0 + layer,
        };
        let all = *learned == Learned::All;
        // Hidden states before and after the last norm, and the gradients of both.
        let forward = kept + 4.0 * hidden + logits + if all { table } else { 0.0 };
        // The table's gradient comes from the embedding and, if it is tied, from the head; the
        // engine adds each to zeros.
        let backward = gradients + layer + if all { 3.0 * table } else { 0.0 };
        before + (sums + forward.max(backward)).max(self.written(config, table))
    }

    /// What writing the model takes when the gradients are gone, bytes. States and weights are written tensor
    /// by tensor, which a step's peak covers; adapters in bf16 are written into the weights of the
    /// model's folder, which are read for that in `f32`.
    fn written(&self, config: &DecoderConfig, table: f64) -> f64 {
        match self.learned {
            Some(Learned::Adapters { .. }) if self.bf16 => {
                4.0 * parameter_count(config) as f64 + 2.0 * table
            }
            _ => 0.0,
        }
    }

    /// Weights with their copies and moments, bytes.
    fn weights(&self, config: &DecoderConfig) -> f64 {
        let params = parameter_count(config) as f64;
        let stored = if self.bf16 { 2.0 + 4.0 } else { 4.0 };
        let optimizer = match self.learned {
            None => 0.0,
            Some(Learned::All) if self.bf16 => 12.0 * params,
            Some(Learned::All) => 8.0 * params,
            // Adapters are `f32`; product and sum of each matrix that they change.
            Some(learned) => {
                12.0 * learned.parameters(config) as f64 + 8.0 * learned.changed(config)
            }
        };
        stored * params + optimizer
    }
}

/// Gradients of one pass, bytes.
fn gradients(config: &DecoderConfig, learned: &Learned) -> f64 {
    let own = 4.0 * learned.parameters(config) as f64;
    // Those of the matrices that adapters change, and of the changes.
    own + 8.0 * learned.changed(config)
}

/// Numbers that a layer keeps of each position for its backward pass: its input and that of the
/// feed-forward part, queries, keys and values, the attention's output with a normaliser a head,
/// both inputs of the gate, and what norms of queries, keys and outputs were given.
fn kept_by_a_layer(config: &DecoderConfig) -> f64 {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let head_norms = if config.qk_norm { q + kv } else { 0 };
    let post_norms = if config.post_norms { 2 * d } else { 0 };
    (2 * d + 2 * q + 2 * kv + config.heads + 2 * f + head_norms + post_norms) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The shape that was measured, but for what a family says.
    fn shape(family: &str) -> DecoderConfig {
        let text = format!(
            r#"{{{family}, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6,
                "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 8192}}"#
        );
        DecoderConfig::from_json(Path::new("config.json"), &text).unwrap()
    }

    // `lions bench train --steps 1 --warmup 1` on such shapes, x86-64 with glibc, peak in MB.
    #[test]
    fn peaks_are_those_that_were_measured() {
        let llama = r#""model_type": "llama""#;
        let gemma2 = r#""model_type": "gemma2", "head_dim": 64"#;
        let qwen3 = r#""model_type": "qwen3", "tie_word_embeddings": true"#;
        let measured = [
            (llama, 16.0, false, 521.3),
            (llama, 1024.0, false, 562.9),
            (llama, 2048.0, false, 708.2),
            (llama, 16.0, true, 677.7),
            (llama, 1024.0, true, 700.2),
            (gemma2, 16.0, false, 450.5),
            (gemma2, 1024.0, false, 536.9),
            (qwen3, 1024.0, false, 647.9),
        ];
        for (family, positions, bf16, peak) in measured {
            let footprint = Footprint {
                bf16,
                learned: Some(&Learned::All),
                positions,
                scored: positions,
                split: false,
                recompute: false,
            };
            let got = footprint.peak(&shape(family)) / 1e6;
            let error = got / peak - 1.0;
            assert!(
                error.abs() < 0.03,
                "{family} {positions}: {got} is not {peak}"
            );
        }
    }
}
