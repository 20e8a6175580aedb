//! The engine over the decoder and its variables.

use crate::arch::{DecoderConfig, EMBEDDING, FloatFormat, Learned};
use crate::config::spec::{OptimizerRecipe, TrainableEmbeddings};
use crate::data::TokenBatch;
use crate::model::phase_timer::{Phase, end_phase};
use crate::model::{Arrays, Decoder, FrozenParams, Recompute, format_of};
use crate::train::engine::{
    Engine, Give, Learner, Nll, Part, Take, Update, Weigh, none_kept, not_filled,
};
use crate::train::error::TrainError;
use crate::train::host::gradients::{Gradients, clip_by_global_norm};
use crate::train::host::optimizer::AdamW;
use crate::train::host::pass::HostLearner;
use crate::train::host::reference::MovingReference;
use crate::train::host::trained::Trained;
use crate::train::score::{Scorer, TokenScore};
use candle_core::{DType, Device, Tensor};
use std::ops::Range;
use std::path::PathBuf;

/// A model in training by candle's graph and AdamW on the host.
pub struct HostEngine {
    config: DecoderConfig,
    trained: Trained,
    optimizer: AdamW,
    recompute: Recompute,
    /// Rows of the embedding that learn; absent: all.
    learning_rows: Option<Range<usize>>,
    reference: Option<MovingReference>,
    /// The folder whose weights are rounded copies under the adapters in training.
    unrounded: Option<PathBuf>,
    /// The decoder of the step that is being taken, from its first pass to its update.
    step: Option<HostLearner>,
}

impl HostEngine {
    /// An engine at the beginning of a training.
    ///
    /// # Errors
    /// The device refuses the optimiser's memory.
    pub fn new(
        config: &DecoderConfig,
        trained: Trained,
        optimizer: &OptimizerRecipe,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            config: config.clone(),
            optimizer: AdamW::new(trained.vars(), optimizer)?,
            trained,
            recompute: Recompute::Nothing,
            learning_rows: None,
            reference: None,
            unrounded: None,
            step: None,
        })
    }

    /// The same engine with another choice between memory and time in the backward pass; the same
    /// bytes either way.
    #[must_use]
    pub fn with_recompute(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// Gives the optimiser what rounding took from the weights: an update that is small beside its
    /// weight adds up from stage to stage. Taken by value, so that the copy is gone when training
    /// begins.
    ///
    /// # Errors
    /// A value is missing or of another shape.
    pub fn set_masters(&mut self, masters: FrozenParams) -> Result<(), TrainError> {
        Ok(self.optimizer.set_masters(&masters)?)
    }

    /// Names the folder whose weights in f32 adapters are written into, where those under them in
    /// training are rounded copies.
    #[must_use]
    pub fn writes_into(self, folder: PathBuf) -> Self {
        Self {
            unrounded: Some(folder),
            ..self
        }
    }

    /// Lets only some rows of the embedding learn. The gradient of the others counts nowhere, not in
    /// its norm either, and they keep their bits.
    ///
    /// # Errors
    /// No row would learn, or the embedding is not among the variables.
    pub fn limit_embeddings(&mut self, which: TrainableEmbeddings) -> Result<(), TrainError> {
        let vocabulary = self.config.vocab_size;
        let rows = which.rows(vocabulary);
        if rows.is_empty() {
            return Err(TrainError::NoEmbedding { vocabulary });
        }
        self.optimizer.limit_rows(EMBEDDING, rows.clone())?;
        self.learning_rows = Some(rows);
        Ok(())
    }

    /// Keeps a reference that each move mixes with so much of the policy.
    ///
    /// # Errors
    /// The device refuses the memory.
    pub fn keep_reference(&mut self, mix: f64) -> Result<(), TrainError> {
        self.reference = Some(MovingReference::new(mix, &self.trained)?);
        Ok(())
    }

    /// The decoder of the step, made anew after an update.
    fn step(&mut self) -> Result<&mut HostLearner, TrainError> {
        let step = if let Some(step) = self.step.take() {
            step
        } else {
            let (decoder, vars) = self.trained.for_step(&self.config)?;
            HostLearner::new(decoder.with_recompute(self.recompute), vars)
        };
        Ok(self.step.insert(step))
    }

    fn kept(&self) -> Result<&MovingReference, TrainError> {
        self.reference.as_ref().ok_or_else(none_kept)
    }

    /// The gradients of the step, all of them 0 if there was no pass.
    fn end_step(&mut self) -> Result<Gradients, TrainError> {
        let step = self.step.take();
        let mut gradients = step.map(HostLearner::into_gradients).unwrap_or_default();
        if gradients.is_empty() {
            for (name, var) in self.trained.vars() {
                gradients.insert(name, Tensor::zeros(var.shape(), DType::F32, var.device())?);
            }
        }
        Ok(gradients)
    }

    /// The weights that adapters are added to when a model is written, if they are other ones than
    /// those in training.
    fn stored(&self) -> Result<Option<FrozenParams>, TrainError> {
        let Some(folder) = &self.unrounded else {
            return Ok(None);
        };
        let device = self.trained.device();
        let stored = FrozenParams::load(folder, &self.config, &device, DType::F32)?;
        Ok(Some(stored))
    }

    /// One weight of the trained model in `format`.
    fn model_weight(
        &self,
        name: &str,
        stored: Option<&FrozenParams>,
        format: FloatFormat,
    ) -> Result<Tensor, TrainError> {
        let weight = match &self.trained {
            Trained::All(_) => self.optimizer.master(name)?.to_dtype(format.into())?,
            Trained::Adapters(lora) => lora.merged_weight(name, stored, format.into())?,
        };
        Ok(weight)
    }
}

