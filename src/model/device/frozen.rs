//! A frozen decoder on a device.

use crate::arch::{DecoderConfig, head_rows};
use crate::gpu::decoder::{Layout, Parts, Passes, Shape, Weight};
use crate::gpu::{Gpu, Stored};
use crate::model::device::upload::{WeightSource, frozen_parts, upload_rounded, upload_weights};
use crate::model::error::ModelError;
use crate::model::weights::StoredWeights;
use std::path::Path;

/// A decoder on a device, weights and activations in T, that is asked for scores, samples or hidden states.
pub struct DeviceModel<T> {
    /// What its memory is of.
    pub gpu: Box<dyn Gpu>,
    /// Its passes.
    pub passes: Passes,
    /// Its weights.
    pub parts: Parts<Weight<T>>,
    /// Its shape.
    pub config: DecoderConfig,
}

impl<T: Stored> DeviceModel<T> {
    /// The model of a folder.
    ///
    /// # Errors
    /// The weights cannot be read or do not fit, or the device refuses.
    pub fn open(gpu: Box<dyn Gpu>, dir: &Path, config: &DecoderConfig) -> Result<Self, ModelError> {
        let mut stored = StoredWeights::open(dir, config)?;
        Self::of(gpu, WeightSource::Stored(&mut stored), config)
    }

    /// The model of such weights.
    ///
    /// # Errors
    /// One is missing or cannot be read, or the device refuses.
    pub fn of(
        mut gpu: Box<dyn Gpu>,
        source: WeightSource<'_>,
        config: &DecoderConfig,
    ) -> Result<Self, ModelError> {
        let layout = &Layout::of_model(config);
        let value = gpu.alloc::<T>(layout.len())?;
        upload_weights(source, layout, |range, numbers| {
            upload_rounded(&mut *gpu, numbers, value.part(range))
        })?;
        let shape = Shape {
            head_rows: head_rows(config.vocab_size),
            rank: 0,
            recompute: false,
        };
        Ok(Self {
            parts: frozen_parts(config, layout, value)?,
            passes: Passes::new(config, shape),
            config: config.clone(),
            gpu,
        })
    }
}
