//! From a folder and a recipe to an engine on the CPU.

use crate::model::{FrozenParams, Lora, Params, Recompute, dtype_of};
use crate::train::engine::Engine;
use crate::train::error::TrainError;
use crate::train::host::engine::HostEngine;
use crate::train::host::trained::Trained;
use crate::train::start::EngineStart;
use candle_core::{DType, Device};

/// The engine of a training at its beginning.
///
/// # Errors
/// The weights cannot be read or do not fit, or no row of the embedding would learn.
pub fn open_on_host(start: &EngineStart<'_>) -> Result<Box<dyn Engine>, TrainError> {
    let (source, config, recipe) = (start.source, start.config, start.recipe);
    let dtype = dtype_of(recipe.precision);
    let (trained, masters) = if let Some(lora) = &recipe.lora {
        let base = FrozenParams::load(source, config, &Device::Cpu, dtype)?;
        (Trained::Adapters(Lora::new(base, lora, start.seed)?), None)
    } else {
        let stored = match start.weights {
            Some(weights) => weights.clone(),
            None => FrozenParams::load(source, config, &Device::Cpu, DType::F32)?,
        };
        let params = Params::from_frozen(&stored, dtype)?;
        let masters = (dtype != DType::F32).then_some(stored);
        (Trained::All(params), masters)
    };
    let mut engine = HostEngine::new(config, trained, &recipe.optimizer)?;
    if recipe.lora.is_some() && dtype != DType::F32 {
        engine = engine.writes_into(source.to_owned());
    }
    if start.recompute {
        engine = engine.with_recompute(Recompute::Layers);
    }
    if let Some(masters) = masters {
        engine.set_masters(masters)?;
    }
    if let Some(which) = recipe.trainable_embeddings {
        engine.limit_embeddings(which)?;
    }
    if let Some(update) = start.reference {
        engine.keep_reference(update.mix.get())?;
    }
    Ok(Box::new(engine))
}
