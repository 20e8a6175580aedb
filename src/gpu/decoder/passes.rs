//! Passes over batches: scores, and gradients.

use crate::arch::{
    DecoderConfig, Extent, Keep, activation_bytes, layers_that_fit, room_for_arrays,
};
use crate::gpu::buf::Region;
use crate::gpu::call::HIGHEST;
use crate::gpu::decoder::activations::Activations;
use crate::gpu::decoder::batch::{Batch, BatchBufs, BatchMemory};
use crate::gpu::decoder::convert::rounded;
use crate::gpu::decoder::head::{Found, Head};
use crate::gpu::decoder::key_values::KeyValues;
use crate::gpu::decoder::layer::{Form, Layer, norm_back};
use crate::gpu::decoder::linear::Weight;
use crate::gpu::decoder::parts::Parts;
use crate::gpu::element::Stored;
use crate::gpu::ops::attention::{WIDEST_HEAD, attention_takes};
use crate::gpu::ops::embedding::{embedding_backward, embedding_forward};
use crate::gpu::ops::norm::{Norm, norm_forward};
use crate::gpu::ops::rope::Angles;
use crate::gpu::{Gpu, GpuError, Result};

/// How passes run, which changes no result but by rounding.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Most rows of logits at a time.
    pub head_rows: usize,
    /// The largest rank of an adapter; 0 without any.
    pub rank: usize,
    /// Layers are computed again in the backward pass; else only those whose activations the memory does not hold.
    pub recompute: bool,
}

/// Refuses a decoder with heads that no kernel takes.
///
/// # Errors
/// It has.
pub fn check_heads(config: &DecoderConfig) -> Result<()> {
    let shape = config.attention(0);
    if attention_takes(&shape) {
        return Ok(());
    }
    Err(GpuError::NoKernels(format!(
        "{} attention heads of {} numbers; {HIGHEST} of {WIDEST_HEAD} at most",
        shape.heads, shape.head_dim
    )))
}

/// A decoder's passes, and the memory they run in.
#[derive(Debug)]
pub struct Passes {
    pub(super) config: DecoderConfig,
    pub(super) shape: Shape,
    /// Layers whose activations passes with gradients keep.
    pub(super) kept: usize,
    /// Bytes that whoever uses them is still to take beside them.
    left: usize,
    memory: Option<Region>,
    pub(super) numbers: BatchMemory,
    /// For sums of hidden states.
    pub(super) sums: Option<Region>,
    angles: Option<Angles>,
}

/// A pass over one batch.
pub(super) struct Pass<'a, T> {
    pub(super) parts: &'a Parts<Weight<T>>,
    pub(super) activations: Activations<T>,
    pub(super) batch: BatchBufs,
    pub(super) angles: Angles,
    /// Keys and values that outlive it.
    pub(super) cache: Option<&'a KeyValues<T>>,
}

impl Passes {
    /// Passes of a decoder; memory comes with the first one.
    pub fn new(config: &DecoderConfig, shape: Shape) -> Self {
        Self {
            config: config.clone(),
            shape,
            kept: if shape.recompute {
                1
            } else {
                config.layers().max(1)
            },
            left: 0,
            memory: None,
            numbers: BatchMemory::default(),
            sums: None,
            angles: None,
        }
    }

    /// Leaves so many bytes free, for what is still to be allocated beside the passes, when the next ones choose how much
    /// they keep.
    pub fn leave(&mut self, bytes: usize) {
        self.left = bytes;
    }

    /// Takes the memory for passes over so many positions, with gradients.
    ///
    /// # Errors
    /// The decoder has heads that no kernel takes, or out of memory.
    pub fn reserve<T: Stored>(&mut self, gpu: &mut dyn Gpu, positions: usize) -> Result<()> {
        self.check()?;
        self.room::<T>(gpu, positions, true)?;
        self.angles(gpu, positions)?;
        Ok(())
    }

