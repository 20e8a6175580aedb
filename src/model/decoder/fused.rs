//! Embedding, all layers and the final norm as one differentiable op.
//!
//! candle's engine allows an op three inputs; a decoder has hundreds. So the weights enter by a chain
//! of scalar nodes ([`WeightNode`]), one a weight, that ends in the fused op. Going forward the chain
//! computes nothing. Going backward the fused op runs first and leaves each weight's gradient in
//! shared slots ([`GradSlots`]), from which the nodes hand them to the engine. To the caller it is an
//! ordinary tensor with an ordinary gradient.

use crate::model::decoder::fused_layer::{
    Angles, Bf16Saved, Gradients, LayerShape, Saved, Weights,
};
use crate::model::decoder::slot::SLOTS;
use crate::model::kernels::bf16;
use crate::model::kernels::norm::{norm_rows, norm_rows_backward};
use crate::model::kernels::real::Real;
use crate::model::kernels::rope::Rotation;
use crate::model::kernels::rows::in_pool;
use crate::model::kernels::segments::Segments;
use crate::model::ops::storage::{Element, by_dtype, check_segments, operand, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether a layer's activations wait for the backward pass or are computed again there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// All are kept.
    #[default]
    Nothing,
    /// Only the input of each layer is kept; one more forward pass, the same bytes.
    Layers,
}

/// Weights and form of a decoder without its head.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    /// Embedding table `(V, D)`.
    pub(crate) embed: Tensor,
    /// Factor on embeddings.
    pub(crate) embed_scale: Option<f64>,
    pub(crate) layers: Vec<(LayerShape, [Option<Tensor>; SLOTS])>,
    /// Weight of the final norm `(D,)`.
    pub(crate) norm: Tensor,
}

impl Stack {
    /// All weights, in the order of their nodes: embedding, layers, final norm.
    fn weights(&self) -> impl Iterator<Item = &Tensor> {
        let layers = self.layers.iter().flat_map(|(_, w)| w.iter().flatten());
        std::iter::once(&self.embed)
            .chain(layers)
            .chain(std::iter::once(&self.norm))
    }

    /// Hidden states after the final norm, `(T, D)`; differentiable in every tracked weight.
    ///
    /// # Errors
    /// Weights are not contiguous `f32` or `f64` on the CPU, or the tokens do not fit.
    pub(crate) fn hidden(
        &self,
        tokens: &[u32],
        rotation: &Rotation,
        segments: &Segments,
        recompute: Recompute,
    ) -> Result<Tensor> {
        check_segments(segments, tokens.len())?;
        let (v, _) = self.embed.dims2()?;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= v) {
            candle_core::bail!("embedding: token {id} in a vocabulary of {v}");
        }
        let slots: GradSlots = Arc::default();
        let mut chain = Tensor::zeros((), self.embed.dtype(), self.embed.device())?;
        let mut nodes = 0;
        for weight in self.weights().filter(|w| w.track_op()) {
            let node = WeightNode {
                index: nodes,
                slots: slots.clone(),
            };
            chain = chain.apply_op2(weight, node)?;
            nodes += 1;
        }
        let op = StackOp {
            // The op must not hold the graph that holds it.
            stack: self.detached(),
            tracked: self.weights().map(Tensor::track_op).collect(),
            tokens: tokens.to_vec(),
            rotation: rotation.clone(),
            segments: segments.clone(),
            recompute,
            keep: nodes > 0,
            slots,
            saved: Mutex::default(),
        };
        chain.apply_op1(op)
    }

    fn detached(&self) -> Self {
        Self {
            embed: self.embed.detach(),
            embed_scale: self.embed_scale,
            layers: self
                .layers
                .iter()
                .map(|(shape, w)| (*shape, w.each_ref().map(|w| w.as_ref().map(Tensor::detach))))
                .collect(),
            norm: self.norm.detach(),
        }
    }
}

/// Gradients on their way from the fused op to the nodes of the weights.
type GradSlots = Arc<Mutex<Vec<Option<Tensor>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One weight's place in the graph.
struct WeightNode {
    index: usize,
    slots: GradSlots,
}

impl CustomOp2 for WeightNode {
    fn name(&self) -> &'static str {
        "decoder-weight"
    }

    fn cpu_fwd(
        &self,
        chain: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(chain.dtype(), F => Ok(result::<F>(vec![0.0], ())))
    }

    fn bwd(
        &self,
        chain: &Tensor,
        _weight: &Tensor,
        _res: &Tensor,
        _grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = lock(&self.slots).get_mut(self.index).and_then(Option::take);
        Ok((Some(chain.zeros_like()?), grad))
    }
}

