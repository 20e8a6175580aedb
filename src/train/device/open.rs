//! From a folder and a recipe to an engine on a device.

use crate::arch::{DecoderConfig, EMBEDDING};
use crate::base::SeedTree;
use crate::config::spec::{LoraRecipe, Precision, ReferenceUpdate, TrainingRecipe};
use crate::gpu::decoder::{Layout, Passes, Shape, head_rows};
use crate::gpu::{Gpu, GpuError, Stored};
use crate::model::{StoredWeights, new_adapters};
use crate::train::device::adapters::Base;
use crate::train::device::engine::{DeviceEngine, frozen};
use crate::train::device::learning::Learning;
use crate::train::device::machine::{Machine, Scoring};
use crate::train::engine::Engine;
use crate::train::error::TrainError;
use crate::train::score::Scorer;
use candle_core::{DType, Device, Tensor};
use half::bf16;
use std::ops::Range;
use std::path::Path;

/// Where a training on a device begins.
#[derive(Clone, Copy, Debug)]
pub struct DeviceStart<'a> {
    /// The folder of the model.
    pub source: &'a Path,
    /// Its configuration.
    pub config: &'a DecoderConfig,
    /// What learns, in which precision, by which optimiser.
    pub recipe: &'a TrainingRecipe,
    /// A reference that moves, if one is kept.
    pub reference: Option<ReferenceUpdate>,
    /// By which new adapters are drawn: the same as those of the host.
    pub seed: &'a SeedTree,
    /// Layers are computed again in the backward pass: less memory, the same bits.
    pub recompute: bool,
    /// Positions of the largest pass that is to be expected, for which memory is taken at once. Larger ones take more
    /// when they come.
    pub positions: usize,
}

/// The engine of a training at its beginning.
///
/// # Errors
/// The weights cannot be read or do not fit, no row of the embedding would learn, or the device refuses, also for want
/// of memory.
pub fn open_on_device(
    gpu: Box<dyn Gpu>,
    start: &DeviceStart<'_>,
) -> Result<Box<dyn Engine>, TrainError> {
    Ok(match start.recipe.precision {
        Precision::F32 => Box::new(open::<f32>(gpu, start)?),
        Precision::Bf16 => Box::new(open::<bf16>(gpu, start)?),
    })
}

/// A model that only scores.
///
/// # Errors
/// The weights cannot be read or do not fit, or the device refuses.
pub fn open_scorer_on_device(
    gpu: Box<dyn Gpu>,
    source: &Path,
    config: &DecoderConfig,
    precision: Precision,
) -> Result<Box<dyn Scorer>, TrainError> {
    Ok(match precision {
        Precision::F32 => Box::new(open_scorer::<f32>(gpu, source, config)?),
        Precision::Bf16 => Box::new(open_scorer::<bf16>(gpu, source, config)?),
    })
}

fn open_scorer<T: Stored>(
    mut gpu: Box<dyn Gpu>,
    source: &Path,
    config: &DecoderConfig,
) -> Result<Scoring<Machine, T>, TrainError> {
    let layout = Layout::of_model(config);
    let value = gpu.alloc::<T>(layout.len())?;
    for_each_weight(source, config, &layout, |range, numbers| {
        upload_rounded(&mut *gpu, numbers, value.part(range))
    })?;
    Ok(Scoring {
        parts: frozen(config, &layout, value)?,
        machine: machine(gpu, config, None, false),
    })
}

fn machine(
    gpu: Box<dyn Gpu>,
    config: &DecoderConfig,
    lora: Option<&LoraRecipe>,
    recompute: bool,
) -> Machine {
    let shape = Shape {
        head_rows: head_rows(config.vocab_size),
        rank: lora.map_or(0, |lora| lora.rank.get()),
        recompute,
    };
    Machine {
        gpu,
        passes: Passes::new(config, shape),
    }
}

