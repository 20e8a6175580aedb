//! From a folder and a recipe to an engine on a device.

use crate::arch::{CardFootprint, DecoderConfig, EMBEDDING, Learned, head_rows, room_for_arrays};
use crate::base::available_memory;
use crate::config::spec::{LoraRecipe, Precision};
use crate::gpu::decoder::{Layout, Passes, Shape};
use crate::gpu::{Comm, Gpu, GpuError, Stored};
use crate::model::{StoredWeights, WeightSource, new_adapters, upload_rounded, upload_weights};
use crate::train::device::adapters::Base;
use crate::train::device::engine::DeviceEngine;
use crate::train::device::learning::Learning;
use crate::train::device::machine::Machine;
use crate::train::device::state::Home;
use crate::train::engine::Engine;
use crate::train::error::TrainError;
use crate::train::start::EngineStart;
use half::bf16;
use std::ops::Range;

/// The engine of a training at its beginning.
///
/// # Errors
/// The weights cannot be read or do not fit, no row of the embedding would learn, or the device refuses, also for want
/// of memory.
pub fn open_on_device(
    gpu: Box<dyn Gpu>,
    start: &EngineStart<'_>,
) -> Result<Box<dyn Engine>, TrainError> {
    Ok(match start.recipe.precision {
        Precision::F32 => Box::new(open::<f32>(gpu, start, None)?),
        Precision::Bf16 => Box::new(open::<bf16>(gpu, start, None)?),
    })
}

pub(super) fn machine(
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

/// The engine of one device; with `comm`, of one of those that share a training.
pub(super) fn open<T: Stored>(
    mut gpu: Box<dyn Gpu>,
    start: &EngineStart<'_>,
    comm: Option<Box<dyn Comm>>,
) -> Result<DeviceEngine<T>, TrainError> {
    let (config, recipe) = (start.config, start.recipe);
    let device = &mut *gpu;
    let model = Layout::of_model(config);
    let (learning, base) = match &recipe.lora {
        Some(lora) => {
            let (learning, base) = open_adapters(device, start, (model, lora), comm)?;
            (learning, Some(base))
        }
        None => (open_whole(device, start, model, comm)?, None),
    };
    let machine = machine(gpu, config, recipe.lora.as_ref(), start.recompute);
    let mut engine = DeviceEngine::new(config, machine, learning, base)?;
    if let Some(update) = start.reference {
        engine.keep_reference(update.mix.get())?;
    }
    // Passes keep as many layers as there is memory for, so they come last.
    if start.positions > 0 {
        engine.reserve(start.positions)?;
    }
    Ok(engine)
}

/// Where moments, and what bf16 weights lack, lie of a training of all weights: on the device if they fit there beside passes
/// that keep one layer's activations, which is as little as they take.
fn home<T: Stored>(
    gpu: &mut dyn Gpu,
    start: &EngineStart<'_>,
    ranks: usize,
) -> Result<Home, GpuError> {
    let resident = CardFootprint {
        bf16: T::pick(false, true),
        learned: Some(&Learned::All),
        positions: start.positions,
        kept_layers: 1,
        measured: false,
        reference: start.reference.map(|update| update.mix.get()),
        state_on_host: false,
        ranks,
    };
    let memory = gpu.memory()?;
    let room = room_for_arrays(memory.free as u64, memory.total as u64);
    if resident.peak(start.config) <= room {
        return Ok(Home::Device);
    }
    let streamed = CardFootprint {
        state_on_host: true,
        ..resident
    };
    // What all of its devices take comes from one host.
    let wanted = streamed.on_host(start.config) * ranks as u64;
    check_host(wanted, available_memory())?;
    Ok(Home::Host)
}

/// Refuses a state for which the host has too little memory, before it is taken: page-locked memory goes to no file, and its
/// want would end other processes, too.
fn check_host(wanted: u64, available: Option<u64>) -> Result<(), GpuError> {
    match available {
        Some(available) if wanted > available => Err(GpuError::NoHostMemory {
            wanted: usize::try_from(wanted).unwrap_or(usize::MAX),
            available,
        }),
        _ => Ok(()),
    }
}

/// The rows of the embedding that alone learn, if not all do.
fn limited(start: &EngineStart<'_>) -> Result<Option<(&'static str, Range<usize>)>, TrainError> {
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
    start: &EngineStart<'_>,
    model: Layout,
    comm: Option<Box<dyn Comm>>,
) -> Result<Learning<T>, TrainError> {
    let ranks = comm.as_ref().map_or(1, |comm| comm.ranks());
    let home = home::<T>(gpu, start, ranks)?;
    let learning = Learning::new(
        gpu,
        (model, false, home),
        &start.recipe.optimizer,
        limited(start)?,
        comm,
    )?;
    for_each_weight(start, &learning.layout, |range, numbers| {
        learning.set(gpu, range, numbers)
    })?;
    Ok(learning)
}

/// New adapters, which learn, on the model.
fn open_adapters<T: Stored>(
    gpu: &mut dyn Gpu,
    start: &EngineStart<'_>,
    (model, lora): (Layout, &LoraRecipe),
    comm: Option<Box<dyn Comm>>,
) -> Result<(Learning<T>, Base<T>), TrainError> {
    let new = new_adapters(&start.config.tensors(), lora, start.seed)?;
    let shapes = new
        .iter()
        .map(|(name, t)| (name.clone(), t.dims().to_vec()));
    let learning = Learning::new(
        gpu,
        (Layout::new(shapes), true, Home::Device),
        &start.recipe.optimizer,
        limited(start)?,
        comm,
    )?;
    for (name, tensor) in &new {
        if let Some(place) = learning.layout.get(name) {
            learning.set(
                gpu,
                place.range.clone(),
                &tensor.flatten_all()?.to_vec1::<f32>()?,
            )?;
        }
    }
    let base = Base::new(gpu, model, lora, start.source.to_owned())?;
    for_each_weight(start, &base.layout, |range, numbers| {
        upload_rounded(gpu, numbers, base.value.part(range))
    })?;
    Ok((learning, base))
}

/// Takes the weights of the model, one at a time, with their places in `layout`.
fn for_each_weight(
    start: &EngineStart<'_>,
    layout: &Layout,
    put: impl FnMut(Range<usize>, &[f32]) -> Result<(), GpuError>,
) -> Result<(), TrainError> {
    if let Some(weights) = start.weights {
        return Ok(upload_weights(WeightSource::Held(weights), layout, put)?);
    }
    let mut stored = StoredWeights::open(start.source, start.config)?;
    let source = WeightSource::Stored(&mut stored);
    Ok(upload_weights(source, layout, put)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_for_which_the_host_has_too_little_memory_is_refused_in_numbers() {
        check_host(10, Some(10)).unwrap();
        check_host(10, None).unwrap();
        let error = check_host(80_000_000_000, Some(31_000_000_000)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the optimiser's state does not fit the device and takes 80000000000 bytes of the host's memory, of which \
             31000000000 are available: fewer runs at a time (`--jobs`), `precision = \"bf16\"`, `lora` or a larger GPU \
             take less"
        );
    }
}
