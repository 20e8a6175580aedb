//! What distinguishes one decoder from another, whatever file it came from.

use crate::model::error::ModelError;
use crate::model::ops::{AttentionShape, GateActivation, NormWeight};
use crate::model::{hf_config, layout};
use candle_core::DType;
use std::collections::BTreeMap;
use std::path::Path;

/// The families that the decoder implements, by their Hugging Face architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`: Llama 1 to 3, SmolLM 1 and 2, and many others.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `GemmaForCausalLM`.
    Gemma,
    /// `Gemma2ForCausalLM`.
    Gemma2,
    /// `Qwen2ForCausalLM`.
    Qwen2,
    /// `Qwen3ForCausalLM`.
    Qwen3,
}

/// Stretching of rotary frequencies for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_max / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length of pre-training.
        original_max: f64,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Stretching.
    pub scaling: RopeScaling,
}

impl RopeConfig {
    /// Frequencies `(E/2,)` in radians a position.
    pub fn inv_freq(&self, head_dim: usize) -> Vec<f64> {
        let half = head_dim / 2;
        (0..half)
            .map(|i| self.scale(self.theta.powf(-(i as f64) / half as f64)))
            .collect()
    }

    fn scale(&self, freq: f64) -> f64 {
        match self.scaling {
            RopeScaling::Default => freq,
            RopeScaling::Linear { factor } => freq / factor,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max,
            } => {
                let wavelength = 2.0 * std::f64::consts::PI / freq;
                if wavelength > original_max / low_freq_factor {
                    freq / factor
                } else if wavelength < original_max / high_freq_factor {
                    freq
                } else {
                    let smooth = (original_max / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * freq / factor + smooth * freq
                }
            }
        }
    }
}

/// Shape and form of a decoder.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent features, each on or off"
)]
pub struct DecoderConfig {
    /// Family.
    pub architecture: Architecture,
    /// V.
    pub vocab_size: usize,
    /// D.
    pub hidden_size: usize,
    /// F.
    pub intermediate_size: usize,
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// E; not always D / H.
    pub head_dim: usize,
    /// Longest context that the model was made for, tokens.
    pub max_positions: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// Meaning of norm weights.
    pub norm_weight: NormWeight,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// Activation of the gate.
    pub activation: GateActivation,
    /// The head is the embedding table.
    pub tied: bool,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub output_bias: bool,
    /// Biases in the feed-forward part.
    pub mlp_bias: bool,
    /// Norms on each query and key head (Qwen 3).
    pub qk_norm: bool,
    /// Norms after attention and feed-forward part as well as before (Gemma 2).
    pub post_norms: bool,
    /// Factor on the embeddings (Gemma: square root of D).
    pub embedding_scale: Option<f64>,
    /// Factor on attention scores.
    pub attention_scale: f64,
    /// Cap of attention scores (Gemma 2).
    pub attention_softcap: Option<f64>,
    /// Cap of logits (Gemma 2).
    pub logit_softcap: Option<f64>,
    /// For each layer, how many tokens a token sees, itself included; `None`: all.
    pub windows: Vec<Option<usize>>,
    /// Number format of the weights on disk.
    pub stored_dtype: DType,
}

impl DecoderConfig {
    /// Reads `config.json` of a folder in Hugging Face layout, as written by transformers 4 or 5.
    ///
    /// # Errors
    /// The file is missing, no JSON, lacks a field, or asks for something not implemented.
    pub fn from_file(dir: &Path) -> Result<Self, ModelError> {
        hf_config::read(&dir.join("config.json"))
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// Names and shapes of all tensors, as Hugging Face writes them.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        layout::tensors(self)
    }

    /// Attention of one layer.
    pub(crate) fn attention(&self, layer: usize) -> AttentionShape {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.attention_scale,
            softcap: self.attention_softcap,
            window: self.windows.get(layer).copied().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // By the formula of transformers' `_compute_llama3_parameters`: theta 4, E = 4, so the
    // frequencies are 1 and 1/2 with wavelengths 6.28 and 12.57; original length 16.
    #[test]
    fn llama3_scaling_keeps_short_waves_and_stretches_long_ones() {
        let rope = |low, high| RopeConfig {
            theta: 4.0,
            scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max: 16.0,
            },
        };
        // 12.57 > 16 / 2: stretched; 6.28 < 16 / 2.2: kept.
        assert_eq!(rope(2.0, 2.2).inv_freq(4), [1.0, 0.5 / 8.0]);
        // 12.57 between 16 / 4 and 16 / 1: smooth = (16 / 12.566 - 1) / 3 = 0.0911
        let smooth = (16.0 / (4.0 * std::f64::consts::PI) - 1.0) / 3.0;
        let want = (1.0 - smooth) * 0.5 / 8.0 + smooth * 0.5;
        assert!((rope(1.0, 4.0).inv_freq(4)[1] - want).abs() < 1e-15);
    }
}
