//! Where models come from that are trained or asked: here, and nowhere else, the device decides.
//! (`lions bench` makes its own, of random weights on the CPU.)

use crate::arch::{DecoderConfig, largest_pass};
use crate::base::Device;
use crate::config::spec::{Precision, ReferenceUpdate, TrainingRecipe};
use crate::generate::{Generator, LogitReader};
use crate::gpu::{Gpu, GpuError, SharedGpu};
use crate::model::{Decoder, DeviceModel, DeviceOpener, HostOpener, ModelOpener, Params, dtype_of};
use crate::rundir::AttemptEvent;
use crate::stage::attempt::Attempt;
use crate::stage::device::{open_device, open_rank};
use crate::stage::error::StageError;
use crate::train::{
    Engine, EngineStart, HostLearner, Learner, Ranks, Scorer, open_learner_on_device,
    open_on_device, open_on_devices, open_on_host,
};
use half::bf16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A trained model that is asked and not changed. It is opened when it is first asked.
pub(super) struct Asked {
    dir: PathBuf,
    /// Its shape.
    pub(super) config: DecoderConfig,
    precision: Precision,
    model: Option<Box<dyn Model>>,
}

impl Asked {
    pub(super) fn new(dir: PathBuf, config: DecoderConfig, precision: Precision) -> Self {
        Self {
            dir,
            config,
            precision,
            model: None,
        }
    }

    /// Gives the model's memory back, until it is asked again.
    pub(super) fn close(&mut self) {
        self.model = None;
    }

    pub(super) fn model(&mut self, job: &Attempt<'_>) -> Result<&mut dyn Model, StageError> {
        self.model_on(|| job.lend_device())
    }

    /// The model, on the device that `device` opens if the model is not open yet.
    pub(super) fn model_on(
        &mut self,
        device: impl FnOnce() -> Result<Option<Box<dyn Gpu>>, StageError>,
    ) -> Result<&mut dyn Model, StageError> {
        let model = if let Some(model) = self.model.take() {
            model
        } else {
            open_asked(device()?, &self.dir, &self.config, self.precision)?
        };
        Ok(&mut **self.model.insert(model))
    }
}

/// What scores and samples.
pub(super) trait Model: Scorer + Generator + LogitReader {}

impl<M: Scorer + Generator + LogitReader> Model for M {}

/// The model of a folder on a device, or on the processor without one.
pub(super) fn open_asked(
    gpu: Option<Box<dyn Gpu>>,
    dir: &Path,
    config: &DecoderConfig,
    precision: Precision,
) -> Result<Box<dyn Model>, StageError> {
    Ok(match (gpu, precision) {
        (Some(gpu), Precision::F32) => Box::new(DeviceModel::<f32>::open(gpu, dir, config)?),
        (Some(gpu), Precision::Bf16) => Box::new(DeviceModel::<bf16>::open(gpu, dir, config)?),
        (None, _) => {
            Box::new(HostOpener(candle_core::Device::Cpu).decoder(dir, config, precision)?)
        }
    })
}

impl Attempt<'_> {
    /// The device; none if that is the processor. It is opened when it is first asked for.
    fn shared_device(&self) -> Result<Option<SharedGpu>, StageError> {
        if let Some(gpu) = self.gpu.get() {
            return Ok(gpu.clone());
        }
        let opened = open_device(self.context.device, &self.context.access)?;
        let limit = self.memory_limit();
        let gpu = self
            .gpu
            .get_or_init(|| opened.map(|gpu| SharedGpu::limited(gpu, limit)));
        Ok(gpu.clone())
    }

    /// Bytes that the attempt may take of each device.
    fn memory_limit(&self) -> Option<usize> {
        let limit = self.context.access.memory;
        limit.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// The cards of a training that has several.
    fn ranks(&self) -> Option<Ranks> {
        let (device, limit) = (self.context.device, self.memory_limit());
        let Device::Several(cards) = device else {
            return None;
        };
        let access = self.context.access.clone();
        let open = move |rank: usize| -> Result<SharedGpu, GpuError> {
            let gpu = open_rank(device, &access, rank)?;
            Ok(SharedGpu::limited(gpu, limit))
        };
        Some(Ranks {
            count: cards.count(),
            open: Arc::new(open),
            most: Arc::clone(&self.most_of_ranks),
        })
    }

    /// Most memory of the device, or of one of several, that the attempt had at a time, bytes; none without a device.
    pub(super) fn device_memory_bytes(&self) -> Result<Option<u64>, StageError> {
        let gpu = self.gpu.get().and_then(Option::as_ref);
        let memory = gpu.map(SharedGpu::memory).transpose()?;
        let own = memory.map(|memory| memory.most as u64);
        let of_ranks = Some(self.most_of_ranks.load(Ordering::Relaxed)).filter(|most| *most > 0);
        Ok(own.max(of_ranks))
    }

    /// The device for one of its users; none if that is the processor.
    fn lend_device(&self) -> Result<Option<Box<dyn Gpu>>, StageError> {
        Ok(self.shared_device()?.map(|gpu| gpu.lend()))
    }

    /// Tells that an attempt does on the processor what no other device does, for it takes long.
    pub(super) fn on_processor(&mut self, what: &str) -> Result<(), StageError> {
        let device = self.context.device;
        if device != Device::Cpu {
            let message = format!("{what} is computed on the CPU, not on `{device}`");
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
        open_asked(self.lend_device()?, dir, config, precision)
    }

    /// Opens models that are read, and reward models.
    pub(super) fn opener(&self) -> Result<Box<dyn ModelOpener>, StageError> {
        Ok(match self.shared_device()? {
            Some(gpu) => Box::new(DeviceOpener(gpu)),
            None => Box::new(HostOpener(self.device.clone())),
        })
    }

    /// The model of a folder, to take gradients of single rows from; they are rounded as its weights
    /// are.
    pub(super) fn open_learner(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn Learner>, StageError> {
        if let Some(gpu) = self.lend_device()? {
            return Ok(open_learner_on_device(gpu, dir, config, precision)?);
        }
        let params = Params::load(dir, config, &self.device, dtype_of(precision))?;
        let decoder = Decoder::trainable(config, &params)?;
        Ok(Box::new(HostLearner::new(decoder, params.vars().clone())))
    }

    /// The model of a folder at the beginning of a training: all its weights, or new adapters if the
    /// recipe asks for them. It keeps a reference if that is to be moved. What passes take is that of the longest row and of a
    /// step, in positions.
    pub(super) fn open_engine(
        &self,
        source: &Path,
        config: &DecoderConfig,
        (recipe, [row, step]): (&TrainingRecipe, [usize; 2]),
        reference: Option<ReferenceUpdate>,
    ) -> Result<Box<dyn Engine>, StageError> {
        let start = EngineStart {
            source,
            weights: None,
            config,
            recipe,
            reference,
            seed: &self.seed().child("lora"),
            recompute: self.file.runtime.recompute_layers == Some(true),
            positions: largest_pass(self.micro_batch_tokens(), row, step),
        };
        if let Some(ranks) = self.ranks() {
            return Ok(open_on_devices(&ranks, &start)?);
        }
        Ok(match self.lend_device()? {
            Some(gpu) => open_on_device(gpu, &start)?,
            None => open_on_host(&start)?,
        })
    }
}
