//! One token more for each row of a cache, all layers on slices; no gradient.
//!
//! With a few rows an op is a few microseconds of arithmetic, so a step makes no tensors between layers, and every
//! matrix was packed once, before the first step. A row's sums are the same whichever rows stand
//! beside it; so threads take rows, each through the whole decoder, and meet only at the end.

use crate::model::decoder::fused::Stack;
use crate::model::decoder::fused_layer::LayerShape;
use crate::model::decoder::slot::{SLOTS, Slot};
use crate::model::kernels::bf16;
use crate::model::kernels::decode_attention::{Scratch, decode_attention};
use crate::model::kernels::gated::gated_forward;
use crate::model::kernels::kv_page::{CachedRow, PageShape};
use crate::model::kernels::mat::{MatRef, Store};
use crate::model::kernels::matmul::{Operands, PackedB, matmul_packed};
use crate::model::kernels::rope::{Rotation, rotate_rows};
use crate::model::kernels::rows::threads;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// `y = x w^T + bias` with the weight packed.
#[derive(Debug)]
struct Map {
    weight: PackedB<f32>,
    outputs: usize,
    bias: Option<Vec<f32>>,
}

impl Map {
    /// Of a weight `(outputs, inputs)`, rounded if passes over whole sequences read it so. The order of sums is
    /// that of `f32` all the same: tiles of bf16 would mostly multiply rows that are not there.
    fn new(weight: &Tensor, bias: Option<Vec<f32>>, rounded: bool) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let mut values = values(weight)?;
        if rounded {
            bf16::round(&mut values);
        }
        let weight = PackedB::new(
            Operands::Exact,
            MatRef::transposed(&values, inputs),
            (inputs, outputs),
        );
        Ok(Self {
            weight,
            outputs,
            bias,
        })
    }

    /// `x (B, inputs)` -> `y (B, outputs)`.
    fn apply(&self, x: &[f32], y: &mut [f32]) {
        let rows = y.len() / self.outputs.max(1);
        let inputs = x.len() / rows.max(1);
        matmul_packed(rows, MatRef::new(x, inputs), &self.weight, y, Store::Set);
        if let Some(bias) = &self.bias {
            for y in y.chunks_exact_mut(self.outputs) {
                y.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
        }
    }
}

/// A tensor's elements.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.detach().flatten_all()?.to_vec1()
}

/// One layer's form and weights; norms that a family does not have are absent.
#[derive(Debug)]
struct DecodeLayer {
    shape: LayerShape,
    input_norm: Vec<f32>,
    q: Map,
    k: Map,
    v: Map,
    head_norms: Option<(Vec<f32>, Vec<f32>)>,
    o: Map,
    attention_post_norm: Option<Vec<f32>>,
    mlp_norm: Vec<f32>,
    gate: Map,
    up: Map,
    down: Map,
    mlp_post_norm: Option<Vec<f32>>,
}

/// A decoder's weights, packed for steps; a copy, so that later updates do not show.
#[derive(Debug)]
pub(crate) struct DecodeWeights {
    embed: Tensor,
    embed_scale: Option<f64>,
    inv_freq: Vec<f64>,
    layers: Vec<DecodeLayer>,
    norm: Vec<f32>,
    head: Map,
    logit_softcap: Option<f32>,
}

/// Activations of a block of rows between ops.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    inner: Vec<f32>,
    raw: Vec<f32>,
    attention: Scratch,
}

/// Angles of a block's tokens.
struct Angles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl DecodeWeights {
    /// Out of the weights of all layers, `f32` on the CPU, and the head `(V, D)`.
    ///
    /// # Errors
    /// A weight is missing or cannot be read.
    pub(crate) fn new(
        stack: &Stack,
        inv_freq: &[f64],
        head: &Tensor,
        logit_softcap: Option<f64>,
    ) -> Result<Self> {
        let layers = stack.layers.iter();
        let rounded = layers.clone().any(|(shape, _)| shape.bf16);
        Ok(Self {
            embed: stack.embed.detach(),
            embed_scale: stack.embed_scale,
            inv_freq: inv_freq.to_vec(),
            layers: layers
                .map(|(shape, weights)| DecodeLayer::new(*shape, weights))
                .collect::<Result<_>>()?,
            norm: values(&stack.norm)?,
            head: Map::new(head, None, rounded)?,
            logit_softcap: logit_softcap.map(|cap| cap as f32),
        })
    }

