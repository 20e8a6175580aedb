//! Where models come from that are trained or asked: here, and nowhere else, the device decides.
//! (`lions bench` makes its own, of random weights on the CPU.)

use crate::arch::DecoderConfig;
use crate::base::Device;
use crate::config::spec::{Precision, ReferenceUpdate, TrainingRecipe};
use crate::generate::Generator;
use crate::model::{
    Decoder, FrozenParams, HostOpener, Lora, ModelOpener, Params, Recompute, dtype_of,
};
use crate::rundir::AttemptEvent;
use crate::stage::attempt::Attempt;
use crate::stage::device::open_device;
use crate::stage::error::StageError;
use crate::train::{
    DeviceStart, Engine, HostEngine, HostLearner, Learner, Scorer, Trained, open_on_device,
    open_scorer_on_device,
};
use candle_core::DType;
use std::path::{Path, PathBuf};

/// A trained model that is asked and not changed. It is opened when it is first asked, for log-probabilities on the
/// attempt's device, for samples on the processor.
pub(super) struct Asked {
    dir: PathBuf,
    /// Its shape.
    pub(super) config: DecoderConfig,
    precision: Precision,
    /// Beside the processor.
    scorer: Option<Box<dyn Scorer>>,
    model: Option<Box<dyn Model>>,
}

impl Asked {
    pub(super) fn new(dir: PathBuf, config: DecoderConfig, precision: Precision) -> Self {
        Self {
            dir,
            config,
            precision,
            scorer: None,
            model: None,
        }
    }

    pub(super) fn scorer(&mut self, job: &mut Attempt<'_>) -> Result<&mut dyn Scorer, StageError> {
        if job.context.device == Device::Cpu {
            return Ok(self.model(job)?);
        }
        let scorer = match self.scorer.take() {
            Some(scorer) => scorer,
            None => job.open_scorer(&self.dir, &self.config, self.precision)?,
        };
        Ok(&mut **self.scorer.insert(scorer))
    }

    pub(super) fn generator(
        &mut self,
        job: &mut Attempt<'_>,
    ) -> Result<&mut dyn Generator, StageError> {
        Ok(self.model(job)?)
    }

    fn model(&mut self, job: &mut Attempt<'_>) -> Result<&mut dyn Model, StageError> {
        let model = if let Some(model) = self.model.take() {
            model
        } else {
            job.on_processor()?;
            job.open_model(&self.dir, &self.config, self.precision)?
        };
        Ok(&mut **self.model.insert(model))
    }
}

/// What scores and samples.
pub(super) trait Model: Scorer + Generator {}

impl<M: Scorer + Generator> Model for M {}

impl Attempt<'_> {
    /// The model of a folder, to ask it for log-probabilities.
    pub(super) fn open_scorer(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn Scorer>, StageError> {
        let context = self.context;
        if let Some(gpu) = open_device(context.device, &context.access)? {
            return Ok(open_scorer_on_device(gpu, dir, config, precision)?);
        }
        let opener = HostOpener(self.device.clone());
        Ok(Box::new(opener.decoder(dir, config, precision)?))
    }

    /// Tells where an attempt does on the processor what no other device does yet (sampling, and the scores of
    /// filters and reward models), for it takes long. To be called once, by who opens models below for that.
    pub(super) fn on_processor(&mut self) -> Result<(), StageError> {
        let device = self.context.device;
        if device != Device::Cpu {
            let message = format!("samples and filters are computed on the CPU, not on `{device}`");
            self.telemetry.tell(&AttemptEvent::Warning { message })?;
        }
        Ok(())
    }

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
        let recompute = self.file.runtime.recompute_layers == Some(true);
        let context = self.context;
        if let Some(gpu) = open_device(context.device, &context.access)? {
            let start = DeviceStart {
                source,
                config,
                recipe,
                reference,
                seed: &self.seed().child("lora"),
                recompute,
                positions: self.micro_batch_tokens(),
            };
            return Ok(open_on_device(gpu, &start)?);
        }
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
        if recompute {
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
