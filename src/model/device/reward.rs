//! A reward model on a device.

use crate::arch::DecoderConfig;
use crate::gpu::{Gpu, Stored};
use crate::model::decoder::{ScalarHead, headless, tensors_with};
use crate::model::device::frozen::DeviceModel;
use crate::model::device::upload::WeightSource;
use crate::model::error::ModelError;
use crate::model::sequences::{Packed, SequenceScorer};
use crate::model::weights::{StoredWeights, WeightFiles};
use candle_core::{DType, Device};
use std::path::Path;

/// As [`RewardModel`](crate::model::RewardModel), on a device; the head's product, of one row a sequence, is made on the
/// host.
pub(super) struct DeviceReward<T> {
    decoder: DeviceModel<T>,
    /// (D,), rounded as weights are.
    head: Vec<f64>,
    reads: ScalarHead,
}

impl<T: Stored> DeviceReward<T> {
    /// Reads the folder `dir`, whose configuration is `config`.
    ///
    /// # Errors
    /// As [`RewardModel::load`](crate::model::RewardModel::load), or the device refuses.
    pub(super) fn open(
        gpu: Box<dyn Gpu>,
        dir: &Path,
        config: &DecoderConfig,
    ) -> Result<Self, ModelError> {
        let config = headless(config);
        let weights = WeightFiles::open(dir)?;
        let reads = ScalarHead::find(&weights, dir)?;
        let expected = tensors_with(&config, reads.name);
        let ignorable = |name: &str| config.may_ignore(name);
        let mut stored = StoredWeights::of(weights, expected, ignorable)?;
        let head = stored.load(reads.name, &Device::Cpu, DType::F32)?;
        let head = head.flatten_all()?.to_vec1::<f32>()?.into_iter();
        Ok(Self {
            decoder: DeviceModel::of(gpu, WeightSource::Stored(&mut stored), &config)?,
            head: head.map(|x| f64::from(T::of(x).wide())).collect(),
            reads,
        })
    }
}

impl<T: Stored> SequenceScorer for DeviceReward<T> {
    fn score(&mut self, sequences: &[Vec<u32>]) -> Result<Vec<f64>, ModelError> {
        let pass = Packed::new(sequences)?;
        let starts = sequences.iter().zip(&pass.cu_seqlens);
        let read: Vec<_> = starts
            .map(|(sequence, &start)| {
                let row = start as usize + self.reads.read_at(sequence);
                row..row + 1
            })
            .collect();
        let states = self.decoder.sums(&pass, &read)?;
        let states = states.chunks_exact(self.head.len());
        let score = |state: &[f32]| {
            let products = state.iter().zip(&self.head);
            products.map(|(&x, head)| f64::from(x) * head).sum()
        };
        Ok(states.map(score).collect())
    }
}