    /// Feeds one token to each row; logits `(B, V)` after it, row after row.
    ///
    /// # Errors
    /// A token is outside the vocabulary.
    pub(crate) fn step(
        &self,
        cached: &PageShape,
        tokens: &[u32],
        rows: &mut [CachedRow],
    ) -> Result<Vec<f32>> {
        let v = self.embed.dim(0)?;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= v) {
            candle_core::bail!("decode: token {id} in a vocabulary of {v}");
        }
        let ids = Tensor::new(tokens, self.embed.device())?;
        let embedded = values(&self.embed.index_select(&ids, 0)?)?;
        let d = self.norm.len();
        let mut logits = vec![0.0; rows.len() * self.head.outputs];
        let block = rows.len().div_ceil(threads()).max(1);
        if threads() == 1 {
            self.advance(cached, embedded, rows, &mut logits);
        } else {
            rows.par_chunks_mut(block)
                .zip(embedded.par_chunks(block * d))
                .zip(logits.par_chunks_mut(block * self.head.outputs))
                .for_each(|((rows, x), logits)| self.advance(cached, x.to_vec(), rows, logits));
        }
        Ok(logits)
    }

    /// A block of rows from their embeddings to their logits.
    fn advance(&self, cached: &PageShape, x: Vec<f32>, rows: &mut [CachedRow], logits: &mut [f32]) {
        let Some(first) = self.layers.first() else {
            return;
        };
        let positions: Vec<u32> = rows.iter().map(|row| row.len as u32).collect();
        let (cos, sin) = Rotation::new(&positions, &self.inv_freq, 1.0).table(1.0);
        let half = self.inv_freq.len();
        let angles = Angles { half, cos, sin };
        let mut buffers = Buffers {
            x,
            ..Buffers::default()
        };
        if let Some(scale) = self.embed_scale {
            let mut scale = [scale as f32];
            first.shape.round(&mut scale);
            buffers.x.iter_mut().for_each(|x| *x *= scale[0]);
            first.shape.round(&mut buffers.x);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.attend((cached, index), &angles, rows, &mut buffers);
            layer.feed_forward(&mut buffers);
        }
        rows.iter_mut().for_each(|row| row.len += 1);
        let Buffers { x, normed, .. } = &mut buffers;
        normed.resize(x.len(), 0.0);
        first.shape.norm(x, &self.norm, normed);
        self.head.apply(normed, logits);
        if let Some(cap) = self.logit_softcap {
            logits.iter_mut().for_each(|y| *y = (*y / cap).tanh() * cap);
        }
    }
}

impl DecodeLayer {
    fn new(shape: LayerShape, weights: &[Option<Tensor>; SLOTS]) -> Result<Self> {
        let get = |slot: Slot| weights[slot as usize].as_ref();
        let vector_if = |slot: Slot| get(slot).map(values).transpose();
        let vector = |slot: Slot| vector_if(slot).map(Option::unwrap_or_default);
        let map = |slot: Slot, bias: Slot| match get(slot) {
            Some(weight) => Map::new(weight, vector_if(bias)?, shape.bf16),
            None => candle_core::bail!("decode: a layer without {slot:?}"),
        };
        Ok(Self {
            shape,
            input_norm: vector(Slot::InputNorm)?,
            q: map(Slot::Q, Slot::QBias)?,
            k: map(Slot::K, Slot::KBias)?,
            v: map(Slot::V, Slot::VBias)?,
            head_norms: vector_if(Slot::QNorm)?.zip(vector_if(Slot::KNorm)?),
            o: map(Slot::O, Slot::OBias)?,
            attention_post_norm: vector_if(Slot::AttentionPostNorm)?,
            mlp_norm: vector(Slot::MlpNorm)?,
            gate: map(Slot::Gate, Slot::GateBias)?,
            up: map(Slot::Up, Slot::UpBias)?,
            down: map(Slot::Down, Slot::DownBias)?,
            mlp_post_norm: vector_if(Slot::MlpPostNorm)?,
        })
    }