struct StackOp {
    stack: Stack,
    /// For each weight, whether it has a node.
    tracked: Vec<bool>,
    tokens: Vec<u32>,
    rotation: Rotation,
    segments: Segments,
    recompute: Recompute,
    /// Whether a backward pass may come.
    keep: bool,
    slots: GradSlots,
    saved: Mutex<Option<Memory>>,
}

/// What the forward pass kept, in the dtype of the weights.
enum Memory {
    F32(Kept<f32>),
    F64(Kept<f64>),
}

/// Each layer's activations (or only its input), and the input of the final norm.
struct Kept<F> {
    layers: Vec<KeptLayer<F>>,
    last: Vec<F>,
}

enum KeptLayer<F> {
    All(Saved<F>),
    Bf16(Bf16Saved<F>),
    Input(Vec<F>),
    Bf16Input(Vec<u16>),
}

/// Ties [`Kept`] to its variant of [`Memory`].
trait Keep: Element {
    fn store(kept: Kept<Self>) -> Memory;
    fn take(memory: Memory) -> Option<Kept<Self>>;
}

impl Keep for f32 {
    fn store(kept: Kept<Self>) -> Memory {
        Memory::F32(kept)
    }

    fn take(memory: Memory) -> Option<Kept<Self>> {
        match memory {
            Memory::F32(kept) => Some(kept),
            Memory::F64(_) => None,
        }
    }
}

impl Keep for f64 {
    fn store(kept: Kept<Self>) -> Memory {
        Memory::F64(kept)
    }

    fn take(memory: Memory) -> Option<Kept<Self>> {
        match memory {
            Memory::F64(kept) => Some(kept),
            Memory::F32(_) => None,
        }
    }
}

/// The elements of all weights, for as long as the guards live.
fn slices<'a, F: Element>(
    guards: &'a [(impl Deref<Target = Storage>, &Layout)],
) -> Result<Vec<&'a [F]>> {
    guards
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(cpu) => operand("decoder", cpu, layout),
            _ => candle_core::bail!("decoder: the fused kernel runs on the CPU only"),
        })
        .collect()
}

impl StackOp {
    fn angles<F: Real>(&self) -> Angles<F> {
        let (cos, sin) = self.rotation.table(1.0);
        Angles {
            half: self.rotation.head_dim() / 2,
            cos,
            back: sin.iter().map(|&s: &F| -s).collect(),
            sin,
        }
    }