impl Scorer for HostEngine {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        self.step()?.token_scores(batch)
    }
}

impl Learner for HostEngine {
    fn nll(&mut self, batch: &TokenBatch, factor: f64) -> Result<Nll, TrainError> {
        self.step()?.nll(batch, factor)
    }

    fn weighted(&mut self, batch: &TokenBatch, weigh: &mut Weigh<'_>) -> Result<(), TrainError> {
        self.step()?.weighted(batch, weigh)
    }

    fn take_gradients(&mut self, take: &mut dyn FnMut(&[f32])) -> Result<(), TrainError> {
        self.step()?.take_gradients(take)
    }
}

impl Engine for HostEngine {
    fn learned(&self) -> Learned {
        self.trained.learned()
    }

    fn update(&mut self, step: u64, rate: f64, max_norm: f64) -> Result<Update, TrainError> {
        let mut gradients = self.end_step()?;
        if let Some(rows) = &self.learning_rows {
            gradients.keep_rows(EMBEDDING, rows)?;
        }
        let clip = clip_by_global_norm(&gradients, max_norm)?;
        let mut update = Update {
            norm: clip.norm,
            not_finite: None,
        };
        if !clip.norm.is_finite() {
            update.not_finite = Some(gradients.first_not_finite()?.unwrap_or_default());
            return Ok(update);
        }
        self.optimizer.step(step, &gradients, rate, clip.scale)?;
        end_phase(Phase::Optimizer);
        Ok(update)
    }

    fn written(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError> {
        let model = self.trained.model()?;
        Ok(Box::new(Decoder::frozen(&self.config, &model)?))
    }

    fn reference(&mut self) -> Result<Box<dyn Scorer + '_>, TrainError> {
        Ok(Box::new(self.kept()?.decoder(&self.config)?))
    }

    fn move_reference(&mut self) -> Result<(), TrainError> {
        match &mut self.reference {
            Some(reference) => reference.move_towards(&self.trained),
            None => Err(none_kept()),
        }
    }

    fn arrays(&self, part: Part) -> Arrays {
        match part {
            Part::Weights => {
                let vars = self.trained.vars().iter();
                let format = vars.clone().next().map_or(DType::F32, |(_, v)| v.dtype());
                Arrays {
                    format: format_of(format),
                    shapes: vars.map(|(n, v)| (n.clone(), v.dims().to_vec())).collect(),
                }
            }
            Part::Optimizer => self.optimizer.arrays(),
            Part::Reference => match &self.reference {
                Some(reference) => Arrays {
                    format: format_of(reference.kept_dtype()),
                    shapes: self.config.tensors(),
                },
                None => Arrays::default(),
            },
            Part::Model(format) => Arrays {
                format,
                shapes: self.config.tensors(),
            },
        }
    }

    fn holds(&self, part: Part) -> bool {
        let kept = |reference: &MovingReference| !reference.weights.is_empty();
        part != Part::Reference || self.reference.as_ref().is_some_and(kept)
    }

    fn visit(&self, part: Part, take: &mut Take<'_>) -> Result<(), TrainError> {
        let stored = match part {
            Part::Model(_) => self.stored()?,
            _ => None,
        };
        for name in self.arrays(part).shapes.keys() {
            let array = match part {
                Part::Weights => self.trained.vars()[name].as_detached_tensor(),
                Part::Optimizer => self.optimizer.array(name)?,
                Part::Reference => {
                    let kept = self.kept()?.weights.get(name);
                    kept.ok_or_else(none_kept)?.clone()
                }
                Part::Model(format) => self.model_weight(name, stored.as_ref(), format)?,
            };
            take(&safetensors::View::data(&array))?;
        }
        Ok(())
    }

    fn fill(&mut self, part: Part, give: &mut Give<'_>) -> Result<(), TrainError> {
        // Its working copies are of weights that go now.
        self.step = None;
        let arrays = self.arrays(part);
        for (name, shape) in &arrays.shapes {
            let mut bytes = vec![0; arrays.bytes_of(shape)];
            give(&mut bytes)?;
            let array = Tensor::from_raw_buffer(&bytes, arrays.format.into(), shape, &Device::Cpu)?;
            match (part, &mut self.reference) {
                (Part::Weights, _) => {
                    let var = &self.trained.vars()[name];
                    var.set(&array.to_device(var.device())?)?;
                }
                (Part::Optimizer, _) => self.optimizer.set_array(name, &array)?,
                (Part::Reference, Some(reference)) => {
                    let array = array.to_device(&self.trained.device())?;
                    reference.weights.insert(name.clone(), array);
                }
                (Part::Reference, None) | (Part::Model(_), _) => {
                    return Err(not_filled(part));
                }
            }
        }
        Ok(())
    }
}
