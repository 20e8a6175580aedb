//! The weights of a reference that follows the policy (TR-DPO).

use crate::arch::DecoderConfig;
use crate::model::{Decoder, FrozenParams};
use crate::train::error::TrainError;
use crate::train::host::trained::Trained;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// Reference weights that move towards the policy's: Gorbatovski et al. 2024, equations 5 (mix below
/// 1) and 6 (mix 1).
///
/// Until the first move the stored log-probabilities hold, so weights that it replaces whole are not
/// kept before it. A mixture is added up in f32, whatever the precision of training: bfloat16 would
/// swallow small shares.
pub(super) struct MovingReference {
    mix: f64,
    /// Number format of the policy.
    dtype: DType,
    /// By name; empty while nothing has to be kept.
    pub(super) weights: BTreeMap<String, Tensor>,
}

impl MovingReference {
    /// The reference of a training that starts from `start`.
    pub(super) fn new(mix: f64, start: &Trained) -> Result<Self, TrainError> {
        let mut new = Self {
            mix,
            dtype: start.dtype(),
            weights: BTreeMap::new(),
        };
        if !new.replaces() {
            new.weights = new.copy_of(start)?;
        }
        Ok(new)
    }

    /// Whether a move leaves nothing of the reference before it.
    fn replaces(&self) -> bool {
        self.mix >= 1.0
    }

    /// Number format of the kept weights.
    pub(super) fn kept_dtype(&self) -> DType {
        if self.replaces() {
            self.dtype
        } else {
            DType::F32
        }
    }

    /// Own copies of the policy's weights: variables change in place.
    fn copy_of(&self, policy: &Trained) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let dtype = self.kept_dtype();
        let copy = |(name, tensor): (&str, &Tensor)| {
            let tensor = tensor.to_dtype(dtype)?.copy()?;
            Ok::<_, TrainError>((name.to_owned(), tensor.detach()))
        };
        policy.model()?.iter().map(copy).collect()
    }

    pub(super) fn move_towards(&mut self, policy: &Trained) -> Result<(), TrainError> {
        if self.replaces() {
            self.weights = self.copy_of(policy)?;
            return Ok(());
        }
        for (name, tensor) in policy.model()?.iter() {
            let policy = tensor.to_dtype(DType::F32)?;
            let Some(old) = self.weights.get_mut(name) else {
                let foreign = format!("`{name}` is not of the model that is trained");
                return Err(TrainError::Reference(foreign));
            };
            let mixed = ((policy * self.mix)? + (&*old * (1.0 - self.mix))?)?;
            *old = mixed.detach();
        }
        Ok(())
    }

    /// The reference as it stands.
    pub(super) fn decoder(&self, config: &DecoderConfig) -> Result<Decoder, TrainError> {
        let mut weights = BTreeMap::new();
        for (name, tensor) in &self.weights {
            weights.insert(name.clone(), tensor.to_dtype(self.dtype)?);
        }
        let weights = FrozenParams::from_tensors(weights);
        Ok(Decoder::frozen(config, &weights)?)
    }
}
