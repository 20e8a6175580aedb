//! Models opened on a device that they share.

use crate::arch::DecoderConfig;
use crate::config::spec::Precision;
use crate::gpu::SharedGpu;
use crate::model::device::frozen::DeviceModel;
use crate::model::device::reward::DeviceReward;
use crate::model::error::ModelError;
use crate::model::sequences::{ModelOpener, SequenceReader, SequenceScorer};
use half::bf16;
use std::path::Path;

/// Opens models on a device; a model's memory is given back with it.
#[derive(Clone)]
pub struct DeviceOpener(pub SharedGpu);

impl ModelOpener for DeviceOpener {
    fn reader(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn SequenceReader>, ModelError> {
        let gpu = self.0.lend();
        Ok(match precision {
            Precision::F32 => Box::new(DeviceModel::<f32>::open(gpu, dir, config)?),
            Precision::Bf16 => Box::new(DeviceModel::<bf16>::open(gpu, dir, config)?),
        })
    }

    fn scorer(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn SequenceScorer>, ModelError> {
        let gpu = self.0.lend();
        Ok(match precision {
            Precision::F32 => Box::new(DeviceReward::<f32>::open(gpu, dir, config)?),
            Precision::Bf16 => Box::new(DeviceReward::<bf16>::open(gpu, dir, config)?),
        })
    }
}
