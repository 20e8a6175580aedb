//! What a training changes: all weights of a model, or adapters on it.

use crate::arch::{DecoderConfig, Learned};
use crate::model::{Decoder, FrozenParams, Lora, ModelError, Params};
use candle_core::{DType, Device, Var};
use std::collections::BTreeMap;

/// The weights of a training.
#[derive(Clone, Debug)]
pub enum Trained {
    /// All of the model's.
    All(Params),
    /// Adapters on a frozen model.
    Adapters(Lora),
}

impl Trained {
    /// What the optimiser updates, by name.
    pub(super) fn vars(&self) -> &BTreeMap<String, Var> {
        match self {
            Self::All(params) => params.vars(),
            Self::Adapters(lora) => lora.vars(),
        }
    }

    /// What training changes, for counting.
    pub(super) fn learned(&self) -> Learned {
        match self {
            Self::All(_) => Learned::All,
            Self::Adapters(lora) => lora.learned(),
        }
    }

    /// A decoder that records a graph, and the variables that its gradients are of.
    pub(super) fn for_step(
        &self,
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

    /// Where the weights are.
    pub(super) fn device(&self) -> Device {
        match self {
            Self::All(params) => {
                let first = params.iter().next();
                first.map_or(Device::Cpu, |(_, var)| var.device().clone())
            }
            Self::Adapters(lora) => lora.device(),
        }
    }

    /// The number format of the model.
    pub(super) fn dtype(&self) -> DType {
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
    pub(super) fn model(&self) -> Result<FrozenParams, ModelError> {
        match self {
            Self::All(params) => Ok(params.detached()),
            Self::Adapters(lora) => lora.merged(lora.dtype()),
        }
    }
}
