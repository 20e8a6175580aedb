//! What distinguishes one decoder from another, whatever file it came from.

use crate::arch::layer::{AttentionShape, GateActivation, NormWeight};
use crate::arch::rope::RopeConfig;

/// A format of floating-point numbers, as `config.json` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FloatFormat {
    /// `float32`.
    #[default]
    F32,
    /// `bfloat16`.
    Bf16,
    /// `float16`.
    F16,
    /// `float64`.
    F64,
}

impl FloatFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::F16, Self::F64];

    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F64 => "float64",
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
    /// The family: the class that `config.json` names.
    pub architecture: &'static str,
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
    pub stored_dtype: FloatFormat,
}

impl DecoderConfig {
    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.windows.len()
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