    /// Scores the targets of a batch.
    ///
    /// # Errors
    /// The decoder has heads that no kernel takes, the batch does not fit together or the decoder, or the device refuses.
    pub fn score<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        batch: &Batch<'_>,
    ) -> Result<Found> {
        let pass = self.begin(gpu, parts, batch, false)?;
        self.forward(gpu, &pass)?;
        let head = self.head(&pass);
        for chunk in &pass.batch.chunks {
            head.score(gpu, chunk)?;
        }
        found(gpu, &pass, batch.targets.len())
    }

    /// Adds the gradient of `factor` times the sum of the log-probabilities of a batch's targets.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn summed<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        batch: &Batch<'_>,
        factor: f32,
    ) -> Result<Found> {
        let pass = self.begin(gpu, parts, batch, true)?;
        self.forward(gpu, &pass)?;
        let (head, count) = (self.head(&pass), batch.targets.len());
        if let Some(back) = &pass.activations.head.back {
            gpu.upload(&vec![factor; count], back.factors.part(0..count))?;
            gpu.fill(back.hidden.region(), 0)?;
            // Every coefficient is known, so the gradient by the logits is made while they are there.
            for chunk in &pass.batch.chunks {
                head.score(gpu, chunk)?;
                head.backward(gpu, chunk, back)?;
            }
        }
        self.backward(gpu, &pass)?;
        found(gpu, &pass, count)
    }

    /// Adds the gradient of the sum of the log-probabilities of a batch's targets, each times what `weigh` says of it.
    ///
    /// # Errors
    /// As [`Self::score`]; what `weigh` says.
    pub fn weighted<T: Stored, E: From<GpuError>>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        batch: &Batch<'_>,
        weigh: impl FnOnce(&Found) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        let pass = self.begin(gpu, parts, batch, true)?;
        self.forward(gpu, &pass)?;
        let (head, count) = (self.head(&pass), batch.targets.len());
        for chunk in &pass.batch.chunks {
            head.score(gpu, chunk)?;
        }
        let factors = weigh(&found(gpu, &pass, count)?)?;
        if let Some(back) = &pass.activations.head.back {
            gpu.upload(&factors, back.factors.part(0..count))?;
            gpu.fill(back.hidden.region(), 0)?;
            let chunks = &pass.batch.chunks;
            for chunk in chunks {
                // The logits of a single chunk are still there.
                if chunks.len() > 1 {
                    head.score(gpu, chunk)?;
                }
                head.backward(gpu, chunk, back)?;
            }
        }
        Ok(self.backward(gpu, &pass)?)
    }

    /// Refuses heads that no kernel takes.
    pub(super) fn check(&self) -> Result<()> {
        check_heads(&self.config)
    }

    fn extent(&self, positions: usize, back: bool) -> Extent {
        Extent {
            positions,
            keep: if back {
                Keep::Layers(self.kept)
            } else {
                Keep::Nothing
            },
            head_rows: self.shape.head_rows,
            rank: self.shape.rank,
        }
    }

    /// Memory for a pass over so many positions, and how large it is; with gradients, of as many layers as there is memory for
    /// everything is kept.
    fn room<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        positions: usize,
        back: bool,
    ) -> Result<(Region, Extent)> {
        let extent = self.extent(positions, back);
        let (had, width) = (self.memory.map_or(0, Region::bytes), size_of::<T>());
        if back && activation_bytes(&self.config, &extent, width) > had {
            let memory = gpu.memory()?;
            let free = (memory.free + had).saturating_sub(self.left);
            let room = room_for_arrays(free as u64, memory.total as u64) as usize;
            self.kept = layers_that_fit(&self.config, &extent, width, (room, self.kept));
        }
        let extent = self.extent(positions, back);
        Ok((self.memory::<T>(gpu, &extent)?, extent))
    }

    /// Memory for a pass: that of the largest one so far. It grows by a quarter at least, so that it does so a few times.
    pub(super) fn memory<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        extent: &Extent,
    ) -> Result<Region> {
        let bytes = activation_bytes(&self.config, extent, size_of::<T>());
        if let Some(memory) = self.memory.filter(|memory| memory.bytes() >= bytes) {
            return Ok(memory);
        }
        let old = self.memory.take();
        let more = old.map_or(bytes, |old| bytes.max(old.bytes() / 4 * 5));
        if let Some(old) = old {
            gpu.free_bytes(old)?;
        }
        let memory = match gpu.alloc_bytes(more) {
            Err(GpuError::OutOfMemory { .. }) if more > bytes => gpu.alloc_bytes(bytes)?,
            memory => memory?,
        };
        Ok(*self.memory.insert(memory))
    }

    /// Angles of all positions of a pass, in f64 rounded once.
    pub(super) fn angles(&mut self, gpu: &mut dyn Gpu, positions: usize) -> Result<Angles> {
        let frequencies = self.config.rope.inv_freq(self.config.head_dim);
        let half = frequencies.len();
        if let Some(angles) = self.angles.filter(|a| a.cos.len() >= positions * half) {
            return Ok(angles);
        }
        if let Some(old) = self.angles.take() {
            gpu.free(old.cos)?;
            gpu.free(old.sin)?;
        }
        let count = positions.next_power_of_two();
        let angle = |at: usize| frequencies.iter().map(move |f| at as f64 * f);
        let (cos, sin): (Vec<f32>, Vec<f32>) = (0..count)
            .flat_map(angle)
            .map(|angle| (angle.cos() as f32, angle.sin() as f32))
            .unzip();
        let angles = Angles {
            cos: gpu.alloc(cos.len())?,
            sin: gpu.alloc(sin.len())?,
            half,
        };
        gpu.upload(&cos, angles.cos)?;
        gpu.upload(&sin, angles.sin)?;
        Ok(*self.angles.insert(angles))
    }

    fn begin<'a, T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &'a Parts<Weight<T>>,
        batch: &Batch<'_>,
        back: bool,
    ) -> Result<Pass<'a, T>> {
        self.check()?;
        batch.check(self.config.vocab_size)?;
        let (memory, extent) = self.room::<T>(gpu, batch.len(), back)?;
        Ok(Pass {
            parts,
            activations: Activations::within(memory, &self.config, &extent),
            batch: self.numbers.upload(gpu, batch, extent.head_rows, None)?,
            angles: self.angles(gpu, batch.len())?,
            cache: None,
        })
    }

    fn norm(&self) -> Norm {
        Norm {
            offset: self.config.norm_weight.offset() as f32,
            eps: self.config.norm_eps as f32,
        }
    }

    /// The factor on embeddings, rounded as they are.
    fn embedding_scale<T: Stored>(&self) -> f32 {
        T::of(self.config.embedding_scale.unwrap_or(1.0) as f32).wide()
    }

    fn layer<'a, T: Stored>(&self, pass: &'a Pass<'_, T>, index: usize) -> Layer<'a, T> {
        Layer {
            form: Form {
                norm: self.norm(),
                attention: self.config.attention(index),
                activation: self.config.activation,
                angles: pass.angles,
                positions: pass.batch.positions,
                work: &pass.batch.work,
            },
            parts: &pass.parts.layers[index],
            kept: pass.activations.kept(index, self.config.layers()),
            working: &pass.activations.working,
            cached: pass
                .cache
                .map(|cache| cache.layer(index))
                .zip(pass.batch.in_cache.as_ref()),
        }
    }

    /// From tokens to the rows behind the last norm, which lie in `working.normed`.
    pub(super) fn forward<T: Stored>(&self, gpu: &mut dyn Gpu, pass: &Pass<'_, T>) -> Result<()> {
        let (all, d) = (&pass.activations, self.config.hidden_size);
        let table = pass.parts.embedding.value;
        let scaled = (d, self.embedding_scale::<T>());
        let mut x = all.stream(0);
        embedding_forward(gpu, table, pass.batch.tokens, x, scaled)?;
        for index in 0..self.config.layers() {
            // A layer's output is summed where the next norm reads it.
            let sum = (index > 0).then(|| all.stream(index));
            let layer = self.layer(pass, index);
            layer.forward(gpu, x, sum)?;
            x = layer.kept.middle;
        }
        let (norm, weight) = (self.norm(), pass.parts.norm.value);
        let added = (self.config.layers() > 0)
            .then(|| (all.working.branch, all.stream(self.config.layers())));
        norm_forward(gpu, norm, x, weight, all.working.normed, added)
    }

    pub(super) fn head<'a, T: Stored>(&self, pass: &'a Pass<'_, T>) -> Head<'a, T> {
        Head {
            weight: pass.parts.head(),
            softcap: self.config.logit_softcap.map(|cap| cap as f32),
            hidden: pass.activations.working.normed,
            width: self.config.hidden_size,
            room: &pass.activations.head,
        }
    }

    /// From the gradient by the hidden states, in `head.back.hidden`, to those of all parameters that learn.
    fn backward<T: Stored>(&self, gpu: &mut dyn Gpu, pass: &Pass<'_, T>) -> Result<()> {
        let all = &pass.activations;
        let (Some(to), Some(back)) = (&all.gradients, &all.head.back) else {
            return Ok(());
        };
        rounded(gpu, back.hidden, to.normed)?;
        let of = (all.stream(self.config.layers()), to.normed);
        let sums = (all.working.room.parts, to.nowhere);
        let weight = &pass.parts.norm;
        norm_back(gpu, self.norm(), weight, of, (None, to.stream), sums)?;
        for index in (0..self.config.layers()).rev() {
            let (layer, x) = (self.layer(pass, index), all.stream(index));
            if all.is_shared(index, self.config.layers()) {
                layer.again(gpu, x)?;
            }
            let below = index > 0 || pass.parts.embedding.grad.is_some();
            layer.backward(gpu, x, to, below)?;
        }
        let Some(grad) = pass.parts.embedding.grad else {
            return Ok(());
        };
        let scaled = (self.config.hidden_size, self.embedding_scale::<T>());
        embedding_backward(gpu, to.stream, &pass.batch.places, grad, scaled)
    }
}

/// What a pass found of its targets, after all that it did.
fn found<T: Stored>(gpu: &mut dyn Gpu, pass: &Pass<'_, T>, count: usize) -> Result<Found> {
    let scores = &pass.activations.head.scores;
    let mut found = Found {
        logps: vec![0.0; count],
        correct: vec![0; count],
    };
    gpu.download(scores.logp.part(0..count), &mut found.logps)?;
    gpu.download(scores.correct.part(0..count), &mut found.correct)?;
    Ok(found)
}
