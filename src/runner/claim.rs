//! From ready runs and free slots to attempts.

use crate::backend::{BackendError, Launch};
use crate::base::{Timestamp, chain};
use crate::plan::RunId;
use crate::queue::{AttemptEnd, Candidate, RunState, Slot, schedule};
use crate::rundir::{
    AttemptDir, Publication, RunDir, RundirError, attempt_numbers, read_collected, read_result,
    reject_all, reject_result, sealed_outcome, write_run_files,
};
use crate::runner::admission::Admission;
use crate::runner::attempts::Attempts;
use crate::runner::commit::reject_damaged;
use crate::runner::error::RunnerError;
use crate::runner::events::RunnerEvent;
use crate::runner::job::{SweepJob, is_there};
use crate::runner::ledger::Ledger;
use crate::runner::owner::Owner;
use crate::runner::publisher::PublishJob;
use crate::store::{Claim, ClaimRequest};

/// Claims ready runs for free slots and starts an attempt at each.
pub(super) fn claim(
    job: &SweepJob<'_>,
    owner: &Owner,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let pairs = assign(job, ledger, attempts, admission, now)?;
    if pairs.is_empty() {
        return Ok(());
    }
    let slots = &job.options.slots;
    let request = |(at, slot): &(usize, usize)| ClaimRequest {
        run: ledger.graph.id(*at).clone(),
        device: slots[*slot].device,
        elsewhere: slots[*slot].elsewhere,
    };
    let requests: Vec<ClaimRequest> = pairs.iter().map(request).collect();
    let lease = job.options.lease_millis;
    let claims = ledger.store.claim(&requests, owner.name(), now, lease)?;
    let mut failed = None;
    for ((at, slot), claim) in pairs.into_iter().zip(claims) {
        tracing::debug!(run = %ledger.graph.id(at), ?claim, "claim");
        if let (Some(_), Claim::Taken { attempt, .. }) = (&failed, &claim) {
            // An attempt of the same batch could not be started: what was claimed is given back.
            drop(ledger.end_attempt(at, *attempt, AttemptEnd::Interrupted, now));
            continue;
        }
        match claim {
            Claim::Taken { attempt, halved } => {
                ledger.graph.set_state(
                    at,
                    RunState::Leased {
                        attempt,
                        expires: now.plus_millis(lease),
                    },
                );
                let claimed = (at, slot, attempt, halved);
                failed = launch(job, ledger, attempts, admission, claimed, now).err();
            }
            Claim::NotReady { state } => failed = ledger.follow(at, state).err().or(failed),
            // The next look at the store brings the order.
            Claim::Paused => {}
            Claim::DeviceBusy { owner } => {
                let device = slots[slot].device;
                let reason = format!("{device} is in use by runner `{owner}`");
                admission.hold(&mut ledger.reporting, &ledger.graph, at, reason);
            }
        }
    }
    // Every handle is in the store by now.
    attempts.submit()?;
    failed.map_or(Ok(()), Err)
}

/// Runs that are to be executed now, each with its slot.
fn assign(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    now: Timestamp,
) -> Result<Vec<(usize, usize)>, RunnerError> {
    let taken = attempts.taken_slots();
    let slots = job.options.slots.iter().enumerate();
    let free: Vec<(usize, &Slot)> = slots
        .filter(|(at, slot)| !taken.contains(at) && !ledger.health.is_excluded(slot.device))
        .collect();
    let mut ready = ledger.graph.runs_in(|state| state == RunState::Ready);
    ready.retain(|at| job.options.wants(ledger.graph.id(*at)));
    ready.retain(|at| !ledger.orders.hold(ledger.graph.id(*at)));
    let idle = free.is_empty() || ready.is_empty();
    // Others are told of a pause, so it ends with its cause, not with the next run that can begin.
    let asks = !idle || admission.is_paused();
    if !asks || !admission.has_room(ledger, job, now)? || idle {
        return Ok(Vec::new());
    }
    ready.retain(|at| !attempts.is_publishing(ledger.graph.id(*at)));
    let at = (now, attempts.elapsed);
    let left = ledger.limits.left_millis(&attempts.running, at);
    ready.retain(|at| ledger.limits.admits(&ledger.graph, *at, left));
    let admitted = admission.admitted(ready, &ledger.resting, now);
    let candidates: Vec<_> = admitted
        .into_iter()
        .map(|at| {
            let candidate = ledger.graph.candidate(at);
            let (slots, needs) = (&job.options.slots, candidate.needs);
            let avoid = ledger.health.avoided(slots, at, needs);
            // With little time a trial that is nearly complete says more than the beginning of a long one.
            let chain = match left {
                Some(_) => -candidate.chain,
                None => candidate.chain,
            };
            Candidate {
                chain,
                avoid,
                ..candidate
            }
        })
        .collect();
    let mut pairs = Vec::new();
    for (at, slot) in schedule(&candidates, &free) {
        if has_to_run(job, ledger, attempts, admission, at, now)? {
            pairs.push((at, slot));
        }
    }
    Ok(pairs)
}

