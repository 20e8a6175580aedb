//! The decoder on packed tokens: embedding, layers, final norm, head.

use crate::arch::{DecoderConfig, Learned};
use crate::model::decoder::decode::DecodeWeights;
use crate::model::decoder::fused::{Recompute, Stack};
use crate::model::decoder::fused_layer::LayerShape;
use crate::model::decoder::layer::{Layer, PassLayout};
use crate::model::decoder::slot::SLOTS;
use crate::model::error::ModelError;
use crate::model::kernels::matmul::Operands;
use crate::model::kernels::rope::Rotation;
use crate::model::kernels::segments::Segments;
use crate::model::ops::storage::{Path, path};
use crate::model::ops::{
    SummedNll, Targets, TokenStats, embedding, linear, rms_norm, summed_nll, token_logps,
};
use crate::model::phase_timer::{Phase, end_phase};
use crate::model::weights::{FrozenParams, Lora, Params};
use candle_core::{DType, Device, Result, Tensor};

/// A decoder over weights that are tracked ([`Decoder::trainable`]) or not ([`Decoder::frozen`]).
///
/// It holds its weights by reference count: a decoder built from [`Params`] sees every update.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: DecoderConfig,
    inv_freq: Vec<f64>,
    embed: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
    recompute: Recompute,
    /// Activations are those of bf16.
    bf16_activations: bool,
    learned: Learned,
}

impl Decoder {
    /// A decoder that records gradients for every parameter.
    ///
    /// # Errors
    /// A parameter is missing or of another shape than `config` says.
    pub fn trainable(
        config: &DecoderConfig,
        params: &Params,
    ) -> std::result::Result<Self, ModelError> {
        Self::build(config, |name| {
            params.get(name).map(|var| var.as_tensor().clone())
        })
    }

    /// A decoder that records nothing.
    ///
    /// # Errors
    /// A parameter is missing or of another shape than `config` says.
    pub fn frozen(
        config: &DecoderConfig,
        params: &FrozenParams,
    ) -> std::result::Result<Self, ModelError> {
        Self::build(config, |name| params.get(name).map(Tensor::detach))
    }

    /// A decoder that records gradients for the adapters of a model.
    ///
    /// # Errors
    /// A parameter is missing or of another shape than `config` says, or the device refuses.
    pub fn adapted(config: &DecoderConfig, lora: &Lora) -> std::result::Result<Self, ModelError> {
        let mut weights = std::collections::BTreeMap::new();
        for name in config.tensors().into_keys() {
            if let Some(weight) = lora.weight(&name)? {
                weights.insert(name, weight);
            }
        }
        let mut decoder = Self::build(config, |name| weights.get(name).cloned())?;
        decoder.learned = lora.learned();
        Ok(match lora.dtype() {
            DType::BF16 => decoder.with_bf16_activations(),
            _ => decoder,
        })
    }

    fn build(
        config: &DecoderConfig,
        get: impl Fn(&str) -> Option<Tensor>,
    ) -> std::result::Result<Self, ModelError> {
        let shapes = config.tensors();
        let take = |name: String| -> std::result::Result<Tensor, ModelError> {
            let tensor =
                get(&name).ok_or_else(|| ModelError::MissingParameter { name: name.clone() })?;
            match shapes.get(&name) {
                Some(shape) if shape == tensor.dims() => Ok(tensor),
                shape => Err(candle_core::Error::Msg(format!(
                    "parameter `{name}` has shape {:?}, the configuration asks for {shape:?}",
                    tensor.dims()
                ))
                .into()),
            }
        };
        let embed = take("model.embed_tokens.weight".into())?;
        Ok(Self {
            inv_freq: config.rope.inv_freq(config.head_dim),
            layers: (0..config.layers())
                .map(|layer| Layer::build(config, layer, &take))
                .collect::<std::result::Result<_, _>>()?,
            norm: take("model.norm.weight".into())?,
            head: if config.tied {
                embed.clone()
            } else {
                take("lm_head.weight".into())?
            },
            bf16_activations: embed.dtype() == DType::BF16,
            embed,
            config: config.clone(),
            recompute: Recompute::Nothing,
            learned: Learned::All,
        })
    }

    /// The same decoder with another choice between memory and time in the backward pass.
    #[must_use]
    pub fn with_recompute(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// The same decoder with activations rounded to bf16 on the CPU whatever the format of its
    /// weights; see [`Params::working`]. With weights in bf16 they always are.
    #[must_use]
    pub fn with_bf16_activations(self) -> Self {
        Self {
            bf16_activations: true,
            ..self
        }
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The weights that a training of it changes.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Hidden states after the final norm, `(T, D)`, of the `tokens (T,)` at `positions (T,)` in
    /// the segments `cu_seqlens (S + 1,)`; attention is causal and blocked between segments.
    ///
    /// # Errors
    /// Lengths differ, a token is outside the vocabulary, or the segments do not cover the tokens.
    pub fn hidden(&self, tokens: &[u32], positions: &[u32], cu_seqlens: &[u32]) -> Result<Tensor> {
        self.hidden_in(tokens, positions, &Segments::new(cu_seqlens))
    }

    /// As [`Decoder::hidden`], in segments of which some may continue others. The positions of a
    /// suffix continue those of its prefix.
    ///
    /// # Errors
    /// As [`Decoder::hidden`]; a suffix does not stand behind its prefix.
    pub fn hidden_in(
        &self,
        tokens: &[u32],
        positions: &[u32],
        segments: &Segments,
    ) -> Result<Tensor> {
        end_phase(Phase::Data);
        let layout = self.layout(tokens, positions, segments)?;
        let hidden = match self.stack()? {
            Some(stack) => stack.hidden(tokens, &layout.rotation, segments, self.recompute),
            None => self.hidden_by_ops(tokens, &layout),
        };
        end_phase(Phase::Forward);
        hidden
    }

    /// As [`Decoder::hidden`], op by op in the graph: on accelerators, and as the twin in tests.
    pub(super) fn hidden_by_ops(&self, tokens: &[u32], layout: &PassLayout) -> Result<Tensor> {
        let mut x = self.embed_tokens(tokens)?; // (T, D)
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&self.config, index, &x, layout)?.0;
        }
        self.final_norm(&x)
    }

