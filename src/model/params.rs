//! Weights in name order: trained ones, and detached ones that share their storage.

use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::layout;
use crate::model::weights_file::WeightFiles;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
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

    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
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

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let mut expected = layout::tensors(config);
        let mut loaded = BTreeMap::new();
        let mut extra = Vec::new();
        let WeightFiles { source, files } = WeightFiles::open(dir)?;
        for mut file in files {
            for (name, info) in file.tensors() {
                let Some(shape) = expected.remove(&name) else {
                    if !layout::ignorable(&name, config) {
                        extra.push(name);
                    }
                    continue;
                };
                if info.shape != shape {
                    return Err(ModelError::WrongShape {
                        name,
                        expected: shape,
                        found: info.shape,
                        path: file.path,
                    });
                }
                let tensor = file.load(&name, &info, device, dtype)?;
                loaded.insert(name, tensor);
            }
        }
        if let Some((name, shape)) = expected.pop_first() {
            return Err(ModelError::MissingTensor {
                name,
                expected: shape,
                path: source,
            });
        }
        if !extra.is_empty() {
            let shown: Vec<String> = extra.iter().take(3).map(|n| format!("`{n}`")).collect();
            let rest = extra.len() - shown.len();
            let more = if rest > 0 {
                format!(" and {rest} more")
            } else {
                String::new()
            };
            return Err(ModelError::ExtraTensors {
                names: shown.join(", ") + &more,
                path: source,
            });
        }
        Ok(Self(loaded))
    }

    /// From tensors by name, for tests and conversions; nothing is checked until a decoder is built.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Self(tensors.into_iter().map(|(n, t)| (n, t.detach())).collect())
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

/// Names of parameters whose gradient is missing or holds a number that is not finite; a guard
/// against ops that drop gradients silently.
///
/// # Errors
/// The device refuses.
pub fn missing_gradients(params: &Params, grads: &GradStore) -> candle_core::Result<Vec<String>> {
    let mut bad = Vec::new();
    for (name, var) in params.iter() {
        let finite = match grads.get(var) {
            // A sum is finite only if every term is.
            Some(grad) => grad
                .abs()?
                .sum_all()?
                .to_dtype(DType::F64)?
                .to_scalar::<f64>()?
                .is_finite(),
            None => false,
        };
        if !finite {
            bad.push(name.to_owned());
        }
    }
    Ok(bad)
}
