//! The decoder on packed tokens: embedding, layers, final norm, head.

use crate::arch::{DecoderConfig, Learned};
use crate::model::error::ModelError;
use crate::model::lora::Lora;
use crate::model::ops::{
    DecodeWeights, LayerShape, Recompute, Rotation, SLOTS, Segments, Slot, Stack, SummedNll,
    Targets, TokenStats, attention, embedding, gated, linear, rms_norm, rope, summed_nll,
    token_logps,
};
use crate::model::params::{FrozenParams, Params};
use crate::model::phase_timer::{Phase, end_phase};
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
    short: bool,
    learned: Learned,
}

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
pub(super) struct Places {
    pub(super) rotation: Rotation,
    pub(super) segments: Segments,
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
            short: embed.dtype() == DType::BF16,
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
            short: true,
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
    /// branch continue those of its trunk.
    ///
    /// # Errors
    /// As [`Decoder::hidden`]; a branch does not stand behind its trunk.
    pub fn hidden_in(
        &self,
        tokens: &[u32],
        positions: &[u32],
        segments: &Segments,
    ) -> Result<Tensor> {
        end_phase(Phase::Data);
        let places = self.places(tokens, positions, segments)?;
        let hidden = match self.stack()? {
            Some(stack) => stack.hidden(tokens, &places.rotation, segments, self.recompute),
            None => self.hidden_by_ops(tokens, &places),
        };
        end_phase(Phase::Forward);
        hidden
    }

    /// As [`Decoder::hidden`], op by op in the graph: on accelerators, and as the twin in tests.
    fn hidden_by_ops(&self, tokens: &[u32], places: &Places) -> Result<Tensor> {
        let mut x = self.embed_tokens(tokens)?; // (T, D)
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&self.config, index, &x, places)?.0;
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