pub(super) fn open<T: Stored>(
    mut gpu: Box<dyn Gpu>,
    start: &DeviceStart<'_>,
) -> Result<DeviceEngine<T>, TrainError> {
    let (config, recipe) = (start.config, start.recipe);
    let device = &mut *gpu;
    let model = Layout::of_model(config);
    let (learning, base) = match &recipe.lora {
        Some(lora) => {
            let (learning, base) = open_adapters(device, start, model, lora)?;
            (learning, Some(base))
        }
        None => (open_whole(device, start, model)?, None),
    };
    let mut machine = machine(gpu, config, recipe.lora.as_ref(), start.recompute);
    if start.positions > 0 {
        let Machine { gpu, passes } = &mut machine;
        passes.reserve::<T>(&mut **gpu, start.positions)?;
    }
    let mut engine = DeviceEngine::new(config, machine, learning, base)?;
    if let Some(update) = start.reference {
        engine.keep_reference(update.mix.get())?;
    }
    Ok(engine)
}

/// The rows of the embedding that alone learn, if not all do.
fn limited(start: &DeviceStart<'_>) -> Result<Option<(&'static str, Range<usize>)>, TrainError> {
    let vocabulary = start.config.vocab_size;
    match start.recipe.trainable_embeddings {
        Some(which) if which.rows(vocabulary).is_empty() => {
            Err(TrainError::NoEmbedding { vocabulary })
        }
        which => Ok(which.map(|which| (EMBEDDING, which.rows(vocabulary)))),
    }
}

/// All weights of the model, which learn.
fn open_whole<T: Stored>(
    gpu: &mut dyn Gpu,
    start: &DeviceStart<'_>,
    model: Layout,
) -> Result<Learning<T>, TrainError> {
    let learning = Learning::new(gpu, model, &start.recipe.optimizer, limited(start)?)?;
    for_each_weight(
        start.source,
        start.config,
        &learning.layout,
        |range, numbers| learning.set(gpu, range, numbers),
    )?;
    Ok(learning)
}

/// New adapters, which learn, on the model.
fn open_adapters<T: Stored>(
    gpu: &mut dyn Gpu,
    start: &DeviceStart<'_>,
    model: Layout,
    lora: &LoraRecipe,
) -> Result<(Learning<T>, Base<T>), TrainError> {
    let new = new_adapters(&start.config.tensors(), lora, start.seed)?;
    let shapes = new
        .iter()
        .map(|(name, t)| (name.clone(), t.dims().to_vec()));
    let learning = Learning::new(
        gpu,
        Layout::new(shapes),
        &start.recipe.optimizer,
        limited(start)?,
    )?;
    for (name, tensor) in &new {
        if let Some(place) = learning.layout.get(name) {
            learning.set(gpu, place.range.clone(), &numbers_of(tensor)?)?;
        }
    }
    let base = Base::new(gpu, model, lora, start.source.to_owned())?;
    for_each_weight(
        start.source,
        start.config,
        &base.layout,
        |range, numbers| upload_rounded(gpu, numbers, base.value.part(range)),
    )?;
    Ok((learning, base))
}

fn numbers_of(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

fn upload_rounded<T: Stored>(
    gpu: &mut dyn Gpu,
    numbers: &[f32],
    to: crate::gpu::Buf<T>,
) -> Result<(), GpuError> {
    let stored: Vec<T> = numbers.iter().map(|&x| T::of(x)).collect();
    gpu.upload(&stored, to)
}

/// Reads the weights of a folder, one at a time, with their places in `layout`.
fn for_each_weight(
    source: &Path,
    config: &DecoderConfig,
    layout: &Layout,
    mut put: impl FnMut(Range<usize>, &[f32]) -> Result<(), GpuError>,
) -> Result<(), TrainError> {
    let mut stored = StoredWeights::open(source, config)?;
    for (name, place) in layout.iter() {
        let tensor = stored.load(name, &Device::Cpu, DType::F32)?;
        put(place.range.clone(), &numbers_of(&tensor)?)?;
    }
    Ok(())
}
