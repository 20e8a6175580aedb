//! The one loop: every objective is trained here.

use crate::config::spec::OptimizerRecipe;
use crate::metrics::families::{STEP, StepMeasures};
use crate::metrics::values;
use crate::train::engine::Engine;
use crate::train::error::TrainError;
use crate::train::schedule::LrSchedule;
use crate::train::score::Scorer;
use crate::train::state::{SavedState, TrainState, save_state};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What one optimiser step computes before the update.
#[derive(Debug, Default)]
pub struct StepOutput {
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
    /// Forward and backward over all micro-batches of step `step`, 0-based: the engine has the
    /// gradients of the step's mean loss then, whatever the split. The data of a step is a function of
    /// the step alone.
    fn backward(&mut self, engine: &mut dyn Engine, step: u64) -> Result<StepOutput, TrainError>;

    /// Steps between two measurements on held-out data; `None`: never.
    fn monitor_every(&self) -> Option<u64>;

    /// Measures on held-out data under [`Engine::written`].
    fn monitor(&mut self, model: &mut dyn Scorer) -> Result<BTreeMap<String, f64>, TrainError>;

    /// Told of the new weights after each update; `step` counts from 1.
    fn after_update(&mut self, _engine: &mut dyn Engine, _step: u64) -> Result<(), TrainError> {
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
    fn on_update(&mut self, _training: &Training) -> Result<(), TrainError> {
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
pub struct Training {
    /// The model in training.
    pub engine: Box<dyn Engine>,
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
}

impl Training {
    /// A training at its very beginning.
    pub fn new(
        engine: Box<dyn Engine>,
        optimizer: &OptimizerRecipe,
        schedule: LrSchedule,
        work: PathBuf,
        owner: String,
    ) -> Self {
        Self {
            engine,
            schedule,
            max_grad_norm: optimizer.max_grad_norm.get(),
            state: TrainState::default(),
            work,
            owner,
        }
    }

    /// Continues from a saved state.
    ///
    /// # Errors
    /// The state is of another model.
    pub fn restore(&mut self, saved: &SavedState) -> Result<(), TrainError> {
        self.state = saved.restore(&mut *self.engine)?;
        Ok(())
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
            let out = objective.backward(&mut *self.engine, self.state.step)?;
            let metrics = self.update(out)?;
            objective.after_update(&mut *self.engine, self.state.step)?;
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
                self.save(observer)?;
            }
            if stop && !last {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// Checks, clips and applies the gradients of one step; gives its metrics.
    fn update(&mut self, out: StepOutput) -> Result<BTreeMap<String, f64>, TrainError> {
        let step = self.state.step + 1;
        if !out.loss.is_finite() {
            return Err(TrainError::LossNotFinite {
                step,
                value: out.loss,
                examples: out.examples,
            });
        }
        let rate = self.schedule.learning_rate(self.state.step);
        let update = self.engine.update(step, rate, self.max_grad_norm)?;
        if let Some(parameter) = update.not_finite {
            return Err(TrainError::GradientNotFinite {
                step,
                parameter,
                examples: out.examples,
            });
        }
        self.state.step = step;
        self.state.tokens += out.tokens;
        self.state.positions += out.positions;
        self.state.flops += out.flops;
        let measures = StepMeasures {
            loss: out.loss,
            grad_norm: update.norm,
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
        let metrics = objective.monitor(&mut *self.engine.written()?)?;
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
    pub fn save(&self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        save_state(&self.work, &self.owner, &self.state, &*self.engine)?;
        observer.on_checkpoint(self.state.step)
    }
}
