//! Where the engine of a training comes from: what a device of another kind would choose, it chooses here.
//! (`lions bench` makes its own, of random weights on the CPU.)

use crate::arch::DecoderConfig;
use crate::config::spec::{ReferenceUpdate, TrainingRecipe};
use crate::model::{FrozenParams, Lora, Params, Recompute};
use crate::stage::attempt::{Attempt, dtype};
use crate::stage::error::StageError;
use crate::train::{Engine, HostEngine, Trained};
use candle_core::DType;
use std::path::Path;

impl Attempt<'_> {
    /// The model of a folder at the beginning of a training: all its weights, or new adapters if the
    /// recipe asks for them. It keeps a reference if that is to be moved.
    pub(super) fn open_engine(
        &self,
        source: &Path,
        config: &DecoderConfig,
        recipe: &TrainingRecipe,
        reference: Option<ReferenceUpdate>,
    ) -> Result<Box<dyn Engine>, StageError> {
        let dtype = dtype(recipe.precision);
        let (trained, masters) = if let Some(lora) = &recipe.lora {
            let base = FrozenParams::load(source, config, &self.device, dtype)?;
            let lora = Lora::new(base, lora, &self.seed().child("lora"))?;
            (Trained::Adapters(lora), None)
        } else {
            let stored = FrozenParams::load(source, config, &self.device, DType::F32)?;
            let params = Params::from_frozen(&stored, dtype)?;
            (
                Trained::All(params),
                (dtype != DType::F32).then_some(stored),
            )
        };
        let mut engine = HostEngine::new(config, trained, &recipe.optimizer)?;
        if recipe.lora.is_some() && dtype != DType::F32 {
            engine = engine.writes_into(source.to_owned());
        }
        if self.file.runtime.recompute_layers == Some(true) {
            engine = engine.with_recompute(Recompute::Layers);
        }
        if let Some(masters) = masters {
            engine.set_masters(masters)?;
        }
        if let Some(which) = recipe.trainable_embeddings {
            engine.limit_embeddings(which)?;
        }
        if let Some(update) = reference {
            engine.keep_reference(update.mix.get())?;
        }
        Ok(Box::new(engine))
    }
}
