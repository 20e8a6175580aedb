//! The one loop: every objective is trained here.

use crate::arch::{DecoderConfig, EMBEDDING};
use crate::config::spec::{OptimizerRecipe, TrainableEmbeddings};
use crate::metrics::families::{STEP, StepMeasures};
use crate::metrics::values;
use crate::model::phase_timer::{Phase, end_phase};
use crate::model::{Decoder, FrozenParams, ModelError, Recompute};
use crate::train::error::TrainError;
use crate::train::gradients::{Gradients, clip_by_global_norm};
use crate::train::optimizer::AdamW;
use crate::train::schedule::LrSchedule;
use crate::train::state::{SavedState, TrainState, save_state};
use crate::train::trained::Trained;
use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

/// What one optimiser step computes before the update.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// Gradients of the step's mean loss, whatever the split into micro-batches.
    pub grads: Gradients,
    /// The step's mean loss.
    pub loss: f64,
    /// Further metrics, for example `mean_token_accuracy`.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Row ids of the step, for messages.
    pub examples: Vec<String>,
    /// Real tokens processed forward.
    pub tokens: u64,
    /// Positions computed, padding included.
    pub positions: u64,
    /// Estimated floating-point operations.
    pub flops: f64,
}

/// What is minimised, on which data.
pub trait Objective {
    /// Forward and backward over all micro-batches of step `step`, 0-based. The data of a step is
    /// a function of the step alone.
    fn backward(
        &mut self,
        decoder: &Decoder,
        vars: &BTreeMap<String, Var>,
        step: u64,
    ) -> Result<StepOutput, TrainError>;

    /// Steps between two measurements on held-out data; `None`: never.
    fn monitor_every(&self) -> Option<u64>;

    /// Measures on held-out data with weights from which no graph is recorded.
    fn monitor(&mut self, decoder: &Decoder) -> Result<BTreeMap<String, f64>, TrainError>;

    /// Told of the new weights after each update; `step` counts from 1.
    fn after_update(&mut self, _weights: Trained<'_>, _step: u64) -> Result<(), TrainError> {
        Ok(())
    }

    /// Tensors that a resumable state must hold besides weights and moments.
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Puts back what [`Self::state`] gave when the state was written.
    fn restore(
        &mut self,
        _tensors: BTreeMap<String, Tensor>,
        _weights: Trained<'_>,
    ) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Metrics of the monitored set `name` under their whole keys.
pub(super) fn monitored(
    name: &str,
    metrics: impl IntoIterator<Item = (&'static str, f64)>,
) -> impl Iterator<Item = (String, f64)> {
    let whole = move |(key, value)| (format!("eval_{name}/{key}"), value);
    metrics.into_iter().map(whole)
}

/// Who watches the training, and may end it.
pub trait Observer {
    /// Metrics at a step, 1-based; 0 is before the first. A step may be told more than once, with
    /// different keys.
    fn on_metrics(&mut self, step: u64, metrics: &BTreeMap<String, f64>) -> Result<(), TrainError>;

    /// An update was made, and measured where that was due. Comes before any state of this step is
    /// written: what is kept here needs not be made again by whoever goes on from that state.
    fn on_update(&mut self, _training: &Training<'_>) -> Result<(), TrainError> {
        Ok(())
    }

    /// A resumable state was written.
    fn on_checkpoint(&mut self, step: u64) -> Result<(), TrainError>;

    /// Whether a state should be written after this step.
    fn wants_checkpoint(&mut self, step: u64) -> bool;

    /// Whether training should stop, with its state saved.
    fn stop_requested(&mut self) -> bool;
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every step was taken.
    Finished,
    /// It was asked to stop; the state is saved.
    Interrupted,
}

/// Everything a training run owns.
pub struct Training<'a> {
    /// Shape of the model.
    pub config: &'a DecoderConfig,
    /// The weights being trained.
    pub weights: Trained<'a>,
    /// The variables among them by name.
    pub vars: BTreeMap<String, Var>,
    /// Their optimiser.
    pub optimizer: AdamW,
    /// Learning rate by step, and the number of steps.
    pub schedule: LrSchedule,
    /// Clip gradients to this norm; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// How far it has come.
    pub state: TrainState,
    /// Folder for resumable states.
    pub work: PathBuf,
    /// To whom the states belong: the run's id.
    pub owner: String,
    /// Whether activations wait for the backward pass; the same bytes either way.
    pub recompute: Recompute,
    /// Rows of the embedding that learn; absent: all.
    trainable_rows: Option<Range<usize>>,
}

impl<'a> Training<'a> {
    /// A training at its very beginning.
    ///
    /// # Errors
    /// The device refuses the optimiser's memory.
    pub fn new(
        config: &'a DecoderConfig,
        weights: impl Into<Trained<'a>>,
        optimizer: &OptimizerRecipe,
        schedule: LrSchedule,
        work: PathBuf,
        owner: String,
    ) -> Result<Self, TrainError> {
        let weights = weights.into();
        let vars = weights.vars();
        Ok(Self {
            config,
            weights,
            optimizer: AdamW::new(&vars, optimizer)?,
            vars,
            schedule,
            max_grad_norm: optimizer.max_grad_norm.get(),
            state: TrainState::default(),
            work,
            owner,
            recompute: Recompute::Nothing,
            trainable_rows: None,
        })
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
        self.trainable_rows = Some(rows);
        Ok(())
    }

