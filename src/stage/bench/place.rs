//! What computes a bench: the processor, or a device.

use crate::arch::DecoderConfig;
use crate::base::SeedTree;
use crate::config::spec::{Duration, Precision, TrainingRecipe};
use crate::gpu::SharedGpu;
use crate::model::{Decoder, DeviceModel, Params, WeightSource};
use crate::stage::bench::peak::peak_flops;
use crate::stage::bench::recipe::BenchRecipe;
use crate::stage::bench::report::BenchDevice;
use crate::stage::bench::request::BenchRequest;
use crate::stage::device::open_device;
use crate::stage::engine::Model;
use crate::stage::error::StageError;
use crate::train::{Engine, EngineStart, HostEngine, Trained, open_on_device};
use half::bf16;
use std::path::Path;

/// Where the work is done.
pub(super) enum Place {
    Processor,
    Device(SharedGpu),
}

impl Place {
    /// Opens the device of a request.
    pub(super) fn open(request: &BenchRequest) -> Result<Self, StageError> {
        let gpu = open_device(request.device, &request.access)?;
        Ok(gpu.map_or(Self::Processor, |gpu| Self::Device(SharedGpu::new(gpu))))
    }

    /// The engine of a training.
    pub(super) fn engine(
        &self,
        request: &BenchRequest,
        (config, params): (&DecoderConfig, &Params),
        recipe: &BenchRecipe,
    ) -> Result<Box<dyn Engine>, StageError> {
        let Self::Device(gpu) = self else {
            let trained = Trained::All(params.clone());
            let engine = HostEngine::new(config, trained, &recipe.optimizer)?;
            return Ok(Box::new(engine));
        };
        let start = EngineStart {
            source: Path::new(""),
            weights: Some(&params.detached()),
            config,
            recipe: &TrainingRecipe {
                duration: Duration::Steps(request.steps),
                optimizer: recipe.optimizer,
                schedule: recipe.schedule,
                precision: request.precision,
                lora: None,
                seed: None,
                monitor: None,
                trainable_embeddings: None,
                save_precision: None,
                save_steps: Vec::new(),
            },
            reference: None,
            seed: &SeedTree::root(request.seed),
            recompute: false,
            positions: request.device.usual_micro_batch(),
        };
        Ok(open_on_device(gpu.lend(), &start)?)
    }

    /// A model that scores and samples.
    pub(super) fn model(
        &self,
        precision: Precision,
        config: &DecoderConfig,
        params: &Params,
    ) -> Result<Box<dyn Model>, StageError> {
        let params = params.detached();
        let Self::Device(gpu) = self else {
            return Ok(Box::new(Decoder::frozen(config, &params)?));
        };
        let (gpu, source) = (gpu.lend(), WeightSource::Held(&params));
        Ok(match precision {
            Precision::F32 => Box::new(DeviceModel::<f32>::of(gpu, source, config)?),
            Precision::Bf16 => Box::new(DeviceModel::<bf16>::of(gpu, source, config)?),
        })
    }

    /// What is to be said of the device, behind the work.
    pub(super) fn described(
        &self,
        precision: Precision,
    ) -> Result<Option<BenchDevice>, StageError> {
        let Self::Device(gpu) = self else {
            return Ok(None);
        };
        let (name, memory) = (gpu.name(), gpu.memory()?);
        Ok(Some(BenchDevice {
            peak_flops: peak_flops(&name).filter(|_| precision == Precision::Bf16),
            share_of_peak: None,
            peak_memory_bytes: memory.most as u64,
            total_memory_bytes: memory.total as u64,
            name,
        }))
    }
}
