//! The arrays of parameters that learn, and their optimiser.

use crate::config::spec::OptimizerRecipe;
use crate::gpu::decoder::{Layout, Weight};
use crate::gpu::ops::optimizer::{
    Chunk, Learning as Arrays, adamw_step, chunks, gradient_norm, norm_parts,
};
use crate::gpu::{Buf, Gpu, GpuError, Result, Stored};
use crate::train::adamw::scalars;
use crate::train::device::masters::Masters;
use crate::train::device::state::{Home, State, piece};
use crate::train::engine::Update;
use std::ops::Range;

/// Parameters that learn: all of them in arrays of one layout.
pub(super) struct Learning<T> {
    pub(super) layout: Layout,
    /// As passes read them.
    pub(super) value: Buf<T>,
    /// In f32.
    pub(super) masters: Masters,
    /// First and second moments.
    pub(super) moments: [State<f32>; 2],
    grad: Buf<f32>,
    recipe: OptimizerRecipe,
    /// Numbers whose gradient counts nowhere and that keep their bits.
    still: Vec<Range<usize>>,
    /// What learns, piece by piece of the arrays, and what of it within the piece.
    work: Vec<(Range<usize>, Buf<Chunk>)>,
    norm: NormRoom,
}

/// What the norm of the gradients is made in.
struct NormRoom {
    parts: Buf<f64>,
    /// A loss that is finite: whoever asks for an update has looked at the loss.
    loss: Buf<f32>,
    clip: Buf<f32>,
}

impl<T: Stored> Learning<T> {
    /// Moments and gradients 0, parameters of any value. With `limited`, only some rows of one matrix learn. Adapters are
    /// asked for as whole f32 arrays, and are small. `home` is of moments and of what bf16 weights lack.
    pub(super) fn new(
        gpu: &mut dyn Gpu,
        (layout, are_adapters, home): (Layout, bool, Home),
        recipe: &OptimizerRecipe,
        limited: Option<(&str, Range<usize>)>,
    ) -> Result<Self> {
        let count = layout.len();
        let (masters, value) = Masters::new(gpu, (count, home), !are_adapters)?;
        let zeros = |gpu: &mut dyn Gpu, count| -> Result<Buf<f32>> {
            let buf = gpu.alloc(count)?;
            gpu.fill(buf.region(), 0)?;
            Ok(buf)
        };
        let limit = limited.as_ref().map(|(name, rows)| (*name, rows));
        let work = work(gpu, &layout.learning(limit), count, piece(home, count))?;
        let still = match &limited {
            Some((name, rows)) => {
                let missing = || GpuError::Request(format!("`{name}` does not learn"));
                let place = layout.get(name).ok_or_else(missing)?;
                let (all, learns) = (place.range.clone(), place.rows(rows));
                vec![all.start..learns.start, learns.end..all.end]
            }
            None => Vec::new(),
        };
        Ok(Self {
            still,
            value,
            masters,
            moments: [State::new(gpu, count, home)?, State::new(gpu, count, home)?],
            // Between parameters, too: the norm is taken over all of it.
            grad: zeros(gpu, count)?,
            recipe: *recipe,
            work,
            norm: NormRoom {
                parts: gpu.alloc(norm_parts(count))?,
                loss: zeros(gpu, 1)?,
                clip: gpu.alloc(3)?,
            },
            layout,
        })
    }

    /// Sets one parameter.
    pub(super) fn set(
        &self,
        gpu: &mut dyn Gpu,
        range: Range<usize>,
        numbers: &[f32],
    ) -> Result<()> {
        self.masters.set(gpu, (range, self.value), numbers)
    }

    /// A parameter as passes see it.
    pub(super) fn weight(&self, range: Range<usize>) -> Weight<T> {
        Weight {
            value: self.value.part(range.clone()),
            grad: Some(self.grad.part(range)),
            adapter: None,
        }
    }

    /// Where the gradient of one parameter is added to.
    pub(super) fn grad(&self, range: Range<usize>) -> Buf<f32> {
        self.grad.part(range)
    }

    /// Gives the gradients in name order and forgets them.
    pub(super) fn take_gradients(
        &self,
        gpu: &mut dyn Gpu,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<()> {
        take_gradients(gpu, &self.layout, self.grad, take)
    }

    /// Forgets the gradients.
    pub(super) fn forget_gradients(&self, gpu: &mut dyn Gpu) -> Result<()> {
        gpu.fill(self.grad.region(), 0)
    }

    /// The norm of the gradients, and a step of AdamW if that is finite; the device is waited for once.
    pub(super) fn update(
        &self,
        gpu: &mut dyn Gpu,
        (step, rate, max_norm): (u64, f64, f64),
    ) -> Result<Update> {
        for range in &self.still {
            gpu.fill(self.grad.part(range.clone()).region(), 0)?;
        }
        let NormRoom { parts, loss, clip } = self.norm;
        gradient_norm(gpu, self.grad, loss, (parts, max_norm as f32), clip)?;
        let step = scalars(&self.recipe, step, rate);
        let [m, v] = &self.moments;
        for (range, chunks) in &self.work {
            let arrays = Arrays {
                parameters: self.masters.bring(gpu, range, self.value)?,
                m: m.bring(gpu, range)?,
                v: v.bring(gpu, range)?,
                grad: self.grad.part(range.clone()),
            };
            adamw_step(gpu, &arrays, clip, *chunks, &step)?;
            self.masters.keep(gpu, range)?;
            m.keep(gpu, range)?;
            v.keep(gpu, range)?;
        }
        let mut found = [0.0; 3];
        gpu.download(clip, &mut found)?;
        let not_finite = if found[2] > 0.0 {
            Some(self.first_not_finite(gpu)?.unwrap_or_default())
        } else {
            None
        };
        self.forget_gradients(gpu)?;
        Ok(Update {
            norm: f64::from(found[0]),
            not_finite,
        })
    }

    fn first_not_finite(&self, gpu: &mut dyn Gpu) -> Result<Option<String>> {
        for (name, place) in self.layout.iter() {
            let mut numbers = vec![0.0; place.range.len()];
            gpu.download(self.grad.part(place.range.clone()), &mut numbers)?;
            if !numbers.iter().all(|x| x.is_finite()) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }
}

/// What learns of `count` numbers, by pieces of so many; pieces of which nothing learns are left out.
fn work(
    gpu: &mut dyn Gpu,
    learning: &[(Range<usize>, bool)],
    count: usize,
    piece: usize,
) -> Result<Vec<(Range<usize>, Buf<Chunk>)>> {
    let mut work = Vec::new();
    for start in (0..count).step_by(piece.max(1)) {
        let end = count.min(start + piece);
        let within = learning.iter().filter_map(|(range, decays)| {
            let (first, last) = (range.start.max(start), range.end.min(end));
            (first < last).then(|| (first - start..last - start, *decays))
        });
        let chunks = chunks(&within.collect::<Vec<_>>());
        if !chunks.is_empty() {
            let on_device = gpu.alloc(chunks.len())?;
            gpu.upload(&chunks, on_device)?;
            work.push((start..end, on_device));
        }
    }
    Ok(work)
}

/// Gives gradients in name order and forgets them.
pub(super) fn take_gradients(
    gpu: &mut dyn Gpu,
    layout: &Layout,
    grad: Buf<f32>,
    take: &mut dyn FnMut(&[f32]),
) -> Result<()> {
    for (_, place) in layout.iter() {
        let mut numbers = vec![0.0; place.range.len()];
        gpu.download(grad.part(place.range.clone()), &mut numbers)?;
        take(&numbers);
    }
    gpu.fill(grad.region(), 0)
}
