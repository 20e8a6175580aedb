//! From a published attempt to an outcome in the store.

use crate::base::{Timestamp, chain};
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::{
    Outcome, RunDir, RundirError, Verify, needs_collected, reject_all, reject_outcome,
    reject_result, verified_outcome,
};
use crate::runner::admission::Admission;
use crate::runner::attempts::Attempts;
use crate::runner::error::RunnerError;
use crate::runner::events::OutcomeSource;
use crate::runner::job::{NEEDED, costs_result, remedy};
use crate::runner::ledger::Ledger;
use crate::runner::publisher::{Answer, PublishJob};
use crate::store::{StepRecord, recorded_steps};
use std::path::Path;

/// Takes an answer of the publisher.
pub(super) fn commit(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    answer: Answer,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let (job, outcome) = &answer;
    let (run, attempt) = (&job.what.run, job.what.attempt);
    let taken = match outcome {
        Ok(outcome) => store_outcome(ledger, attempts, job, outcome, now),
        Err(error) => not_published(ledger, admission, job, error, now),
    };
    // What the ledger tells again would be told twice.
    let untold = ledger.is_untold(run, attempt);
    if taken.as_ref().is_err_and(RunnerError::may_pass) && !untold {
        attempts.answer_later(answer);
    }
    taken
}

fn store_outcome(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    job: &PublishJob,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let run = &outcome.run;
    // A runner that died has not stored all that its attempt had told.
    let from_journals = !job.own || outcome.attempt > 1;
    let recorded = if from_journals {
        recorded_steps(&job.dir, run)?
    } else {
        Vec::new()
    };
    let mut steps = std::mem::take(&mut attempts.steps);
    steps.extend(recorded);
    let committed = ledger.store.publish(outcome, &steps, now);
    let committed = match committed {
        Ok(Err(_)) => ledger.store.record(&steps, &[], now).map(|()| None),
        other => other.map(Result::ok),
    };
    if committed.is_err() {
        let read_again = |step: &StepRecord| from_journals && step.run == *run;
        steps.retain(|step| !read_again(step));
        attempts.keep_for_later(steps);
    }
    let known = || vec![(run.clone(), RunState::Succeeded)];
    let changes = committed?.unwrap_or_else(known);
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
        ledger.without_room.remove(&at);
        ledger
            .reporting
            .report_finished(&ledger.graph, at, source, secs, metrics);
    }
    ledger.apply_changes(changes);
    Ok(())
}

/// A result that cannot be published is left so long before it is tried again, ms.
const PUBLISH_AGAIN_MILLIS: i64 = 30_000;

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
        let Some(at) = ledger.graph.index_of(run) else {
            let lost = ledger
                .store
                .end_attempt(run, attempt, AttemptEnd::Lost, now);
            return Ok(lost.map(drop)?);
        };
        ledger.rest_for_room(at, now);
        if ledger.graph.is_leased(at, attempt) {
            return ledger.end_attempt(at, attempt, AttemptEnd::Lost, now);
        }
        return Ok(());
    }
    // What cannot be read or moved now is not damaged: it stays, and is published by a later try.
    let stays = matches!(error, RundirError::Path(_) | RundirError::TooNew { .. });
    let is_away = !stays && reject_result(&job.dir.attempt(attempt));
    let Some(at) = ledger.graph.index_of(run) else {
        let end = unpublished(error, message);
        drop(ledger.store.end_attempt(run, attempt, end, now)?);
        return Ok(());
    };
    let told = format!("{message}; the run is done again");
    if ledger.graph.is_leased(at, attempt) {
        if matches!(error, RundirError::Damaged { .. }) {
            ledger.reporting.warn(run, told);
        }
        return ledger.end_attempt(at, attempt, unpublished(error, message), now);
    }
    // It was found in its folder: no attempt has ended, and the run is ready as it was.
    if is_away {
        ledger.reporting.warn(run, told);
    } else {
        // All of it is digested each time.
        ledger
            .resting
            .insert(at, now.plus_millis(PUBLISH_AGAIN_MILLIS));
        admission.hold(&mut ledger.reporting, &ledger.graph, at, message);
    }
    Ok(())
}

/// How an attempt has ended whose result cannot be published.
fn unpublished(error: &RundirError, message: String) -> AttemptEnd {
    match error {
        // It is made again, a few times; a disk that damages everything is given up.
        RundirError::Damaged { .. } => AttemptEnd::Crashed {
            class: None,
            message,
            progressed: false,
        },
        _ => AttemptEnd::Failed {
            class: error.class(),
            message,
        },
    }
}

/// After an attempt, begun at `began`, that found an input damaged: puts the runs that made it back. False
/// if all its inputs are whole after all, and none was published again since.
pub(super) fn lose_inputs(
    root: &Path,
    ledger: &mut Ledger<'_>,
    at: usize,
    began: Timestamp,
    now: Timestamp,
) -> Result<bool, RunnerError> {
    // Another attempt may have found the same, and been faster to say so.
    let mut is_mended = false;
    // As the attempt looked at them; only if that finds nothing everything is read.
    for verify in [Verify::Changed, Verify::Digests] {
        let mut lost = false;
        for parent in &ledger.graph.planned(at).parents {
            let dir = RunDir::new(root, parent);
            let (why, again) = match verified_outcome(&dir, verify) {
                Ok(Some(_)) if needs_collected(root, ledger.graph.planned(at), parent)? => {
                    reject_all(&dir)?;
                    (NEEDED.to_owned(), remedy(true))
                }
                Ok(Some(outcome)) => {
                    is_mended |= outcome.finished > began;
                    continue;
                }
                // Its results stay: one of them may be being published at this moment.
                Ok(None) => ("its outcome is gone".to_owned(), remedy(false)),
                Err(error @ RundirError::Damaged { .. }) => {
                    reject_damaged(&dir, &error)?;
                    (error.to_string(), remedy(costs_result(&dir, &error)))
                }
                Err(error) => return Err(error.into()),
            };
            ledger.reporting.warn(parent, format!("{why}; {again}"));
            let changes = ledger.store.lose_outcome(parent, now)?;
            ledger.apply_changes(changes.unwrap_or_default());
            lost = true;
        }
        if lost {
            return Ok(true);
        }
    }
    Ok(is_mended)
}

/// Puts an outcome that is damaged out of the way, and the results that it was made of if what they made
/// is damaged. Otherwise the run is published again from them.
pub(super) fn reject_damaged(dir: &RunDir, error: &RundirError) -> Result<(), RunnerError> {
    if costs_result(dir, error) {
        return Ok(reject_all(dir)?);
    }
    Ok(reject_outcome(dir)?)
}
