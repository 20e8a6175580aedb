//! A reference that follows the policy (TR-DPO).

use crate::arch::{DecoderConfig, parameter_count};
use crate::config::spec::ReferenceUpdate;
use crate::data::TokenizedPair;
use crate::model::{Decoder, FrozenParams};
use crate::train::error::TrainError;
use crate::train::reference::ReferenceLogps;
use crate::train::score::score_pairs;
use crate::train::trained::Trained;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// Reference weights that move towards the policy's: Gorbatovski et al. 2024, equations 5 (mix below
/// 1) and 6 (mix 1).
///
/// Until the first update the stored log-probabilities hold, so weights that the first update
/// replaces whole are not kept before it. A mixture is added up in f32, whatever the precision of
/// training: bfloat16 would swallow small shares.
pub struct MovingReference {
    update: ReferenceUpdate,
    /// By name; empty while nothing has to be kept.
    weights: BTreeMap<String, Tensor>,
    dtype: DType,
}

impl MovingReference {
    /// The reference of a training that starts from `start`.
    ///
    /// # Errors
    /// The device refuses the memory.
    pub fn new<'a>(
        update: ReferenceUpdate,
        start: impl Into<Trained<'a>>,
    ) -> Result<Self, TrainError> {
        let start = start.into();
        let mut new = Self {
            update,
            weights: BTreeMap::new(),
            dtype: start.dtype(),
        };
        if !new.replaces() {
            new.weights = new.copy_of(start)?;
        }
        Ok(new)
    }

    /// Whether an update leaves nothing of the reference before it.
    fn replaces(&self) -> bool {
        self.update.mix.get() >= 1.0
    }

    /// Whether the reference has moved before step `step`, 0-based.
    pub fn has_moved(&self, step: u64) -> bool {
        step >= self.update.every_steps.get()
    }

    /// Bytes of one copy of the weights of a model of this shape.
    pub fn bytes(&self, config: &DecoderConfig) -> u64 {
        parameter_count(config) * self.kept_dtype().size_in_bytes() as u64
    }

    fn kept_dtype(&self) -> DType {
        if self.replaces() {
            self.dtype
        } else {
            DType::F32
        }
    }

    /// Own copies of the policy's weights: variables change in place.
    fn copy_of(&self, policy: Trained<'_>) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let dtype = self.kept_dtype();
        let copy = |(name, tensor): (&str, &Tensor)| {
            let tensor = tensor.to_dtype(dtype)?.copy()?;
            Ok::<_, TrainError>((name.to_owned(), tensor.detach()))
        };
        policy.model()?.iter().map(copy).collect()
    }

    /// Moves the reference if step `step`, 1-based, ends with an update.
    ///
    /// # Errors
    /// The device refuses.
    pub fn after_update(&mut self, policy: Trained<'_>, step: u64) -> Result<(), TrainError> {
        if !step.is_multiple_of(self.update.every_steps.get()) {
            return Ok(());
        }
        if self.replaces() {
            self.weights = self.copy_of(policy)?;
            return Ok(());
        }
        let mix = self.update.mix.get();
        for (name, tensor) in policy.model()?.iter() {
            let policy = tensor.to_dtype(DType::F32)?;
            let Some(old) = self.weights.get_mut(name) else {
                return Err(missing(name));
            };
            let mixed = ((policy * mix)? + (&*old * (1.0 - mix))?)?;
            *old = mixed.detach();
        }
        Ok(())
    }

    /// Log-probabilities of pairs under the reference as it stands, in passes of at most
    /// `max_positions` positions.
    ///
    /// # Errors
    /// The model refuses.
    pub fn score(
        &self,
        config: &DecoderConfig,
        pairs: &[TokenizedPair],
        max_positions: usize,
    ) -> Result<ReferenceLogps, TrainError> {
        let mut weights = BTreeMap::new();
        for (name, tensor) in &self.weights {
            weights.insert(name.clone(), tensor.to_dtype(self.dtype)?);
        }
        let decoder = Decoder::frozen(config, &FrozenParams::from_tensors(weights))?;
        let scores = score_pairs(&decoder, pairs, max_positions, &mut |_| Ok(()))?;
        let keys = pairs.iter().map(|pair| pair.key.as_str());
        Ok(ReferenceLogps::from_scores(keys.zip(&scores)))
    }

    /// What a resumable state must hold.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// Puts saved weights back.
    ///
    /// # Errors
    /// They are of another model.
    pub fn restore(
        &mut self,
        saved: BTreeMap<String, Tensor>,
        policy: Trained<'_>,
    ) -> Result<(), TrainError> {
        let model = policy.model()?;
        let fits = |(name, tensor): (&String, &Tensor)| {
            let own = model.get(name);
            own.is_some_and(|own| own.shape() == tensor.shape())
                && tensor.dtype() == self.kept_dtype()
        };
        let whole = saved.len() == model.iter().count() || (saved.is_empty() && self.replaces());
        if !whole || !saved.iter().all(fits) {
            return Err(missing("the saved reference"));
        }
        for (name, tensor) in saved {
            let device = model.get(&name).map(|own| own.device().clone());
            let device = device.ok_or_else(|| missing(&name))?;
            self.weights.insert(name, tensor.to_device(&device)?);
        }
        Ok(())
    }
}

fn missing(name: &str) -> TrainError {
    TrainError::Reference(format!("`{name}` is not of the model that is trained"))
}