    /// All layers as one op, if the weights are on the CPU; half-precision weights are cast to
    /// `f32`, and so are the hidden states, whose values bf16 can hold if the weights are in bf16.
    fn stack(&self) -> Result<Option<Stack>> {
        if !self.embed.device().is_cpu() {
            return Ok(None);
        }
        let dtype = match self.embed.dtype() {
            DType::F64 => DType::F64,
            _ => DType::F32,
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
                short: self.short,
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

    pub(super) fn places(
        &self,
        tokens: &[u32],
        positions: &[u32],
        segments: &Segments,
    ) -> Result<Places> {
        if tokens.len() != positions.len() || tokens.is_empty() {
            candle_core::bail!("{} tokens at {} positions", tokens.len(), positions.len());
        }
        Ok(Places {
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

impl Layer {
    fn build(
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
    fn slots(&self) -> [(Slot, Option<&Tensor>); SLOTS] {
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
        places: &Places,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (q, k, v) = self.project(config, x, &places.rotation)?;
        let mixed = attention(&q, &k, &v, &places.segments, config.attention(index))?; // (T, H * E)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KvCache;
    use crate::model::ops::check::{noise, relative_error};
    use crate::model::params::missing_gradients;
    use std::path::Path;

    const MODEL: &str = "models/stories260k";

    fn shipped() -> (DecoderConfig, Params) {
        let dir = Path::new(MODEL);
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = Params::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
        (config, params)
    }

    fn expected() -> serde_json::Value {
        let text =
            crate::base::fs::read_to_string(&Path::new(MODEL).join("expected.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn ids(value: &serde_json::Value) -> Vec<u32> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_u64().unwrap() as u32)
            .collect()
    }

    fn positions(lens: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let mut cu = vec![0];
        let mut positions = Vec::new();
        for &len in lens {
            positions.extend(0..len);
            cu.push(positions.len() as u32);
        }
        (positions, cu)
    }

    // models/stories260k/expected.json: float32 from transformers 5.23, torch 2.15.
    #[test]
    fn logits_of_the_shipped_model_are_those_of_transformers() -> Result<()> {
        let (config, params) = shipped();
        let decoder = Decoder::frozen(&config, &params.detached()).unwrap();
        let want = &expected()["next_token"];
        let prompt = ids(&want["prompt_ids"]);
        let (positions, cu) = positions(&[prompt.len() as u32]);
        let hidden = decoder.hidden(&prompt, &positions, &cu)?;
        let logits = decoder.logits(&hidden)?.to_vec2::<f32>()?;
        let last = logits.last().unwrap();
        for (id, logit) in ids(&want["top5_ids"])
            .iter()
            .zip(want["top5_logits"].as_array().unwrap())
        {
            let logit = logit.as_f64().unwrap();
            let error = (f64::from(last[*id as usize]) - logit).abs() / logit;
            assert!(error < 1e-5, "token {id}: {error:e}");
        }
        let sum: f64 = last.iter().map(|&v| f64::from(v)).sum();
        assert!(
            (sum / want["logit_sum_last"].as_f64().unwrap() - 1.0).abs() < 1e-5,
            "{sum}"
        );
        Ok(())
    }

    #[test]
    fn greedy_text_of_the_shipped_model_is_that_of_transformers() -> Result<()> {
        let (config, params) = shipped();
        let decoder = Decoder::frozen(&config, &params.detached()).unwrap();
        let want = ids(&expected()["greedy_from_bos"]["ids"]);
        let (positions, cu) = positions(&[want.len() as u32]);
        // Teacher forcing: each token is the best after all before it.
        let hidden = decoder.hidden(&want, &positions, &cu)?;
        let rows: Vec<u32> = (0..want.len() as u32 - 1).collect();
        let (_, stats) = decoder.token_logps_with_stats(&hidden, &rows, &want[1..])?;
        assert!(stats.correct.iter().all(|&c| c));
        Ok(())
    }

    #[test]
    fn every_parameter_of_the_shipped_model_receives_a_gradient() -> Result<()> {
        let (config, params) = shipped();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let tokens = ids(&expected()["greedy_from_bos"]["ids"]);
        let (positions, cu) = positions(&[120, tokens.len() as u32 - 120]);
        let hidden = decoder.hidden(&tokens, &positions, &cu)?;
        let rows: Vec<u32> = (0..100).collect();
        let loss = decoder
            .token_logps(&hidden, &rows, &tokens[1..101])?
            .mean_all()?
            .neg()?;
        let grads = loss.backward()?;
        assert_eq!(missing_gradients(&params, &grads)?, Vec::<String>::new());
        // The head alone reaches the final norm's input only through the final norm.
        let partial = decoder
            .final_norm(&decoder.embed_tokens(&tokens)?)?
            .sum_all()?
            .backward()?;
        assert!(missing_gradients(&params, &partial)?.len() > 40);
        Ok(())
    }

    /// Random decoders with every feature that a family may have.
    fn families() -> Vec<(DecoderConfig, FrozenParams)> {
        let text = |extra: &str| {
            format!(
                r#"{{"vocab_size": 23, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, {extra}}}"#
            )
        };
        let extras = [
            r#""model_type": "llama", "attention_bias": true, "mlp_bias": true"#,
            r#""model_type": "qwen3", "tie_word_embeddings": true"#,
            r#""model_type": "gemma2", "sliding_window": 5, "query_pre_attn_scalar": 9,
               "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0"#,
        ];
        let build = |extra: &&str| {
            let dir = tempfile::tempdir().unwrap();
            crate::base::write_atomic(&dir.path().join("config.json"), text(extra).as_bytes())
                .unwrap();
            let config = DecoderConfig::from_file(dir.path()).unwrap();
            let tensors = config
                .tensors()
                .into_iter()
                .enumerate()
                .map(|(i, (name, shape))| (name, noise(&shape, i as u64 + 5, DType::F64).unwrap()));
            let params = FrozenParams::from_tensors(tensors.collect());
            (config, params)
        };
        extras.iter().map(build).collect()
    }

    #[test]
    fn decoding_by_slices_and_by_ops_is_the_full_forward_in_every_family() -> Result<()> {
        for (config, params) in families() {
            let params = Params::from_frozen(&params, DType::F32).unwrap().detached();
            let exact = Decoder::frozen(&config, &params).unwrap();
            let short = exact.clone().with_bf16_activations();
            let cache = KvCache::new(&exact)?;
            for (decoder, mut cache, most) in [
                (&exact, cache.clone().by_ops(), 1e-5),
                (&exact, cache, 1e-5),
                (&short, KvCache::new(&short)?, 5e-2),
            ] {
                let mut rows = [vec![3u32, 1, 4], vec![7]];
                decoder.prefill(&[&rows[0], &rows[1]], &mut cache)?;
                for step in 0..9 {
                    let next = [step * 5 % 23, step * 7 % 23];
                    let logits = decoder.decode_step(&next, &mut cache)?;
                    for (i, (row, next)) in rows.iter_mut().zip(next).enumerate() {
                        row.push(next);
                        let len = row.len() as u32;
                        let at: Vec<u32> = (0..len).collect();
                        let hidden = decoder.hidden(row, &at, &[0, len])?;
                        let want = decoder.logits(&hidden.narrow(0, row.len() - 1, 1)?)?;
                        let error = relative_error(&logits.narrow(0, i, 1)?, &want)?;
                        assert!(error < most, "{:?}: {error:e}", config.architecture);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_fused_stack_is_the_graph_of_single_ops_in_every_family() -> Result<()> {
        let tokens: Vec<u32> = (0..40).map(|i| i * 5 % 23).collect();
        // A segment of its own, then one of 9 tokens that three others continue.
        let cu = Segments::forked(&[0, 5, 14, 17, 18, 40], &[0, 1, 1, 1, 1]);
        let places = [0..5, 0..9, 9..12, 9..10, 9..31];
        let at: Vec<u32> = places.into_iter().flatten().collect();
        for (config, params) in families() {
            let params = Params::from_frozen(&params, DType::F64).unwrap();
            let decoder = Decoder::trainable(&config, &params).unwrap();
            let weights = noise(&[40, 12], 3, DType::F64)?;
            let want = decoder.hidden_by_ops(&tokens, &decoder.places(&tokens, &at, &cu)?)?;
            let want_grads = (&want * &weights)?.sum_all()?.backward()?;
            for recompute in [Recompute::Nothing, Recompute::Layers] {
                let decoder = decoder.clone().with_recompute(recompute);
                let got = decoder.hidden_in(&tokens, &at, &cu)?;
                assert!(relative_error(&got, &want)? < 1e-12);
                let grads = (&got * &weights)?.sum_all()?.backward()?;
                for (name, var) in params.iter().filter(|(name, _)| *name != "lm_head.weight") {
                    let (got, want) = (grads.get(var).unwrap(), want_grads.get(var).unwrap());
                    let error = relative_error(got, want)?;
                    assert!(
                        error < 1e-10,
                        "{:?}, {name}: {error:e}",
                        config.architecture
                    );
                }
            }
        }
        Ok(())
    }

    // The twin rounds the result of each op, and so must the fused stack: to the bit.
    #[test]
    fn in_bf16_the_fused_stack_rounds_where_single_ops_do() -> Result<()> {
        let tokens: Vec<u32> = (0..40).map(|i| i * 5 % 23).collect();
        let segments = Segments::forked(&[0, 5, 14, 17, 18, 40], &[0, 1, 1, 1, 1]);
        let places = [0..5, 0..9, 9..12, 9..10, 9..31];
        let at: Vec<u32> = places.into_iter().flatten().collect();
        for (config, params) in families() {
            let params = Params::from_frozen(&params, DType::BF16).unwrap();
            let decoder = Decoder::trainable(&config, &params).unwrap();
            let got = decoder.hidden_in(&tokens, &at, &segments)?;
            let want = decoder.hidden_by_ops(&tokens, &decoder.places(&tokens, &at, &segments)?)?;
            assert_eq!((got.dtype(), want.dtype()), (DType::F32, DType::BF16));
            let want = want.to_dtype(DType::F32)?;
            assert_eq!(got.to_vec2::<f32>()?, want.to_vec2::<f32>()?);
        }
        Ok(())
    }

    /// Gradients of all weights of a decoder for fixed upstream gradients.
    fn gradients_of(decoder: &Decoder, params: &Params) -> Result<Vec<Tensor>> {
        let tokens: Vec<u32> = (0..40).map(|i| i * 5 % 23).collect();
        let (at, cu) = positions(&[18, 22]);
        let hidden = decoder.hidden(&tokens, &at, &cu)?;
        let upstream = noise(hidden.dims(), 3, hidden.dtype())?;
        let grads = (hidden * upstream)?.sum_all()?.backward()?;
        let reached = params.iter().filter_map(|(_, var)| grads.get(var));
        reached.map(|g| g.to_dtype(DType::F64)).collect()
    }

    #[test]
    fn bf16_layers_computed_again_give_the_same_bytes() -> Result<()> {
        for (config, params) in families() {
            let params = Params::from_frozen(&params, DType::BF16).unwrap();
            let working = params.working().unwrap();
            let decoder = Decoder::trainable(&config, &working)
                .unwrap()
                .with_bf16_activations();
            let kept = gradients_of(&decoder, &working)?;
            let again = decoder.with_recompute(Recompute::Layers);
            let again = gradients_of(&again, &working)?;
            for (kept, again) in kept.iter().zip(&again) {
                let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
                assert_eq!(flat(kept)?, flat(again)?);
            }
        }
        Ok(())
    }

    /// Relative L2 distance allowed between gradients through bf16 and f32 activations: a rounding
    /// is 2^-9 relative at most, of some thirty values on a way through two layers.
    const BF16_GRADIENTS: f64 = 0.03;

    #[test]
    fn gradients_through_bf16_activations_stay_near_those_through_f32() -> Result<()> {
        for (config, params) in families() {
            let params = Params::from_frozen(&params, DType::BF16).unwrap();
            let working = params.working().unwrap();
            let decoder = Decoder::trainable(&config, &working).unwrap();
            let wide = gradients_of(&decoder, &working)?;
            let short = gradients_of(&decoder.clone().with_bf16_activations(), &working)?;
            let sum = |t: Tensor| t.sqr()?.sum_all()?.to_scalar::<f64>();
            let (mut difference, mut size) = (0.0, 0.0);
            for (wide, short) in wide.iter().zip(&short) {
                difference += sum((wide - short)?)?;
                size += sum(wide.clone())?;
            }
            let error = (difference / size).sqrt();
            assert!(error > 1e-4, "nothing was rounded: {error:e}");
            assert!(
                error < BF16_GRADIENTS,
                "{:?}: {error:e}",
                config.architecture
            );
            // The variables themselves give the same gradients, rounded once more.
            let own = gradients_of(&Decoder::trainable(&config, &params).unwrap(), &params)?;
            for (own, short) in own.iter().zip(&short) {
                assert!(relative_error(own, short)? < 2f64.powi(-7));
            }
        }
        Ok(())
    }

    #[test]
    fn hidden_states_and_gradients_do_not_depend_on_the_number_of_threads() -> Result<()> {
        let (config, params) = shipped();
        let decoder = Decoder::trainable(&config, &params).unwrap();
        let tokens: Vec<u32> = (0..700).map(|i| i * 7 % 512).collect();
        let (at, cu) = positions(&[300, 150, 250]);
        let run = |threads| -> Result<Vec<Vec<f32>>> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let hidden = decoder.hidden(&tokens, &at, &cu)?;
                let rows: Vec<u32> = (0..299).collect();
                let logps = decoder.token_logps(&hidden, &rows, &tokens[1..300])?;
                let grads = logps.sum_all()?.backward()?;
                params
                    .iter()
                    .map(|(_, var)| grads.get(var).unwrap().flatten_all()?.to_vec1())
                    .collect()
            })
        };
        assert_eq!(run(1)?, run(3)?);
        Ok(())
    }

    #[test]
    fn packed_documents_give_the_logits_of_each_alone() -> Result<()> {
        let (config, params) = shipped();
        let decoder = Decoder::frozen(&config, &params.detached()).unwrap();
        let tokens = ids(&expected()["greedy_from_bos"]["ids"]);
        let (places, cu) = positions(&[150, tokens.len() as u32 - 150]);
        let packed = decoder
            .hidden(&tokens, &places, &cu)?
            .narrow(0, 150, tokens.len() - 150)?;
        let (places, cu) = positions(&[tokens.len() as u32 - 150]);
        let alone = decoder.hidden(&tokens[150..], &places, &cu)?;
        assert!(relative_error(&packed, &alone)? < 1e-6);
        Ok(())
    }

    #[test]
    fn a_decoder_of_trained_parameters_sees_their_updates() -> Result<()> {
        let (config, params) = shipped();
        let frozen = Decoder::frozen(&config, &params.detached()).unwrap();
        let norm = params.get("model.norm.weight").unwrap();
        norm.set(&norm.as_tensor().zeros_like()?)?;
        let hidden = frozen.hidden(&[1, 2], &[0, 1], &[0, 2])?;
        assert!(!hidden.track_op());
        assert!(
            hidden
                .flatten_all()?
                .to_vec1::<f32>()?
                .iter()
                .all(|v| v.abs() < 1e-30)
        );
        Ok(())
    }
}
