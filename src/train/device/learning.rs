//! The arrays of parameters that learn, and their optimiser.

use crate::config::spec::OptimizerRecipe;
use crate::gpu::decoder::{Layout, Weight};
use crate::gpu::ops::optimizer::{
    Chunk, Learning as Arrays, adamw_step, chunks, clip_factor, norm_parts, squares,
};
use crate::gpu::{Buf, Comm, Gpu, GpuError, Result, Stored, shares};
use crate::train::adamw::scalars;
use crate::train::device::masters::Masters;
use crate::train::device::pieces::skip;
use crate::train::device::state::{Home, State, piece, within};
use crate::train::engine::{Give, Update};
use crate::train::error::TrainError;
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
    /// The numbers whose moments are here and that are updated here: all, unless several devices share the training.
    pub(super) own: Range<usize>,
    sharing: Option<Sharing>,
    recipe: OptimizerRecipe,
    /// Numbers whose gradient counts nowhere and that keep their bits.
    still: Vec<Range<usize>>,
    /// What learns, piece by piece of the arrays, and what of it within the piece.
    work: Vec<(Range<usize>, Buf<Chunk>)>,
    norm: NormRoom,
}

/// What a device needs to share a training with others.
struct Sharing {
    comm: Box<dyn Comm>,
    /// The sums of all gradients so far, of its own numbers.
    sum: Buf<f32>,
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
    /// asked for as whole f32 arrays, and are small. `home` is of moments and of what bf16 weights lack. With `comm`, this
    /// is one of the devices that share the training.
    pub(super) fn new(
        gpu: &mut dyn Gpu,
        (layout, are_adapters, home): (Layout, bool, Home),
        recipe: &OptimizerRecipe,
        limited: Option<(&str, Range<usize>)>,
        comm: Option<Box<dyn Comm>>,
    ) -> Result<Self> {
        let count = layout.len();
        let own = match &comm {
            Some(comm) => shares(count, comm.ranks())[comm.rank()].clone(),
            None => 0..count,
        };
        let (masters, value) = Masters::new(gpu, (count, home), own.clone(), !are_adapters)?;
        let zeros = |gpu: &mut dyn Gpu, count| -> Result<Buf<f32>> {
            let buf = gpu.alloc(count)?;
            if count > 0 {
                gpu.fill(buf.region(), 0)?;
            }
            Ok(buf)
        };
        let limit = limited.as_ref().map(|(name, rows)| (*name, rows));
        let work = work(
            gpu,
            &layout.learning(limit),
            own.clone(),
            piece(home, own.len()),
        )?;
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
            moments: [
                State::new(gpu, own.len(), home)?,
                State::new(gpu, own.len(), home)?,
            ],
            // Between parameters, too: the norm is taken over all of it.
            grad: zeros(gpu, count)?,
            sharing: match comm {
                Some(comm) => Some(Sharing {
                    comm,
                    sum: zeros(gpu, own.len())?,
                }),
                None => None,
            },
            own,
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

    /// The sums of gradients of its own numbers.
    fn sums(&self) -> Buf<f32> {
        self.sharing.as_ref().map_or(self.grad, |shared| shared.sum)
    }

    /// The same on the host; and forgets them.
    pub(super) fn take_sums(&self, gpu: &mut dyn Gpu) -> Result<Vec<f32>> {
        let mut numbers = vec![0.0; self.own.len()];
        gpu.download(self.sums(), &mut numbers)?;
        self.forget_gradients(gpu)?;
        Ok(numbers)
    }

    /// Adds the gradients of the first `given` devices to the sums, each to those of its own numbers, and forgets them.
    pub(super) fn sum_up(&mut self, gpu: &mut dyn Gpu, given: usize) -> Result<()> {
        let Some(Sharing { comm, sum }) = &mut self.sharing else {
            return Ok(());
        };
        comm.reduce(gpu, self.grad, given, *sum)?;
        if comm.rank() < given {
            gpu.fill(self.grad.region(), 0)?;
        }
        Ok(())
    }

    /// Forgets the gradients.
    pub(super) fn forget_gradients(&self, gpu: &mut dyn Gpu) -> Result<()> {
        gpu.fill(self.grad.region(), 0)?;
        match &self.sharing {
            Some(shared) if !shared.sum.is_empty() => gpu.fill(shared.sum.region(), 0),
            _ => Ok(()),
        }
    }

    /// Asks for the bytes of some of the first or second moments, and keeps those of its own numbers.
    pub(super) fn fill_moments(
        &self,
        gpu: &mut dyn Gpu,
        which: usize,
        range: &Range<usize>,
        give: &mut Give<'_>,
    ) -> std::result::Result<(), TrainError> {
        let own = within(range, &self.own);
        skip(own.start - range.start, give)?;
        if !own.is_empty() {
            self.moments[which].fill(gpu, &self.local(&own), give)?;
        }
        skip(range.end - own.end, give)
    }

    /// Where numbers lie in arrays of its own ones.
    pub(super) fn local(&self, range: &Range<usize>) -> Range<usize> {
        range.start - self.own.start..range.end - self.own.start
    }

    /// The norm of the gradients, and a step of AdamW if that is finite; the device is waited for once.
    pub(super) fn update(
        &mut self,
        gpu: &mut dyn Gpu,
        (step, rate, max_norm): (u64, f64, f64),
    ) -> Result<Update> {
        let grad = self.sums();
        for range in &self.still {
            let own = within(range, &self.own);
            if !own.is_empty() {
                gpu.fill(grad.part(self.local(&own)).region(), 0)?;
            }
        }
        self.norm(gpu, max_norm as f32)?;
        let clip = self.norm.clip;
        let step = scalars(&self.recipe, step, rate);
        let [m, v] = &self.moments;
        for (range, chunks) in &self.work {
            let local = self.local(range);
            let arrays = Arrays {
                parameters: self.masters.bring(gpu, range, self.value)?,
                m: m.bring(gpu, &local)?,
                v: v.bring(gpu, &local)?,
                grad: grad.part(local.clone()),
            };
            adamw_step(gpu, &arrays, clip, *chunks, &step)?;
            self.masters.keep(gpu, range)?;
            m.keep(gpu, &local)?;
            v.keep(gpu, &local)?;
        }
        if let Some(shared) = &mut self.sharing {
            let all = shares(self.layout.len(), shared.comm.ranks());
            self.masters
                .gather(gpu, &mut *shared.comm, &all, self.value)?;
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

    /// The norm of all gradients, on this device and on those that it shares the training with.
    fn norm(&mut self, gpu: &mut dyn Gpu, max_norm: f32) -> Result<()> {
        let NormRoom { parts, loss, clip } = self.norm;
        let Some(Sharing { comm, sum }) = &mut self.sharing else {
            squares(gpu, self.grad, parts)?;
            return clip_factor(gpu, parts, loss, max_norm, clip);
        };
        // Shares begin where parts do.
        let of = |share: &Range<usize>| norm_parts(share.start)..norm_parts(share.end);
        squares(gpu, *sum, parts.part(of(&self.own)))?;
        let all = shares(self.layout.len(), comm.ranks());
        let bytes: Vec<_> = all
            .iter()
            .map(of)
            .map(|part| part.start * size_of::<f64>()..part.end * size_of::<f64>())
            .collect();
        comm.gather(gpu, parts.region(), &bytes)?;
        clip_factor(gpu, parts, loss, max_norm, clip)
    }

    fn first_not_finite(&self, gpu: &mut dyn Gpu) -> Result<Option<String>> {
        for (name, place) in self.layout.iter() {
            let own = within(&place.range, &self.own);
            if own.is_empty() {
                continue;
            }
            let mut numbers = vec![0.0; own.len()];
            gpu.download(self.sums().part(self.local(&own)), &mut numbers)?;
            if !numbers.iter().all(|x| x.is_finite()) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }
}

/// What learns of its own numbers, by pieces of so many; pieces of which nothing learns are left out.
fn work(
    gpu: &mut dyn Gpu,
    learning: &[(Range<usize>, bool)],
    own: Range<usize>,
    piece: usize,
) -> Result<Vec<(Range<usize>, Buf<Chunk>)>> {
    let mut work = Vec::new();
    for start in own.clone().step_by(piece.max(1)) {
        let end = own.end.min(start + piece);
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
