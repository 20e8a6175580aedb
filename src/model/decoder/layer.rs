//! One layer op by op in candle's graph: the reference of the fused executors, and the way of
//! prompts into the cache and of other devices.

use crate::arch::DecoderConfig;
use crate::model::decoder::slot::{SLOTS, Slot};
use crate::model::error::ModelError;
use crate::model::kernels::rope::Rotation;
use crate::model::kernels::segments::Segments;
use crate::model::ops::{attention, gated, linear, rms_norm, rope};
use candle_core::{Result, Tensor};

/// Weight and optional bias of a linear map.
#[derive(Clone, Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Weights of one layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    input_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    o: Linear,
    /// Norm of the attention's output, before it is added (Gemma 2).
    attention_post_norm: Option<Tensor>,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
    /// Norm of the feed-forward part's output, before it is added (Gemma 2).
    mlp_post_norm: Option<Tensor>,
}

/// Where the tokens of one pass stand.
#[derive(Clone, Debug)]
pub(super) struct PassLayout {
    pub(super) rotation: Rotation,
    pub(super) segments: Segments,
}

impl Layer {
    pub(super) fn build(
        config: &DecoderConfig,
        layer: usize,
        take: &impl Fn(String) -> std::result::Result<Tensor, ModelError>,
    ) -> std::result::Result<Self, ModelError> {
        let norm = |name: &str| take(format!("model.layers.{layer}.{name}.weight"));
        let norm_if = |wanted: bool, name: &str| wanted.then(|| norm(name)).transpose();
        let map = |name: &str, bias: bool| -> std::result::Result<Linear, ModelError> {
            Ok(Linear {
                weight: norm(name)?,
                bias: bias
                    .then(|| take(format!("model.layers.{layer}.{name}.bias")))
                    .transpose()?,
            })
        };
        let after_attention = norm("post_attention_layernorm")?;
        let (attention_post_norm, mlp_norm) = if config.post_norms {
            (Some(after_attention), norm("pre_feedforward_layernorm")?)
        } else {
            (None, after_attention)
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            q: map("self_attn.q_proj", config.qkv_bias)?,
            k: map("self_attn.k_proj", config.qkv_bias)?,
            v: map("self_attn.v_proj", config.qkv_bias)?,
            q_norm: norm_if(config.qk_norm, "self_attn.q_norm")?,
            k_norm: norm_if(config.qk_norm, "self_attn.k_norm")?,
            o: map("self_attn.o_proj", config.output_bias)?,
            attention_post_norm,
            mlp_norm,
            gate: map("mlp.gate_proj", config.mlp_bias)?,
            up: map("mlp.up_proj", config.mlp_bias)?,
            down: map("mlp.down_proj", config.mlp_bias)?,
            mlp_post_norm: norm_if(config.post_norms, "post_feedforward_layernorm")?,
        })
    }

    /// Weights by their place in the fused layer.
    pub(super) fn slots(&self) -> [(Slot, Option<&Tensor>); SLOTS] {
        [
            (Slot::InputNorm, Some(&self.input_norm)),
            (Slot::Q, Some(&self.q.weight)),
            (Slot::K, Some(&self.k.weight)),
            (Slot::V, Some(&self.v.weight)),
            (Slot::QBias, self.q.bias.as_ref()),
            (Slot::KBias, self.k.bias.as_ref()),
            (Slot::VBias, self.v.bias.as_ref()),
            (Slot::QNorm, self.q_norm.as_ref()),
            (Slot::KNorm, self.k_norm.as_ref()),
            (Slot::O, Some(&self.o.weight)),
            (Slot::OBias, self.o.bias.as_ref()),
            (Slot::AttentionPostNorm, self.attention_post_norm.as_ref()),
            (Slot::MlpNorm, Some(&self.mlp_norm)),
            (Slot::Gate, Some(&self.gate.weight)),
            (Slot::Up, Some(&self.up.weight)),
            (Slot::Down, Some(&self.down.weight)),
            (Slot::GateBias, self.gate.bias.as_ref()),
            (Slot::UpBias, self.up.bias.as_ref()),
            (Slot::DownBias, self.down.bias.as_ref()),
            (Slot::MlpPostNorm, self.mlp_post_norm.as_ref()),
        ]
    }

    /// `x (T, D)` -> the layer's output `(T, D)` and its rotated keys and values `(T, K * E)`.
    pub(super) fn forward(
        &self,
        config: &DecoderConfig,
        index: usize,
        x: &Tensor,
        layout: &PassLayout,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (q, k, v) = self.project(config, x, &layout.rotation)?;
        let mixed = attention(&q, &k, &v, &layout.segments, config.attention(index))?; // (T, H * E)
        Ok((self.finish(config, x, &mixed)?, k, v))
    }

    /// Rotated queries `(T, H * E)` and keys, and values `(T, K * E)`.
    pub(super) fn project(
        &self,
        config: &DecoderConfig,
        x: &Tensor,
        rotation: &Rotation,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let normed = rms_norm(x, &self.input_norm, config.norm_eps, config.norm_weight)?; // (T, D)
        let heads = |x: Tensor, norm: &Option<Tensor>| -> Result<Tensor> {
            let Some(norm) = norm else { return Ok(x) };
            let (t, width) = x.dims2()?;
            let by_head = x.reshape((t * width / config.head_dim, config.head_dim))?; // (T * H, E)
            rms_norm(&by_head, norm, config.norm_eps, config.norm_weight)?.reshape((t, width))
        };
        let q = rope(&heads(self.q.forward(&normed)?, &self.q_norm)?, rotation)?; // (T, H * E)
        let k = rope(&heads(self.k.forward(&normed)?, &self.k_norm)?, rotation)?; // (T, K * E)
        Ok((q, k, self.v.forward(&normed)?))
    }

    /// Adds attention's output projection and the feed-forward part to `x (T, D)`.
    pub(super) fn finish(
        &self,
        config: &DecoderConfig,
        x: &Tensor,
        mixed: &Tensor,
    ) -> Result<Tensor> {
        let post = |x: Tensor, norm: &Option<Tensor>| match norm {
            Some(norm) => rms_norm(&x, norm, config.norm_eps, config.norm_weight),
            None => Ok(x),
        };
        let x = (x + post(self.o.forward(mixed)?, &self.attention_post_norm)?)?; // (T, D)
        let normed = rms_norm(&x, &self.mlp_norm, config.norm_eps, config.norm_weight)?;
        let (gate, up) = (self.gate.forward(&normed)?, self.up.forward(&normed)?); // (T, F)
        let inner = gated(&gate, &up, config.activation)?;
        x + post(self.down.forward(&inner)?, &self.mlp_post_norm)?
    }
}
