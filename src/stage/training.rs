//! What both training stages share: watching, resuming, and the trained model as an artifact.

use crate::base::{Shutdown, write_atomic};
use crate::model::{FrozenParams, save_checkpoint};
use crate::plan::MODEL_ARTIFACT;
use crate::rundir::{AttemptEvent, MetricValue, RundirError};
use crate::stage::error::StageError;
use crate::stage::job::{Job, Made};
use crate::stage::telemetry::Telemetry;
use crate::train::{Ending, Objective, Observer, TrainError, Training, newest_state};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two resumable states where the runtime names no number of steps.
const CHECKPOINT_EVERY: Duration = Duration::from_mins(1);

/// Writes events, asks for checkpoints by step or by time, and passes the request to stop on.
struct Watch<'a> {
    telemetry: &'a mut Telemetry,
    shutdown: Shutdown,
    every_steps: Option<u64>,
    saved: Instant,
}

impl Observer for Watch<'_> {
    fn on_metrics(&mut self, step: u64, metrics: &BTreeMap<String, f64>) -> Result<(), TrainError> {
        self.telemetry.step(step, metrics).map_err(observed)?;
        self.telemetry.progress(step).map_err(observed)
    }

    fn on_checkpoint(&mut self, step: u64) -> Result<(), TrainError> {
        self.saved = Instant::now();
        self.telemetry
            .tell(&AttemptEvent::Checkpointed { step })
            .map_err(observed)?;
        self.telemetry.sync().map_err(observed)
    }

    fn wants_checkpoint(&mut self, step: u64) -> bool {
        match self.every_steps {
            Some(every) => step.is_multiple_of(every.max(1)),
            None => self.saved.elapsed() >= CHECKPOINT_EVERY,
        }
    }

    fn stop_requested(&mut self) -> bool {
        self.shutdown.requested()
    }
}

fn observed(error: RundirError) -> TrainError {
    TrainError::Observer(Box::new(error))
}

impl Job<'_> {
    /// Where resumable states of this attempt go.
    pub(super) fn work(&self) -> PathBuf {
        self.attempt.work()
    }

    /// Continues from the newest whole state of this or an earlier attempt, if there is one, and
    /// trains to the end.
    pub(super) fn train(
        &mut self,
        made: &mut Made,
        training: &mut Training<'_>,
        objective: &mut dyn Objective,
    ) -> Result<(), StageError> {
        let attempts = (1..=self.context.attempt).map(|n| self.context.run_dir.attempt(n).work());
        if let Some(saved) = newest_state(&attempts.collect::<Vec<_>>(), &self.file.run.0) {
            training.restore(&saved)?;
            let step = saved.step();
            self.telemetry.tell(&AttemptEvent::Resumed { step })?;
            made.notes.push(format!(
                "continued after step {step}: wall and processor time are of the last attempt"
            ));
        }
        self.telemetry
            .begin("steps", training.schedule.total_steps())?;
        let mut watch = Watch {
            telemetry: &mut *self.telemetry,
            shutdown: self.context.shutdown.clone(),
            every_steps: self.file.runtime.checkpoint_every_steps,
            saved: Instant::now(),
        };
        if training.run(objective, &mut watch)? == Ending::Interrupted {
            return Err(StageError::Interrupted);
        }
        made.usage.tokens = training.state.tokens;
        made.usage.positions = training.state.positions;
        made.usage.flops = training.state.flops;
        let last = |value: f64| MetricValue {
            value,
            stderr: None,
            n: 1,
        };
        let metrics = training.state.metrics.iter();
        made.metrics
            .extend(metrics.map(|(key, &value)| (key.clone(), last(value))));
        made.counts.insert("steps".to_owned(), training.state.step);
        Ok(())
    }

    /// Writes the trained weights as a model folder that later stages open like any other.
    pub(super) fn save_model(
        &self,
        made: &mut Made,
        source: &Path,
        params: &FrozenParams,
    ) -> Result<(), StageError> {
        let dir = self.attempt.out().join(MODEL_ARTIFACT);
        save_checkpoint(&dir, source, params)?;
        if let Some(template) = self.template() {
            let text = crate::base::fs::read_to_string(&template)?;
            write_atomic(&dir.join("chat_template.jinja"), text.as_bytes())?;
        }
        made.artifacts.push(MODEL_ARTIFACT.to_owned());
        Ok(())
    }
}