    /// The trained model as it stands, in `dtype`: in f32 with every update, however small beside
    /// its weight.
    ///
    /// # Errors
    /// The device refuses.
    pub fn model(&self, dtype: DType) -> Result<FrozenParams, ModelError> {
        match self.weights {
            Trained::All(_) => Ok(self.optimizer.masters()?.to_dtype(dtype)?),
            Trained::Adapters(lora) => lora.merged(dtype),
        }
    }

    /// Continues from a saved state.
    ///
    /// # Errors
    /// The state is of another model.
    pub fn restore(
        &mut self,
        saved: &SavedState,
        objective: &mut dyn Objective,
    ) -> Result<(), TrainError> {
        self.state = saved.restore(&self.vars, &mut self.optimizer)?;
        objective.restore(saved.objective()?, self.weights)
    }

    /// Trains to the last step of the schedule, or until the observer asks to stop.
    ///
    /// # Errors
    /// A loss or gradient is not finite, a parameter receives no gradient, or data, model or disk
    /// fail.
    pub fn run(
        &mut self,
        objective: &mut dyn Objective,
        observer: &mut dyn Observer,
    ) -> Result<Ending, TrainError> {
        if self.state.step == 0 && objective.monitor_every().is_some() {
            self.monitor(objective, observer)?;
        }
        while self.state.step < self.schedule.total_steps() {
            let out = self.backward(objective)?;
            let metrics = self.update(out)?;
            objective.after_update(self.weights, self.state.step)?;
            self.report(metrics, observer)?;

            let step = self.state.step;
            let last = step == self.schedule.total_steps();
            if objective
                .monitor_every()
                .is_some_and(|every| last || step.is_multiple_of(every.max(1)))
            {
                self.monitor(objective, observer)?;
            }
            observer.on_update(self)?;
            let stop = observer.stop_requested();
            if stop || observer.wants_checkpoint(step) {
                self.save(objective, observer)?;
            }
            if stop && !last {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// Loss and gradients of the next step.
    fn backward(&self, objective: &mut dyn Objective) -> Result<StepOutput, TrainError> {
        let (decoder, vars) = self.weights.for_step(self.config)?;
        let decoder = decoder.with_recompute(self.recompute);
        objective.backward(&decoder, &vars, self.state.step)
    }

    /// Checks, clips and applies the gradients of one step; gives its metrics.
    fn update(&mut self, mut out: StepOutput) -> Result<BTreeMap<String, f64>, TrainError> {
        let step = self.state.step + 1;
        if !out.loss.is_finite() {
            return Err(TrainError::LossNotFinite {
                step,
                value: out.loss,
                examples: out.examples,
            });
        }
        if let Some(rows) = &self.trainable_rows {
            out.grads.keep_rows(EMBEDDING, rows)?;
        }
        let clip = clip_by_global_norm(&out.grads, self.max_grad_norm)?;
        if !clip.norm.is_finite() {
            let parameter = out.grads.first_not_finite()?.unwrap_or_default();
            return Err(TrainError::GradientNotFinite {
                step,
                parameter,
                examples: out.examples,
            });
        }
        let rate = self.schedule.learning_rate(self.state.step);
        self.optimizer.step(&out.grads, rate, clip.scale)?;
        end_phase(Phase::Optimizer);
        self.state.step = step;
        self.state.tokens += out.tokens;
        self.state.positions += out.positions;
        self.state.flops += out.flops;
        let measures = StepMeasures {
            loss: out.loss,
            grad_norm: clip.norm,
            learning_rate: rate,
            tokens: self.state.tokens,
        };
        let metrics = out.metrics.into_iter().chain(values(STEP, &measures));
        Ok(metrics
            .map(|(key, value)| (key.to_owned(), value))
            .collect())
    }

    fn monitor(
        &mut self,
        objective: &mut dyn Objective,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let decoder = Decoder::frozen(self.config, &self.weights.model()?)?;
        let metrics = objective.monitor(&decoder)?;
        if let Some((key, &value)) = metrics.iter().find(|(_, v)| !v.is_finite()) {
            return Err(TrainError::MonitorNotFinite {
                step: self.state.step,
                key: key.clone(),
                value,
            });
        }
        self.report(metrics, observer)
    }

    fn report(
        &mut self,
        metrics: BTreeMap<String, f64>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        observer.on_metrics(self.state.step, &metrics)?;
        self.state.metrics.extend(metrics);
        Ok(())
    }

    /// Writes a resumable state.
    pub fn save(
        &self,
        objective: &dyn Objective,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        save_state(
            &self.work,
            &self.owner,
            &self.state,
            &self.vars,
            &self.optimizer,
            &objective.state(),
        )?;
        observer.on_checkpoint(self.state.step)
    }
}