/// Whether a run has to be executed: not if its folder already holds an outcome, a finished attempt
/// or a process at work.
fn has_to_run(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    at: usize,
    now: Timestamp,
) -> Result<bool, RunnerError> {
    let planned = ledger.graph.planned(at);
    let dir = RunDir::new(job.root, &planned.id);
    if !is_there(dir.path())? {
        return Ok(true);
    }
    let numbers = attempt_numbers(&dir)?;
    if let Some(number) = numbers.last()
        && attempts.is_at_work(&dir.attempt(*number))?
    {
        let reason = format!("its attempt {number} is still at work");
        admission.hold(&mut ledger.reporting, &ledger.graph, at, reason);
        return Ok(false);
    }
    let outcome = match sealed_outcome(&dir) {
        Err(error @ RundirError::Damaged { .. }) => {
            // What cannot be read, or is of a later version, is not damaged: that stops the sweep.
            reject_damaged(&dir, &error)?;
            None
        }
        read => {
            let outcome = read?;
            if outcome.is_some() && !read_collected(&dir)?.is_empty() {
                // It was put back because what was deleted of it is needed.
                reject_all(&dir)?;
                None
            } else {
                outcome
            }
        }
    };
    let by = outcome.as_ref().map(|outcome| outcome.attempt);
    let Some(number) = numbers.last().copied().or(by) else {
        return Ok(true);
    };
    if outcome.is_none() && !has_result(ledger, &planned.id, &dir.attempt(number))? {
        return Ok(true);
    }
    attempts.publish(PublishJob {
        dir,
        what: Publication {
            run: planned.id.clone(),
            kind: planned.kind,
            attempt: number,
            // When it began is not known here.
            started: now,
            finished: now,
        },
        own: false,
    });
    Ok(false)
}

/// Whether an attempt left a result; one that is damaged is told and put out of the way.
fn has_result(
    ledger: &mut Ledger<'_>,
    run: &RunId,
    attempt: &AttemptDir,
) -> Result<bool, RunnerError> {
    match read_result(attempt) {
        Err(error @ RundirError::Damaged { .. }) => {
            let message = format!("{error}; the run is done again");
            ledger.reporting.warn(run, message);
            reject_result(attempt);
            Ok(false)
        }
        read => Ok(read?.is_some()),
    }
}

fn launch(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    (at, slot, attempt, halved): (usize, usize, u32, bool),
    now: Timestamp,
) -> Result<(), RunnerError> {
    let Slot {
        device,
        card,
        card_memory,
        threads,
        ..
    } = job.options.slots[slot].clone();
    let planned = ledger.graph.planned(at);
    let launch = Launch {
        root: job.root.to_owned(),
        run: planned.id.clone(),
        attempt,
        device,
        card,
        card_memory,
        threads,
        halved,
    };
    let launched = write_run_files(&launch.run_dir(), &planned.identity, &planned.stage)
        .map_err(RunnerError::from)
        .and_then(|()| attempts.launch(at, slot, &launch, now));
    let handle = match launched {
        Ok(handle) => handle,
        Err(error) => return not_launched(ledger, admission, (at, attempt), error, now),
    };
    admission.release(at);
    // First, since whoever hears of the attempt may want to find it; without it the attempt is at work too.
    let kept = ledger.store.set_handle(&planned.id, attempt, &handle.0);
    if job.options.slots[slot].elsewhere {
        // It is told when it begins.
        return Ok(kept?);
    }
    ledger.reporting.report(RunnerEvent::RunStarted {
        run: launch.run,
        stage: planned.kind,
        label: ledger.graph.label(at),
        attempt,
        device,
    });
    Ok(kept?)
}

/// An attempt that could not even begin: a full disk pauses, a folder that cannot be used fails the
/// run, a program that cannot be started stops the runner.
fn not_launched(
    ledger: &mut Ledger<'_>,
    admission: &mut Admission,
    (at, attempt): (usize, u32),
    error: RunnerError,
    now: Timestamp,
) -> Result<(), RunnerError> {
    if error.is_disk_full() {
        admission.pause(&mut ledger.reporting, chain(&error), now);
        ledger.rest_for_room(at, now);
        return ledger.end_attempt(at, attempt, AttemptEnd::Interrupted, now);
    }
    if matches!(error, RunnerError::Backend(BackendError::Busy { .. })) {
        // For a moment, by another runner that looks at it.
        ledger.end_attempt(at, attempt, AttemptEnd::Interrupted, now)?;
        admission.hold(&mut ledger.reporting, &ledger.graph, at, chain(&error));
        return Ok(());
    }
    if let RunnerError::Rundir(found) | RunnerError::Backend(BackendError::Rundir(found)) = &error {
        let (class, message) = (found.class(), chain(&error));
        return ledger.end_attempt(at, attempt, AttemptEnd::Failed { class, message }, now);
    }
    ledger.end_attempt(at, attempt, AttemptEnd::Interrupted, now)?;
    Err(error)
}
