//! Models opened for the decoder on candle's device.

use crate::arch::DecoderConfig;
use crate::config::spec::Precision;
use crate::model::decoder::{Decoder, RewardModel};
use crate::model::error::ModelError;
use crate::model::sequences::{ModelOpener, SequenceReader, SequenceScorer};
use crate::model::weights::{FrozenParams, dtype_of};
use candle_core::Device;
use std::path::Path;

/// Opens models on the CPU, or on what else candle computes on.
#[derive(Clone, Debug)]
pub struct HostOpener(pub Device);

impl HostOpener {
    /// The model of a folder, its weights frozen.
    ///
    /// # Errors
    /// As [`FrozenParams::load`].
    pub fn decoder(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Decoder, ModelError> {
        let params = FrozenParams::load(dir, config, &self.0, dtype_of(precision))?;
        Decoder::frozen(config, &params)
    }
}

impl ModelOpener for HostOpener {
    fn reader(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn SequenceReader>, ModelError> {
        Ok(Box::new(self.decoder(dir, config, precision)?))
    }

    fn scorer(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn SequenceScorer>, ModelError> {
        let model = RewardModel::load(dir, config, &self.0, dtype_of(precision))?;
        Ok(Box::new(model))
    }
}
