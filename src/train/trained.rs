//! What a training changes: all weights of a model, or adapters on it.

use crate::arch::DecoderConfig;
use crate::model::{Decoder, FrozenParams, Lora, ModelError, Params};
use candle_core::{DType, Var};
use std::collections::BTreeMap;

/// The weights of a training.
#[derive(Clone, Copy, Debug)]
pub enum Trained<'a> {
    /// All of the model's.
    All(&'a Params),
    /// Adapters on a frozen model.
    Adapters(&'a Lora),
}

impl<'a> From<&'a Params> for Trained<'a> {
    fn from(params: &'a Params) -> Self {
        Self::All(params)
    }
}

impl<'a> From<&'a Lora> for Trained<'a> {
    fn from(lora: &'a Lora) -> Self {
        Self::Adapters(lora)
    }
}

impl Trained<'_> {
    /// What the optimiser updates, by name.
    pub(crate) fn vars(self) -> BTreeMap<String, Var> {
        match self {
            Self::All(params) => params.vars().clone(),
            Self::Adapters(lora) => lora.vars().clone(),
        }
    }

    /// A decoder that records a graph, and the variables that its gradients are of.
    pub(crate) fn for_step(
        self,
        config: &DecoderConfig,
    ) -> Result<(Decoder, BTreeMap<String, Var>), ModelError> {
        match self {
            Self::All(params) => {
                let working = params.working()?;
                let decoder = Decoder::trainable(config, &working)?;
                let decoder = match params.dtype() {
                    DType::BF16 => decoder.with_bf16_activations(),
                    _ => decoder,
                };
                Ok((decoder, working.vars().clone()))
            }
            Self::Adapters(lora) => Ok((Decoder::adapted(config, lora)?, lora.vars().clone())),
        }
    }

    /// The number format of the model.
    pub fn dtype(self) -> DType {
        match self {
            Self::All(params) => params.dtype(),
            Self::Adapters(lora) => lora.dtype(),
        }
    }

    /// The trained model as it stands; of weights that are trained themselves, later updates show
    /// through.
    ///
    /// # Errors
    /// The device refuses.
    pub fn model(self) -> Result<FrozenParams, ModelError> {
        match self {
            Self::All(params) => Ok(params.detached()),
            Self::Adapters(lora) => lora.merged(lora.dtype()),
        }
    }
}
