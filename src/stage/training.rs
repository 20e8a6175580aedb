//! What both training stages share: watching, resuming, and the trained model as an artifact.

use crate::base::Shutdown;
use crate::config::spec::ScheduleRecipe;
use crate::rundir::{AttemptEvent, MetricValue};
use crate::stage::attempt::Attempt;
use crate::stage::checkpoints::CheckpointWriter;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::telemetry::Telemetry;
use crate::train::{Ending, FoundStates, LrSchedule, Objective, Observer, TrainError, Training};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The schedule of a training stage.
///
/// # Errors
///
/// [`StageError::NoLearningRate`] where no step would change the model: its evaluation would pass
/// for that of a trained one.
pub(super) fn learning_schedule(
    recipe: &ScheduleRecipe,
    peak: f64,
    steps: u64,
) -> Result<LrSchedule, StageError> {
    let schedule = LrSchedule::new(recipe, peak, steps);
    if schedule.learns() {
        Ok(schedule)
    } else {
        Err(StageError::NoLearningRate { steps })
    }
}

/// Time between two resumable states where the runtime names no number of steps.
const CHECKPOINT_EVERY: Duration = Duration::from_mins(1);

/// Writes events and kept models, asks for resumable states by step or by time, and passes the
/// request to stop on.
struct StageObserver<'a> {
    telemetry: &'a mut Telemetry,
    keeper: &'a CheckpointWriter,
    shutdown: Shutdown,
    every_steps: Option<u64>,
    saved: Instant,
}

impl Observer for StageObserver<'_> {
    fn on_metrics(&mut self, step: u64, metrics: &BTreeMap<String, f64>) -> Result<(), TrainError> {
        self.telemetry.step(step, metrics).map_err(observed)?;
        self.telemetry.progress(step).map_err(observed)
    }

    fn on_update(&mut self, training: &Training) -> Result<(), TrainError> {
        self.keeper.after_step(training).map_err(observed)
    }

    fn on_checkpoint(&mut self, step: u64) -> Result<(), TrainError> {
        tracing::debug!(step, "resumable state written");
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

fn observed(error: impl std::error::Error + Send + Sync + 'static) -> TrainError {
    TrainError::Observer(Box::new(error))
}

impl Attempt<'_> {
    /// Where resumable states of this attempt go.
    pub(super) fn work(&self) -> PathBuf {
        self.dir.work()
    }

    /// Continues from the newest whole state of this or an earlier attempt, if there is one, trains
    /// to the end, and writes the trained weights as a model folder that later stages open like any
    /// other.
    pub(super) fn train(
        &mut self,
        made: &mut StageOutput,
        training: &mut Training,
        objective: &mut dyn Objective,
        keeper: &CheckpointWriter,
    ) -> Result<(), StageError> {
        // All that a training begins with is read by now. What is read again later (the weights under
        // adapters in bf16) is looked at again then.
        self.check_inputs()?;
        self.resume(made, training, keeper)?;
        self.telemetry
            .begin("steps", training.schedule.total_steps())?;
        let mut watch = StageObserver {
            telemetry: &mut *self.telemetry,
            keeper,
            shutdown: self.context.shutdown.clone(),
            every_steps: self
                .file
                .runtime
                .checkpoint_every_steps
                .map(NonZeroU64::get),
            saved: Instant::now(),
        };
        if training.run(objective, &mut watch)? == Ending::Interrupted {
            return Err(StageError::Interrupted);
        }
        made.usage.tokens = training.state.tokens;
        made.usage.positions = training.state.positions;
        made.usage.flops = training.state.flops;
        let metrics = training.state.metrics.iter();
        made.metrics
            .extend(metrics.map(|(key, &value)| (key.clone(), MetricValue::single(value))));
        made.counts.insert("steps".to_owned(), training.state.step);
        keeper.finish(made, training)
    }

    fn resume(
        &mut self,
        made: &mut StageOutput,
        training: &mut Training,
        keeper: &CheckpointWriter,
    ) -> Result<(), StageError> {
        let (run, attempt) = (&self.context.run_dir, self.context.attempt);
        let works = (1..=attempt).map(|n| run.attempt(n).work());
        let mut found = FoundStates::of(&works.collect::<Vec<_>>(), &self.file.run.0)?;
        let (mut usable, mut passed_over) = (None, false);
        // A state whose checkpoints are lost is of no use, but one before them may be: otherwise every
        // later attempt would meet it again and start at step 0.
        while let Some(saved) = found.next_whole()? {
            let lacking = keeper.adopt(run, attempt, saved.step())?;
            if lacking.is_empty() {
                usable = Some(saved);
                break;
            }
            let (lacking, step) = (lacking.join(", "), saved.step());
            passed_over = true;
            self.warn(
                made,
                format!("{lacking}: the state of step {step} is of no use"),
            )?;
        }
        for damaged in found.damaged {
            passed_over = true;
            self.warn(made, format!("{damaged}; it is passed over"))?;
        }
        let Some(saved) = usable else {
            if passed_over {
                self.warn(made, "no state is left: training starts anew".to_owned())?;
            }
            return Ok(());
        };
        let step = saved.step();
        training.restore(&saved)?;
        self.telemetry.tell(&AttemptEvent::Resumed { step })?;
        made.notes.push(format!(
            "continued after step {step}: wall and processor time are of the last attempt"
        ));
        Ok(())
    }
}