    /// Log-probability in nats of `targets[i]` after position `rows[i]`, `(N,)` in `f32`.
    ///
    /// Differentiable; logits exist for a chunk of rows at a time, forward and backward.
    ///
    /// # Errors
    /// Lengths differ, or a row or token lies outside.
    pub fn token_logps(&self, hidden: &Tensor, rows: &[u32], targets: &[u32]) -> Result<Tensor> {
        Ok(self.token_logps_with_stats(hidden, rows, targets)?.0)
    }

    /// As [`Decoder::token_logps`], with what the same pass knows about each prediction.
    ///
    /// # Errors
    /// As [`Decoder::token_logps`].
    pub fn token_logps_with_stats(
        &self,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
    ) -> Result<(Tensor, TokenStats)> {
        let head = self.head.to_dtype(hidden.dtype())?;
        let scored = token_logps(hidden, &head, self.targets(rows, targets));
        end_phase(Phase::Head);
        scored
    }

    /// `-factor` times the sum of the log-probabilities of `targets[i]` after position `rows[i]`.
    ///
    /// Cheaper than a loss made of [`Decoder::token_logps`], with the same gradients: three products
    /// with the head instead of four, as the gradient is made going forward.
    ///
    /// # Errors
    /// As [`Decoder::token_logps`].
    pub fn summed_nll(
        &self,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
        factor: f64,
    ) -> Result<SummedNll> {
        let head = self.head.to_dtype(hidden.dtype())?;
        let nll = summed_nll(hidden, &head, self.targets(rows, targets), factor);
        end_phase(Phase::Head);
        nll
    }

    fn targets(&self, rows: &[u32], tokens: &[u32]) -> Targets {
        Targets {
            rows: rows.into(),
            tokens: tokens.into(),
            softcap: self.config.logit_softcap,
            operands: Operands::of(self.bf16_activations),
        }
    }

    /// Logits `(T, V)` of `hidden (T, D)`.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let dtype = match hidden.dtype() {
            DType::BF16 | DType::F16 if hidden.device().is_cpu() => DType::F32,
            dtype => dtype,
        };
        let head = self.head.to_dtype(dtype)?;
        let logits = linear(&hidden.to_dtype(dtype)?, &head, None)?; // (T, V)
        match self.config.logit_softcap {
            Some(cap) => (logits / cap)?.tanh()? * cap,
            None => Ok(logits),
        }
    }

    /// All layers as one op, if the weights are on the CPU (in `f64` in tests alone); half-precision weights are cast to
    /// `f32`, and so are the hidden states, whose values bf16 can hold if the weights are in bf16.
    fn stack(&self) -> Result<Option<Stack>> {
        let dtype = match path(&self.embed) {
            Path::Naive => return Ok(None),
            Path::F64 => DType::F64,
            Path::F32 | Path::Upcast => DType::F32,
        };
        let cast = |t: &Tensor| t.to_dtype(dtype)?.contiguous();
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let shape = LayerShape {
                width: self.config.hidden_size,
                inner: self.config.intermediate_size,
                attention: self.config.attention(index),
                eps: self.config.norm_eps,
                norm: self.config.norm_weight,
                activation: self.config.activation,
                bf16: self.bf16_activations,
            };
            let mut weights = [const { None }; SLOTS];
            for (slot, weight) in layer.slots() {
                weights[slot as usize] = weight.map(cast).transpose()?;
            }
            layers.push((shape, weights));
        }
        Ok(Some(Stack {
            embed: cast(&self.embed)?,
            embed_scale: self.config.embedding_scale,
            layers,
            norm: cast(&self.norm)?,
        }))
    }

    /// The weights as decoding on slices reads them, if they are `f32` or shorter on the CPU.
    pub(super) fn decode_weights(&self) -> Result<Option<DecodeWeights>> {
        if self.embed.dtype() == DType::F64 {
            return Ok(None);
        }
        let Some(stack) = self.stack()? else {
            return Ok(None);
        };
        let head = self.head.to_dtype(DType::F32)?.contiguous()?;
        let softcap = self.config.logit_softcap;
        DecodeWeights::new(&stack, &self.inv_freq, &head, softcap).map(Some)
    }

    pub(super) fn device(&self) -> &Device {
        self.embed.device()
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(super) fn layout(
        &self,
        tokens: &[u32],
        positions: &[u32],
        segments: &Segments,
    ) -> Result<PassLayout> {
        if tokens.len() != positions.len() || tokens.is_empty() {
            candle_core::bail!("{} tokens at {} positions", tokens.len(), positions.len());
        }
        Ok(PassLayout {
            rotation: Rotation::new(positions, &self.inv_freq, 1.0),
            segments: segments.clone(),
        })
    }

    pub(super) fn embed_tokens(&self, tokens: &[u32]) -> Result<Tensor> {
        let x = embedding(&self.embed, tokens)?; // (T, D)
        match self.config.embedding_scale {
            Some(scale) => x * scale,
            None => Ok(x),
        }
    }

    pub(super) fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.norm, self.config.norm_eps, self.config.norm_weight)
    }
}
