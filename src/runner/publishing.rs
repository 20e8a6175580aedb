//! From a finished attempt to an outcome in the store.

use crate::base::Timestamp;
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::{AttemptDir, FailureClass, Outcome, RundirError};
use crate::runner::dispatcher::Dispatcher;
use crate::runner::error::RunnerError;
use crate::runner::events::Origin;
use crate::runner::publisher::PublishJob;
use crate::store::recorded_steps;

impl Dispatcher<'_, '_> {
    pub(super) fn send_to_publisher(&mut self, job: PublishJob) {
        let what = &job.what;
        self.publishing
            .insert(what.run.clone(), (what.attempt, what.started));
        self.publisher.send(job);
    }

    pub(super) fn published(
        &mut self,
        job: &PublishJob,
        outcome: Result<Outcome, RundirError>,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        self.publishing.remove(&job.what.run);
        self.active = now;
        match outcome {
            Ok(outcome) => self.commit(job, &outcome, now),
            Err(error) => self.not_published(job, &error, now),
        }
    }

    pub(super) fn commit(
        &mut self,
        job: &PublishJob,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let run = &outcome.run;
        let mut steps = std::mem::take(&mut self.pending);
        if !job.own {
            steps.extend(recorded_steps(&job.dir, run)?);
        }
        let committed = self.rim.store.publish(outcome, &steps, now)?;
        let changes = if let Ok(changes) = committed {
            changes
        } else {
            self.rim.store.record(&steps, &[], now)?;
            vec![(run.clone(), RunState::Succeeded)]
        };
        if let Some(at) = self.places.get(run).copied()
            && self.states[at] != RunState::Succeeded
        {
            let origin = if job.own {
                Origin::Executed
            } else {
                Origin::Adopted
            };
            self.executed += usize::from(job.own);
            let secs = outcome.finished.secs_since(outcome.started);
            self.states[at] = RunState::Succeeded;
            self.tell_finished(at, origin, secs, outcome.result.metrics.clone());
        }
        self.absorb(changes);
        Ok(())
    }

    pub(super) fn not_published(
        &mut self,
        job: &PublishJob,
        error: &RundirError,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let (run, attempt) = (&job.what.run, job.what.attempt);
        let message = format!("cannot publish: {}", chain(error));
        if error.is_disk_full() {
            self.pause(message, now); // what it made stays and is published when there is room
            let lost = self
                .rim
                .store
                .end_attempt(run, attempt, AttemptEnd::Lost, now)?;
            self.absorb(lost.unwrap_or_default());
            return Ok(());
        }
        reject_result(&job.dir.attempt(attempt));
        let end = AttemptEnd::Failed {
            class: FailureClass::Internal,
            message,
        };
        if let Some(at) = self.places.get(run).copied() {
            return self.ended(at, attempt, end, now);
        }
        drop(self.rim.store.end_attempt(run, attempt, end, now)?);
        Ok(())
    }
}

/// Puts a result that led to no outcome out of the way, so that it is not adopted again.
pub(super) fn reject_result(attempt: &AttemptDir) {
    let rejected = attempt.path().join("result.rejected.json");
    drop(std::fs::rename(attempt.result(), rejected));
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
