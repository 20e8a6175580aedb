//! Weights from a folder to a device.

use crate::arch::DecoderConfig;
use crate::gpu::decoder::{Layout, Parts, Weight};
use crate::gpu::{Buf, Gpu, GpuError, Stored};
use crate::model::error::ModelError;
use crate::model::weights::{FrozenParams, StoredWeights};
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

/// Where weights come from.
pub enum WeightSource<'a> {
    /// Files, which are read one tensor after the other.
    Stored(&'a mut StoredWeights),
    /// Memory.
    Held(&'a FrozenParams),
}

impl WeightSource<'_> {
    fn load(&mut self, name: &str) -> Result<Tensor, ModelError> {
        match self {
            Self::Stored(stored) => stored.load(name, &Device::Cpu, DType::F32),
            Self::Held(params) => match params.get(name) {
                Some(tensor) => Ok(tensor.to_dtype(DType::F32)?),
                None => Err(ModelError::MissingParameter {
                    name: name.to_owned(),
                }),
            },
        }
    }
}

/// Takes the weights that have a place in `layout`, one at a time, and gives each with its place.
///
/// # Errors
/// One is missing or cannot be read; what `put` says.
pub fn upload_weights(
    mut source: WeightSource<'_>,
    layout: &Layout,
    mut put: impl FnMut(Range<usize>, &[f32]) -> Result<(), GpuError>,
) -> Result<(), ModelError> {
    for (name, place) in layout.iter() {
        let tensor = source.load(name)?;
        put(
            place.range.clone(),
            &tensor.flatten_all()?.to_vec1::<f32>()?,
        )?;
    }
    Ok(())
}

/// Numbers to a place of as many, rounded if T is shorter.
///
/// # Errors
/// Lengths differ, or the device is lost.
pub fn upload_rounded<T: Stored>(
    gpu: &mut dyn Gpu,
    numbers: &[f32],
    to: Buf<T>,
) -> Result<(), GpuError> {
    let rounded: Vec<T> = numbers.iter().map(|&x| T::of(x)).collect();
    gpu.upload(&rounded, to)
}

/// The parts of a decoder in one array that does not learn.
///
/// # Errors
/// The layout has no place for one.
pub fn frozen_parts<T: Stored>(
    config: &DecoderConfig,
    layout: &Layout,
    value: Buf<T>,
) -> Result<Parts<Weight<T>>, GpuError> {
    placed_parts(config, layout, |_, range| Weight {
        value: value.part(range),
        grad: None,
        adapter: None,
    })
}

/// The parts of a decoder, each made of its name and its place in `layout`.
///
/// # Errors
/// The layout has no place for one.
pub fn placed_parts<T: Stored>(
    config: &DecoderConfig,
    layout: &Layout,
    mut weight: impl FnMut(&str, Range<usize>) -> Weight<T>,
) -> Result<Parts<Weight<T>>, GpuError> {
    Parts::build(config, |name| match layout.get(name) {
        Some(place) => Ok(weight(name, place.range.clone())),
        None => Err(GpuError::Request(format!("no place for `{name}`"))),
    })
}
