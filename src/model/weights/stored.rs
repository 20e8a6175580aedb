//! The weights of a folder, read one at a time.

use crate::arch::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::weights::weights_file::WeightFiles;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::path::Path;

/// The weights of a folder in Hugging Face layout, looked at by their tables of contents.
#[derive(Debug)]
pub struct StoredWeights {
    weights: WeightFiles,
    /// The file of each, and where in it.
    places: BTreeMap<String, (usize, TensorInfo)>,
}

impl StoredWeights {
    /// Those of a decoder.
    ///
    /// # Errors
    /// A file is missing or damaged; a tensor is missing, unexpected or of another shape.
    pub fn open(dir: &Path, config: &DecoderConfig) -> Result<Self, ModelError> {
        let mut weights = WeightFiles::open(dir)?;
        if config.tied {
            weights.check_tied_head(usize::MAX)?;
        }
        Self::of(weights, config.tensors(), |name| config.may_ignore(name))
    }

    /// Those of the given names and shapes; others must be ignorable.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn of(
        weights: WeightFiles,
        expected: BTreeMap<String, Vec<usize>>,
        ignorable: impl Fn(&str) -> bool,
    ) -> Result<Self, ModelError> {
        let misfits = weights.misfits(expected.clone(), ignorable);
        if let Some(misfit) = misfits.into_iter().next() {
            return Err(misfit);
        }
        let mut places = BTreeMap::new();
        for (at, file) in weights.files.iter().enumerate() {
            let tensors = file.tensors().into_iter();
            let wanted = tensors.filter(|(name, _)| expected.contains_key(name));
            for (name, info) in wanted {
                places.entry(name).or_insert((at, info));
            }
        }
        Ok(Self { weights, places })
    }

    /// Their names, in name order.
    pub(super) fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// One of them in `dtype`.
    ///
    /// # Errors
    /// There is no such one, its file cannot be read, or the device refuses.
    pub fn load(
        &mut self,
        name: &str,
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let missing = || ModelError::MissingParameter {
            name: name.to_owned(),
        };
        let (at, info) = self.places.get(name).ok_or_else(missing)?;
        self.weights.files[*at].load(name, info, device, dtype)
    }
}
