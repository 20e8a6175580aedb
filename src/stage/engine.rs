//! Where models and engines come from: what a device of another kind would compute, it is chosen here.
//! (`lions bench` makes its own, of random weights on the CPU.)

use crate::arch::DecoderConfig;
use crate::config::spec::{Precision, ReferenceUpdate, TrainingRecipe};
use crate::generate::Generator;
use crate::model::{
    Decoder, FrozenParams, HostOpener, Lora, ModelOpener, Params, Recompute, dtype_of,
};
use crate::stage::attempt::Attempt;
use crate::stage::error::StageError;
use crate::train::{Engine, HostEngine, HostLearner, Learner, Scorer, Trained};
use candle_core::DType;
use std::path::Path;

/// A trained model that is asked and not changed.
pub(super) trait Model: Scorer + Generator {}

impl<M: Scorer + Generator> Model for M {}

impl Attempt<'_> {
    /// The model of a folder, to score and to sample from.
    pub(super) fn open_model(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn Model>, StageError> {
        let opener = HostOpener(self.device.clone());
        Ok(Box::new(opener.decoder(dir, config, precision)?))
    }

    /// Opens models that are read, and reward models.
    pub(super) fn opener(&self) -> Box<dyn ModelOpener> {
        Box::new(HostOpener(self.device.clone()))
    }

    /// The model of a folder, to take gradients of single rows from; they are rounded as its weights
    /// are.
    pub(super) fn open_learner(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn Learner>, StageError> {
        let params = Params::load(dir, config, &self.device, dtype_of(precision))?;
        let decoder = Decoder::trainable(config, &params)?;
        Ok(Box::new(HostLearner::new(decoder, params.vars().clone())))
    }

    /// The model of a folder at the beginning of a training: all its weights, or new adapters if the
    /// recipe asks for them. It keeps a reference if that is to be moved.
    pub(super) fn open_engine(
        &self,
        source: &Path,
        config: &DecoderConfig,
        recipe: &TrainingRecipe,
        reference: Option<ReferenceUpdate>,
    ) -> Result<Box<dyn Engine>, StageError> {
        let dtype = dtype_of(recipe.precision);
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
