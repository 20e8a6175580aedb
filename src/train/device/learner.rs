//! A model on a device that gradients are taken of, and that stays as it is.

use crate::arch::DecoderConfig;
use crate::config::spec::Precision;
use crate::data::TokenBatch;
use crate::gpu::decoder::{Layout, Parts, Weight};
use crate::gpu::{Buf, Gpu, Stored};
use crate::model::{StoredWeights, WeightSource, placed_parts, upload_rounded, upload_weights};
use crate::train::device::learning::take_gradients;
use crate::train::device::machine::Machine;
use crate::train::device::open::machine;
use crate::train::engine::{Learner, Nll, Weigh};
use crate::train::error::TrainError;
use crate::train::score::{Scorer, TokenScore};
use half::bf16;
use std::path::Path;

/// The model of a folder, to take gradients of.
///
/// # Errors
/// The weights cannot be read or do not fit, or the device refuses.
pub fn open_learner_on_device(
    gpu: Box<dyn Gpu>,
    source: &Path,
    config: &DecoderConfig,
    precision: Precision,
) -> Result<Box<dyn Learner>, TrainError> {
    Ok(match precision {
        Precision::F32 => Box::new(DeviceLearner::<f32>::open(gpu, source, config)?),
        Precision::Bf16 => Box::new(DeviceLearner::<bf16>::open(gpu, source, config)?),
    })
}

/// Weights in T, their gradients in f32.
struct DeviceLearner<T> {
    machine: Machine,
    parts: Parts<Weight<T>>,
    layout: Layout,
    grad: Buf<f32>,
}

impl<T: Stored> DeviceLearner<T> {
    fn open(
        mut gpu: Box<dyn Gpu>,
        source: &Path,
        config: &DecoderConfig,
    ) -> Result<Self, TrainError> {
        let layout = Layout::of_model(config);
        let value = gpu.alloc::<T>(layout.len())?;
        let grad = gpu.alloc(layout.len())?;
        gpu.fill(grad.region(), 0)?;
        let mut stored = StoredWeights::open(source, config)?;
        upload_weights(
            WeightSource::Stored(&mut stored),
            &layout,
            |range, numbers| upload_rounded(&mut *gpu, numbers, value.part(range)),
        )?;
        let parts = placed_parts(config, &layout, |_, range| Weight {
            value: value.part(range.clone()),
            grad: Some(grad.part(range)),
            adapter: None,
        })?;
        Ok(Self {
            machine: machine(gpu, config, None, false),
            parts,
            layout,
            grad,
        })
    }
}

impl<T: Stored> Scorer for DeviceLearner<T> {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        self.machine.token_scores(&self.parts, batch)
    }
}

impl<T: Stored> Learner for DeviceLearner<T> {
    fn nll(&mut self, batch: &TokenBatch, factor: f64) -> Result<Nll, TrainError> {
        self.machine.nll(&self.parts, batch, factor)
    }

    fn weighted(&mut self, batch: &TokenBatch, weigh: &mut Weigh<'_>) -> Result<(), TrainError> {
        self.machine.weighted(&self.parts, batch, weigh)
    }

    fn take_gradients(&mut self, take: &mut dyn FnMut(&[f32])) -> Result<(), TrainError> {
        let gpu = &mut *self.machine.gpu;
        Ok(take_gradients(gpu, &self.layout, self.grad, take)?)
    }
}