    /// The layers' parts of the list of all weights.
    fn layer_weights<'a, F>(&self, all: &[&'a [F]]) -> Vec<Weights<'a, F>> {
        let mut next = all.iter().skip(1);
        self.stack
            .layers
            .iter()
            .map(|(_, w)| {
                Weights(
                    w.each_ref()
                        .map(|w| w.as_ref().and_then(|_| next.next().copied())),
                )
            })
            .collect()
    }

    /// Of each layer, which weights have a node.
    fn layer_tracked(&self) -> Vec<[bool; SLOTS]> {
        let mut next = self.tracked.iter().skip(1);
        let layers = self.stack.layers.iter();
        layers
            .map(|(_, w)| {
                w.each_ref()
                    .map(|w| w.is_some() && next.next().copied().unwrap_or(true))
            })
            .collect()
    }

    fn forward<F: Keep>(&self) -> Result<Vec<F>> {
        let guards: Vec<_> = self
            .stack
            .weights()
            .map(Tensor::storage_and_layout)
            .collect();
        let all = slices::<F>(&guards)?;
        let (embed, norm) = (all[0], all[all.len() - 1]);
        let (d, angles) = (norm.len(), self.angles::<F>());
        let mut x = Vec::with_capacity(self.tokens.len() * d);
        for &id in &self.tokens {
            x.extend_from_slice(&embed[id as usize * d..(id as usize + 1) * d]);
        }
        let bf16_activations = self.bf16();
        if let Some(scale) = self.stack.embed_scale {
            let mut scale = [F::of(scale)];
            if bf16_activations {
                bf16::round(&mut scale);
            }
            x.iter_mut().for_each(|x| *x *= scale[0]);
            if bf16_activations {
                bf16::round(&mut x);
            }
        }
        let mut kept = Kept {
            layers: Vec::new(),
            last: Vec::new(),
        };
        for ((shape, _), w) in self.stack.layers.iter().zip(self.layer_weights(&all)) {
            let input = match (self.keep, self.recompute, bf16_activations) {
                (true, Recompute::Layers, true) => Some(KeptLayer::Bf16Input(bf16::to_bf16(&x))),
                (true, Recompute::Layers, false) => Some(KeptLayer::Input(x.clone())),
                _ => None,
            };
            let (y, saved) = shape.forward(&w, x, &angles, &self.segments);
            x = y;
            if self.keep {
                kept.layers.push(match input {
                    Some(input) => input,
                    None if bf16_activations => KeptLayer::Bf16(saved.into_bf16()),
                    None => KeptLayer::All(saved),
                });
            }
        }
        let (eps, offset) = self.final_norm();
        let mut hidden = vec![F::ZERO; x.len()];
        norm_rows(&x, norm, offset, eps, &mut hidden);
        if bf16_activations {
            bf16::round(&mut hidden);
        }
        if self.keep {
            kept.last = x;
            *lock(&self.saved) = Some(F::store(kept));
        }
        Ok(hidden)
    }

    /// Whether the results of ops are rounded, in all layers or none.
    fn bf16(&self) -> bool {
        self.stack.layers.first().is_some_and(|(s, _)| s.bf16)
    }

    /// Epsilon and offset of the final norm, which are those of the layers.
    fn final_norm(&self) -> (f64, f64) {
        self.stack
            .layers
            .first()
            .map_or((0.0, 0.0), |(shape, _)| (shape.eps, shape.norm.offset()))
    }

    /// Gradients of all weights, in the order of [`Stack::weights`]; empty ones of matrices without
    /// a node.
    fn backward<F: Keep>(&self, grad: &[F]) -> Result<Vec<Vec<F>>> {
        let Some(kept) = lock(&self.saved).take().and_then(F::take) else {
            candle_core::bail!("decoder: a second backward pass over one forward pass");
        };
        let guards: Vec<_> = self
            .stack
            .weights()
            .map(Tensor::storage_and_layout)
            .collect();
        let all = slices::<F>(&guards)?;
        let norm = all[all.len() - 1];
        let (d, angles, (eps, offset)) = (norm.len(), self.angles::<F>(), self.final_norm());
        let mut dx = vec![F::ZERO; kept.last.len()];
        let mut d_norm = vec![F::ZERO; d];
        norm_rows_backward(&kept.last, norm, offset, eps, grad, &mut dx, &mut d_norm);
        drop(kept.last);
        let mut by_layer = Vec::new();
        let (weights, mut wanted) = (self.layer_weights(&all), self.layer_tracked());
        let layers = self.stack.layers.iter().zip(weights).zip(kept.layers);
        for (((shape, _), w), kept) in layers.rev() {
            let saved = match kept {
                KeptLayer::All(saved) => saved,
                KeptLayer::Bf16(saved) => saved.into_f32(),
                KeptLayer::Input(x) => shape.forward(&w, x, &angles, &self.segments).1,
                KeptLayer::Bf16Input(x) => {
                    let x = bf16::to_f32(&x);
                    shape.forward(&w, x, &angles, &self.segments).1
                }
            };
            let mut grads: Gradients<F> = std::array::from_fn(|_| Vec::new());
            let wanted = wanted.pop().unwrap_or([true; SLOTS]);
            let outputs = (&wanted, &mut grads);
            dx = shape.backward(&w, saved, dx, &angles, &self.segments, outputs);
            by_layer.push((grads, w));
        }
        let scale = F::of(self.stack.embed_scale.unwrap_or(1.0));
        let learns = self.tracked[0];
        let mut d_embed = vec![F::ZERO; if learns { all[0].len() } else { 0 }];
        for (&id, g) in self
            .tokens
            .iter()
            .zip(dx.chunks_exact(d))
            .filter(|_| learns)
        {
            let row = &mut d_embed[id as usize * d..(id as usize + 1) * d];
            row.iter_mut().zip(g).for_each(|(a, &b)| *a += b * scale);
        }
        let mut result = vec![d_embed];
        for (grads, w) in by_layer.into_iter().rev() {
            let present = grads.into_iter().zip(w.0).filter(|(_, w)| w.is_some());
            result.extend(present.map(|(grad, _)| grad));
        }
        result.push(d_norm);
        Ok(result)
    }
}

impl CustomOp1 for StackOp {
    fn name(&self) -> &'static str {
        "decoder"
    }

    fn cpu_fwd(&self, chain: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = (self.tokens.len(), self.stack.norm.elem_count());
        by_dtype!(chain.dtype(), F => Ok(result(in_pool(|| self.forward::<F>())?, shape)))
    }

    /// Runs the layers backwards and leaves the weights' gradients in the slots for their nodes.
    fn bwd(&self, chain: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        by_dtype!(chain.dtype(), F => {
            let grads = with_slice::<F, _>("decoder", grad, |g| in_pool(|| self.backward(g)))?;
            let mut slots = lock(&self.slots);
            for ((grad, weight), _) in grads
                .into_iter()
                .zip(self.stack.weights())
                .zip(&self.tracked)
                .filter(|(_, tracked)| **tracked)
            {
                slots.push(Some(Tensor::from_vec(grad, weight.shape(), weight.device())?));
            }
        });
        Ok(Some(chain.zeros_like()?))
    }
}
