//! From a published attempt to an outcome in the store.

use crate::base::Timestamp;
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::{AttemptDir, FailureClass, Outcome, RundirError};
use crate::runner::admission::Admission;
use crate::runner::attempts::Attempts;
use crate::runner::error::{RunnerError, chain};
use crate::runner::events::OutcomeSource;
use crate::runner::ledger::Ledger;
use crate::runner::publisher::{Answer, PublishJob};
use crate::store::recorded_steps;

/// Takes an answer of the publisher.
pub(super) fn commit(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    (job, outcome): Answer,
    now: Timestamp,
) -> Result<(), RunnerError> {
    match outcome {
        Ok(outcome) => store_outcome(ledger, attempts, &job, &outcome, now),
        Err(error) => not_published(ledger, admission, &job, &error, now),
    }
}

fn store_outcome(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    job: &PublishJob,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let run = &outcome.run;
    let mut steps = std::mem::take(&mut attempts.steps);
    if !job.own {
        steps.extend(recorded_steps(&job.dir, run)?);
    }
    let committed = ledger.store.publish(outcome, &steps, now)?;
    let changes = if let Ok(changes) = committed {
        changes
    } else {
        ledger.store.record(&steps, &[], now)?;
        vec![(run.clone(), RunState::Succeeded)]
    };
    if let Some(at) = ledger.graph.index_of(run)
        && ledger.graph.set_state(at, RunState::Succeeded) != RunState::Succeeded
    {
        let source = if job.own {
            OutcomeSource::Executed
        } else {
            OutcomeSource::Adopted
        };
        let secs = outcome.finished.secs_since(outcome.started);
        let metrics = outcome.result.metrics.clone();
        ledger
            .reporting
            .report_finished(&ledger.graph, at, source, secs, metrics);
    }
    ledger.apply_changes(changes);
    Ok(())
}

fn not_published(
    ledger: &mut Ledger<'_>,
    admission: &mut Admission,
    job: &PublishJob,
    error: &RundirError,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let (run, attempt) = (&job.what.run, job.what.attempt);
    let message = format!("cannot publish: {}", chain(error));
    if error.is_disk_full() {
        // What it made stays, and is published when there is room.
        admission.pause(&mut ledger.reporting, message, now);
        let lost = ledger
            .store
            .end_attempt(run, attempt, AttemptEnd::Lost, now)?;
        ledger.apply_changes(lost.unwrap_or_default());
        return Ok(());
    }
    reject_result(&job.dir.attempt(attempt));
    let end = AttemptEnd::Failed {
        class: FailureClass::Internal,
        message,
    };
    if let Some(at) = ledger.graph.index_of(run) {
        return ledger.end_attempt(at, attempt, end, now);
    }
    drop(ledger.store.end_attempt(run, attempt, end, now)?);
    Ok(())
}

/// Puts a result that led to no outcome out of the way, so that it is not adopted again.
pub(super) fn reject_result(attempt: &AttemptDir) {
    let rejected = attempt.path().join("result.rejected.json");
    drop(std::fs::rename(attempt.result(), rejected));
}
