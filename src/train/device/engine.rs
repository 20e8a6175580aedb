//! The engine over passes on a device.

use crate::arch::{DecoderConfig, FloatFormat, Learned};
use crate::data::TokenBatch;
use crate::gpu::decoder::{Layout, Parts, Place, Weight, rounded};
use crate::gpu::{Buf, GpuError, Region, Stored};
use crate::model::{Arrays, frozen_parts, placed_parts};
use crate::train::device::adapters::Base;
use crate::train::device::learning::Learning;
use crate::train::device::machine::{Machine, Scoring};
use crate::train::device::masters::Masters;
use crate::train::device::pieces::{fill, visit};
use crate::train::device::reference::Reference;
use crate::train::engine::{
    Engine, Give, Learner, Nll, Part, Take, Update, Weigh, none_kept, not_filled,
};
use crate::train::error::TrainError;
use crate::train::score::{Scorer, TokenScore};
use std::cell::RefCell;
use std::ops::Range;

/// A model in training on a device, its weights and activations in `T`.
pub struct DeviceEngine<T> {
    config: DecoderConfig,
    /// Behind a cell: bytes of the device are read by calls that change nothing.
    inner: RefCell<Inner<T>>,
    learning: Learning<T>,
    parts: Parts<Weight<T>>,
    /// Whether adapters are what learns.
    adapters: bool,
    reference: Option<Reference<T>>,
}

/// What reading changes, too.
struct Inner<T> {
    machine: Machine,
    /// What lies under adapters, if these are what learns.
    base: Option<Base<T>>,
}

impl<T: Stored> Inner<T> {
    /// The machine for passes with gradients, which leave what the model under adapters is still to take.
    fn machine(&mut self) -> &mut Machine {
        let to_come = self.base.as_ref().map_or(0, Base::to_come);
        self.machine.passes.leave(to_come);
        &mut self.machine
    }
}

/// Numbers of one name that files keep.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// As they lie on the device.
    Region(Region),
    /// These of the masters, in f32.
    Masters(Range<usize>),
    /// These of the first or second moments.
    Moments(usize, Range<usize>),
    /// These of the model, in a format.
    Model(Range<usize>, FloatFormat),
}

/// The layout of the model's own weights.
fn model_layout<'a, T>(base: Option<&'a Base<T>>, learning: &'a Learning<T>) -> &'a Layout {
    base.map_or(&learning.layout, |base| &base.layout)
}

impl<T: Stored> DeviceEngine<T> {
    /// An engine whose weights have been uploaded.
    pub(super) fn new(
        config: &DecoderConfig,
        machine: Machine,
        learning: Learning<T>,
        base: Option<Base<T>>,
    ) -> Result<Self, TrainError> {
        let parts = match &base {
            Some(base) => placed_parts(config, &base.layout, |name, range| {
                base.weight(name, range, &learning)
            }),
            None => placed_parts(config, &learning.layout, |_, range| learning.weight(range)),
        };
        Ok(Self {
            config: config.clone(),
            adapters: base.is_some(),
            parts: parts?,
            inner: RefCell::new(Inner { machine, base }),
            learning,
            reference: None,
        })
    }

    /// Keeps a reference that each move mixes with so much of the policy.
    ///
    /// # Errors
    /// The device has no memory for it.
    pub(super) fn keep_reference(&mut self, share: f64) -> Result<(), TrainError> {
        let policy = self.policy()?;
        let gpu = &mut *self.inner.get_mut().machine.gpu;
        self.reference = Some(Reference::new(gpu, share, policy)?);
        Ok(())
    }

    /// Takes the memory of passes over so many positions, with gradients: what else the training takes from its beginning
    /// to its end must lie there already.
    ///
    /// # Errors
    /// The decoder has heads that no kernel takes, or out of memory.
    pub(super) fn reserve(&mut self, positions: usize) -> Result<(), TrainError> {
        let Machine { gpu, passes } = self.inner.get_mut().machine();
        Ok(passes.reserve::<T>(&mut **gpu, positions)?)
    }

    /// The model as it would be written in the precision of training, in the layout of the model.
    fn policy(&mut self) -> Result<Buf<T>, GpuError> {
        let Inner { machine, base } = self.inner.get_mut();
        match base {
            Some(base) => base.merge(&mut *machine.gpu, &self.learning),
            None => Ok(self.learning.value),
        }
    }