    /// Adds the attention part to the residual stream and the token to the cache.
    fn attend(
        &self,
        (cached, index): (&PageShape, usize),
        angles: &Angles,
        rows: &mut [CachedRow],
        buffers: &mut Buffers,
    ) {
        let Buffers {
            x,
            normed,
            q,
            k,
            v,
            mixed,
            raw,
            attention,
            ..
        } = buffers;
        let (shape, b) = (&self.shape, rows.len());
        let (qw, kw) = (shape.q_width(), shape.kv_width());
        normed.resize(x.len(), 0.0);
        shape.norm(x, &self.input_norm, normed);
        for (map, y) in [(&self.q, &mut *q), (&self.k, &mut *k), (&self.v, &mut *v)] {
            y.resize(b * map.outputs, 0.0);
            map.apply(normed, y);
            shape.round(y);
        }
        if let Some((q_norm, k_norm)) = &self.head_norms {
            for (y, norm) in [(&mut *q, q_norm), (&mut *k, k_norm)] {
                raw.clear();
                raw.extend_from_slice(y);
                shape.norm(raw, norm, y);
            }
        }
        for (y, width) in [(&mut *q, qw), (&mut *k, kw)] {
            rotate_rows(y, width, &angles.cos, &angles.sin, angles.half);
            shape.round(y);
        }
        mixed.resize(b * qw, 0.0);
        let tokens = k.chunks_exact(kw).zip(v.chunks_exact(kw));
        let heads = q.chunks_exact(qw).zip(mixed.chunks_exact_mut(qw));
        for ((row, token), (q, out)) in rows.iter_mut().zip(tokens).zip(heads) {
            row.put(cached, index, row.len, token);
            let seen = (&*row, row.len + 1);
            decode_attention(&shape.attention, (*cached, index), q, seen, attention, out);
        }
        shape.round(mixed);
        raw.resize(x.len(), 0.0);
        self.o.apply(mixed, raw);
        self.add(raw, self.attention_post_norm.as_deref(), normed, x);
    }

    /// Adds the feed-forward part to the residual stream.
    fn feed_forward(&self, buffers: &mut Buffers) {
        let Buffers {
            x,
            normed,
            gate,
            up,
            inner,
            raw,
            ..
        } = buffers;
        let shape = &self.shape;
        let len = x.len() / shape.width * shape.inner;
        shape.norm(x, &self.mlp_norm, normed);
        for (map, y) in [(&self.gate, &mut *gate), (&self.up, &mut *up)] {
            y.resize(len, 0.0);
            map.apply(normed, y);
            shape.round(y);
        }
        inner.resize(len, 0.0);
        gated_forward(shape.activation, gate, up, inner);
        shape.round(inner);
        raw.resize(x.len(), 0.0);
        self.down.apply(inner, raw);
        self.add(raw, self.mlp_post_norm.as_deref(), normed, x);
    }

    /// `x += raw`, normalised if there is a norm; `scratch` is as long.
    fn add(&self, raw: &mut [f32], norm: Option<&[f32]>, scratch: &mut [f32], x: &mut [f32]) {
        self.shape.round(raw);
        let added = match norm {
            Some(norm) => {
                self.shape.norm(raw, norm, scratch);
                scratch
            }
            None => raw,
        };
        x.iter_mut().zip(added).for_each(|(x, &mut y)| *x += y);
        self.shape.round(x);
    }
}
