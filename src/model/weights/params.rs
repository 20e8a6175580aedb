//! Weights in name order: trained ones, and detached ones that share their storage.

use crate::arch::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::weights::arrays::{Arrays, Take};
use crate::model::weights::formats::format_of;
use crate::model::weights::stored::StoredWeights;
use crate::model::weights::weights_file::WeightFiles;
use candle_core::{DType, Device, Tensor, Var};
use rand::RngCore;
use std::collections::BTreeMap;
use std::path::Path;

/// Trainable parameters by Hugging Face name; iteration, and so every sum over them, has one order.
#[derive(Clone, Debug)]
pub struct Params(BTreeMap<String, Var>);

/// Weights without gradients: for references, evaluation and sampling.
#[derive(Clone, Debug)]
pub struct FrozenParams(BTreeMap<String, Tensor>);

impl Params {
    /// Reads the weights of a folder in Hugging Face layout into variables of `dtype`.
    ///
    /// # Errors
    /// A file is missing or damaged; a tensor is missing, unexpected or of another shape.
    pub fn load(
        dir: &Path,
        config: &DecoderConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, ModelError> {
        let mut params = BTreeMap::new();
        for (name, tensor) in FrozenParams::load(dir, config, device, dtype)?.0 {
            params.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(Self(params))
    }

    /// Copies of `frozen` as variables of `dtype`.
    ///
    /// # Errors
    /// The device refuses.
    pub fn from_frozen(frozen: &FrozenParams, dtype: DType) -> Result<Self, ModelError> {
        let mut params = BTreeMap::new();
        for (name, tensor) in &frozen.0 {
            params.insert(name.clone(), Var::from_tensor(&tensor.to_dtype(dtype)?)?);
        }
        Ok(Self(params))
    }

    /// The number format of the weights.
    pub fn dtype(&self) -> DType {
        self.0.values().next().map_or(DType::F32, |v| v.dtype())
    }

    /// What a step computes gradients for: `f32` copies of bf16 weights on the CPU, where kernels
    /// compute in `f32` anyway, so that gradients are not rounded; else the variables themselves.
    ///
    /// # Errors
    /// The device refuses.
    pub fn working(&self) -> Result<Self, ModelError> {
        let narrow = |var: &Var| var.dtype() == DType::BF16 && var.device().is_cpu();
        let copy = |(name, var): (&String, &Var)| -> Result<_, ModelError> {
            let working = if narrow(var) {
                Var::from_tensor(&var.as_detached_tensor().to_dtype(DType::F32)?)?
            } else {
                var.clone()
            };
            Ok((name.clone(), working))
        };
        Ok(Self(self.0.iter().map(copy).collect::<Result<_, _>>()?))
    }

    /// Names and variables in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// One variable.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.0.get(name)
    }

    /// All variables by name.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.0
    }

    /// The same storage without gradients: later updates of the variables show through.
    pub fn detached(&self) -> FrozenParams {
        FrozenParams(
            self.0
                .iter()
                .map(|(name, var)| (name.clone(), var.as_detached_tensor()))
                .collect(),
        )
    }
}

impl FrozenParams {
    /// Reads the weights of a folder in Hugging Face layout in `dtype`.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn load(
        dir: &Path,
        config: &DecoderConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, ModelError> {
        Self::read(StoredWeights::open(dir, config)?, device, dtype)
    }

    /// Reads the tensors of the given names and shapes in `dtype`; others in the files must be ignorable.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub(crate) fn load_tensors(
        weights: WeightFiles,
        expected: BTreeMap<String, Vec<usize>>,
        ignorable: impl Fn(&str) -> bool,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, ModelError> {
        Self::read(
            StoredWeights::of(weights, expected, ignorable)?,
            device,
            dtype,
        )
    }

    fn read(mut stored: StoredWeights, device: &Device, dtype: DType) -> Result<Self, ModelError> {
        let mut loaded = BTreeMap::new();
        for name in stored.names() {
            let tensor = stored.load(&name, device, dtype)?;
            loaded.insert(name, tensor);
        }
        Ok(Self(loaded))
    }

    /// The same weights in `dtype`.
    ///
    /// # Errors
    /// The device refuses.
    pub fn to_dtype(&self, dtype: DType) -> candle_core::Result<Self> {
        let cast = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_dtype(dtype)?));
        self.0
            .iter()
            .map(cast)
            .collect::<candle_core::Result<_>>()
            .map(Self)
    }

    /// From tensors by name, for tests and conversions; nothing is checked until a decoder is built.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self(tensors.into_iter().map(|(n, t)| (n, t.detach())).collect())
    }

    /// Random `f32` weights on the CPU for a shape without a folder: matrices uniform with standard
    /// deviation 0.02, norms that leave their input's scale, biases zero.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn random(config: &DecoderConfig, rng: &mut impl RngCore) -> Result<Self, ModelError> {
        let half_width = 0.02 * 3f32.sqrt();
        let unit = 1.0 / (1u64 << 24) as f32;
        let norm = 1.0 - config.norm_weight.offset() as f32;
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.tensors() {
            let count = shape.iter().product();
            let values: Vec<f32> = match shape.len() {
                1 if name.contains("norm") => vec![norm; count],
                1 => vec![0.0; count],
                _ => (0..count)
                    .map(|_| ((rng.next_u32() >> 8) as f32 * unit * 2.0 - 1.0) * half_width)
                    .collect(),
            };
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self(tensors))
    }

    /// What [`Self::visit`] gives: names and shapes, and the number format of all.
    pub(super) fn arrays(&self) -> Arrays {
        let first = self.0.values().next();
        let shape = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.dims().to_vec());
        Arrays {
            format: first.map(|t| format_of(t.dtype())).unwrap_or_default(),
            shapes: self.0.iter().map(shape).collect(),
        }
    }

    /// Gives the bytes of every tensor in name order, one tensor at a time.
    pub(super) fn visit(&self, take: &mut Take<'_, ModelError>) -> Result<(), ModelError> {
        let mut tensors = self.0.values();
        tensors.try_for_each(|tensor| take(&safetensors::View::data(tensor)))
    }

    /// Names and tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
}