    /// What scores by weights in the layout of the model.
    fn scoring(&mut self, value: Buf<T>) -> Result<Box<dyn Scorer + '_>, TrainError> {
        let Inner { machine, base } = self.inner.get_mut();
        let layout = model_layout(base.as_ref(), &self.learning);
        let parts = frozen_parts(&self.config, layout, value)?;
        Ok(Box::new(Scoring { machine, parts }))
    }

    /// The format of activations and of weights that learn themselves.
    fn format() -> FloatFormat {
        T::pick(FloatFormat::F32, FloatFormat::Bf16)
    }

    /// The arrays of a part that is kept as files have it, in their order.
    fn regions(&self, part: Part, layout: &Layout) -> Vec<Kept> {
        let own = &self.learning.layout;
        let by_number = |layout: &Layout, all: Region, size: usize| -> Vec<Kept> {
            let region = |(_, place): (&str, &Place)| {
                Kept::Region(Region {
                    at: all.at + (place.range.start * size) as u64,
                    bytes: place.range.len() * size,
                })
            };
            layout.iter().map(region).collect()
        };
        let wide = |layout: &Layout, all: Buf<f32>| by_number(layout, all.region(), 4);
        let stored = |layout: &Layout, all: Buf<T>| by_number(layout, all.region(), size_of::<T>());
        let masters = || {
            let range = |(_, place): (&str, &Place)| Kept::Masters(place.range.clone());
            own.iter().map(range).collect()
        };
        match part {
            Part::Weights if self.adapters => masters(),
            Part::Weights => stored(own, self.learning.value),
            Part::Optimizer => {
                // By name: those of `m.`, of `master.` and of `v.`.
                let [m, v] = [0, 1].map(|which| {
                    let range =
                        |(_, place): (&str, &Place)| Kept::Moments(which, place.range.clone());
                    own.iter().map(range).collect::<Vec<_>>()
                });
                let masters = if self.masters() {
                    masters()
                } else {
                    Vec::new()
                };
                [m, masters, v].concat()
            }
            Part::Reference => match self.reference.as_ref().map(Reference::arrays) {
                Some((Some(mixture), _)) => wide(layout, mixture),
                Some((None, value)) => stored(layout, value),
                None => Vec::new(),
            },
            Part::Model(_) if self.adapters => Vec::new(),
            Part::Model(format) => {
                let range = |(_, place): (&str, &Place)| Kept::Model(place.range.clone(), format);
                own.iter().map(range).collect()
            }
        }
    }

    /// What the files of a part keep, in their order; nothing of a model under adapters, which is made for them.
    pub(super) fn kept(&self, part: Part) -> Result<Vec<Kept>, TrainError> {
        if !self.holds(part) {
            return Err(none_kept());
        }
        let inner = self.inner.borrow();
        let layout = model_layout(inner.base.as_ref(), &self.learning);
        Ok(self.regions(part, layout))
    }

    /// Gives the bytes of some numbers.
    pub(super) fn visit_kept(&self, kept: Kept, take: &mut Take<'_>) -> Result<(), TrainError> {
        let gpu = &mut *self.inner.borrow_mut().machine.gpu;
        let own = &self.learning;
        match kept {
            Kept::Region(region) => visit(gpu, region, take),
            Kept::Masters(range) => own.masters.visit(gpu, range, take),
            Kept::Moments(which, range) => own.moments[which].visit(gpu, &own.local(&range), take),
            Kept::Model(range, format) => own.masters.visit_as(gpu, range, format, take),
        }
    }

    /// Adds the gradients of the first `given` of the devices that share the training to their sums.
    pub(super) fn sum_up(&mut self, given: usize) -> Result<(), TrainError> {
        let gpu = &mut *self.inner.get_mut().machine.gpu;
        Ok(self.learning.sum_up(gpu, given)?)
    }

    /// The sums of gradients that are kept here, which are forgotten.
    pub(super) fn take_sums(&mut self) -> Result<Vec<f32>, TrainError> {
        let gpu = &mut *self.inner.get_mut().machine.gpu;
        Ok(self.learning.take_sums(gpu)?)
    }

    /// Where what learns lies.
    pub(super) fn layout(&self) -> &Layout {
        &self.learning.layout
    }

    /// Whether masters are kept beside the weights.
    fn masters(&self) -> bool {
        !self.adapters && Self::format() != FloatFormat::F32
    }
}

impl<T: Stored> Scorer for DeviceEngine<T> {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        let machine = &mut self.inner.get_mut().machine;
        machine.token_scores(&self.parts, batch)
    }
}

impl<T: Stored> Learner for DeviceEngine<T> {
    fn nll(&mut self, batch: &TokenBatch, factor: f64) -> Result<Nll, TrainError> {
        let machine = self.inner.get_mut().machine();
        machine.nll(&self.parts, batch, factor)
    }

    fn weighted(&mut self, batch: &TokenBatch, weigh: &mut Weigh<'_>) -> Result<(), TrainError> {
        let machine = self.inner.get_mut().machine();
        machine.weighted(&self.parts, batch, weigh)
    }

    fn take_gradients(&mut self, take: &mut dyn FnMut(&[f32])) -> Result<(), TrainError> {
        let gpu = &mut *self.inner.get_mut().machine.gpu;
        Ok(self.learning.take_gradients(gpu, take)?)
    }
}

impl<T: Stored> Engine for DeviceEngine<T> {
    fn learned(&self) -> Learned {
        match &self.inner.borrow().base {
            Some(base) => base.recipe.learned(),
            None => Learned::All,
        }
    }

    fn update(&mut self, step: u64, rate: f64, max_norm: f64) -> Result<Update, TrainError> {
        let gpu = &mut *self.inner.get_mut().machine.gpu;
        Ok(self.learning.update(gpu, (step, rate, max_norm))?)
    }

    fn written(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError> {
        let policy = self.policy()?;
        self.scoring(policy)
    }

    fn reference(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError> {
        let kept = self.reference.as_ref().filter(|reference| reference.kept);
        let value = kept.ok_or_else(none_kept)?.value;
        self.scoring(value)
    }

    fn move_reference(&mut self) -> Result<(), TrainError> {
        let policy = self.policy()?;
        let reference = self.reference.as_mut().ok_or_else(none_kept)?;
        let gpu = &mut *self.inner.get_mut().machine.gpu;
        Ok(reference.move_towards(gpu, policy)?)
    }

    fn arrays(&self, part: Part) -> Arrays {
        let own = || self.learning.layout.shapes();
        let (format, shapes) = match part {
            // Adapters are f32, whatever passes read.
            Part::Weights if self.adapters => (FloatFormat::F32, own()),
            Part::Weights => (Self::format(), own()),
            Part::Optimizer => {
                let kinds = ["m", "v", "master"]
                    .into_iter()
                    .take(2 + usize::from(self.masters()));
                let keys = kinds.flat_map(|kind| {
                    let key = move |(name, shape)| (format!("{kind}.{name}"), shape);
                    own().into_iter().map(key)
                });
                (FloatFormat::F32, keys.collect())
            }
            Part::Reference => match &self.reference {
                Some(reference) => (reference.format(), self.config.tensors()),
                None => return Arrays::default(),
            },
            Part::Model(format) => (format, self.config.tensors()),
        };
        Arrays { format, shapes }
    }

    fn holds(&self, part: Part) -> bool {
        part != Part::Reference || self.reference.as_ref().is_some_and(|r| r.kept)
    }

    fn visit(&self, part: Part, take: &mut Take<'_>) -> Result<(), TrainError> {
        let kept = self.kept(part)?;
        if let Part::Model(format) = part {
            let inner = &mut *self.inner.borrow_mut();
            if let Some(base) = &mut inner.base {
                let gpu = &mut *inner.machine.gpu;
                return base.visit((gpu, &self.config), &self.learning, format, take);
            }
        }
        let mut kept = kept.into_iter();
        kept.try_for_each(|kept| self.visit_kept(kept, take))
    }

    fn fill(&mut self, part: Part, give: &mut Give<'_>) -> Result<(), TrainError> {
        let keeps = part != Part::Reference || self.reference.is_some();
        if !keeps || matches!(part, Part::Model(_)) {
            return Err(not_filled(part));
        }
        let Inner { machine, base } = &mut *self.inner.borrow_mut();
        let gpu = &mut *machine.gpu;
        // They are of weights that go now.
        self.learning.forget_gradients(gpu)?;
        let layout = model_layout(base.as_ref(), &self.learning);
        for kept in self.regions(part, layout) {
            match kept {
                Kept::Region(region) => fill(gpu, region, give)?,
                Kept::Masters(range) => self.learning.masters.fill(gpu, range, give)?,
                Kept::Moments(which, range) => {
                    self.learning.fill_moments(gpu, which, &range, give)?;
                }
                Kept::Model(..) => return Err(not_filled(part)),
            }
        }
        match (part, &mut self.reference) {
            (Part::Weights, _) if self.adapters => {
                if let Masters::Whole(master) = self.learning.masters {
                    rounded(gpu, master, self.learning.value)?;
                }
            }
            (Part::Reference, Some(reference)) => reference.filled(gpu)?,
            _ => {}
        }
        Ok(())
    }
}
