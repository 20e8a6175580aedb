//! Attempts at work: reading what they tell, noticing how they end.

use crate::backend::Poll;
use crate::base::{Device, Timestamp, chain};
use crate::queue::AttemptEnd;
use crate::rundir::{
    AttemptDir, FailureClass, JobEnd, Publication, RunDir, begun_on, free_bytes, read_job_end,
    read_job_note, read_result, write_job_end,
};
use crate::runner::admission::Admission;
use crate::runner::attempt::StopReason;
use crate::runner::attempts::Attempts;
use crate::runner::commit::lose_inputs;
use crate::runner::error::RunnerError;
use crate::runner::events::RunnerEvent;
use crate::runner::job::SweepJob;
use crate::runner::ledger::Ledger;
use crate::runner::publisher::PublishJob;
use crate::runner::timers::Timers;

/// Looks after every attempt at work, and stores what was read of them.
pub(super) fn poll(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    timers: &mut Timers,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let (journals, heartbeats) = (timers.journals.due(now), timers.heartbeats.due(now));
    let due = (journals, heartbeats);
    let mut failed = None;
    for (at, poll) in attempts.poll()? {
        // A backend tells once how a process ended: an error at one must not cost the end of another.
        let seen = look_after(job, ledger, attempts, admission, (at, &poll), due, now);
        failed = failed.or(seen.err());
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if heartbeats {
        flush(ledger, attempts, job.options.lease_millis, now)
    } else {
        Ok(())
    }
}

fn look_after(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    (at, poll): (usize, &Poll),
    (journals, heartbeats): (bool, bool),
    now: Timestamp,
) -> Result<(), RunnerError> {
    if poll.is_over() {
        if matches!(poll, Poll::Exited { .. }) {
            // It may have begun and ended between two looks.
            note_begun(job, ledger, attempts, at, now);
        }
        read_journal(ledger, attempts, at, now)?;
        return conclude(job, ledger, attempts, admission, (at, poll), now);
    }
    if let Poll::Queued { reason } = poll {
        note_queued(ledger, attempts, at, reason, now);
        return Ok(());
    }
    note_begun(job, ledger, attempts, at, now);
    if journals {
        read_journal(ledger, attempts, at, now)?;
    }
    if heartbeats {
        let limits = (job.options.lease_millis, job.options.hang_millis);
        check_heartbeat(attempts, at, limits, now)?;
    }
    Ok(())
}

/// It waits at a scheduler; a new reason is told.
fn note_queued(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    at: usize,
    reason: &str,
    now: Timestamp,
) {
    let Some(attempt) = attempts.running.get_mut(&at) else {
        return;
    };
    if attempt.wait_in_queue(reason, now) {
        ledger.reporting.report(RunnerEvent::RunQueued {
            run: ledger.graph.id(at).clone(),
            stage: ledger.graph.planned(at).kind,
            label: ledger.graph.label(at),
            attempt: attempt.attempt,
            reason: reason.to_owned(),
        });
    }
}

/// It is at work; that it has begun is told of one that has waited.
fn note_begun(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    at: usize,
    now: Timestamp,
) {
    let elapsed = attempts.elapsed;
    let Some(attempt) = attempts.running.get_mut(&at) else {
        return;
    };
    if attempt.begin(now, elapsed) {
        let slots = &job.options.slots;
        let slot = slots.get(attempt.slot).or(slots.first());
        ledger.reporting.report(RunnerEvent::RunStarted {
            run: ledger.graph.id(at).clone(),
            stage: ledger.graph.planned(at).kind,
            label: ledger.graph.label(at),
            attempt: attempt.attempt,
            device: slot.map_or(Device::Cpu, |slot| slot.device),
        });
    }
}

fn read_journal(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    at: usize,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let Some(attempt) = attempts.running.get_mut(&at) else {
        return Ok(());
    };
    let run = ledger.graph.id(at);
    let news = attempt.read_journal(run, now)?;
    let progress = RunnerEvent::RunProgress {
        run: run.clone(),
        unit: attempt.unit.clone(),
        done: attempt.done,
        total: attempt.total,
        loss: attempt.loss,
    };
    attempts.steps.extend(news.steps);
    for message in news.warnings {
        ledger.reporting.warn(run, message);
    }
    if news.progress {
        ledger.reporting.report(progress);
    }
    Ok(())
}

/// Stops an attempt that has shown no sign of life for longer than `silence` milliseconds, or whose
/// work has not got on for longer than `hang`; 0 is for ever.
fn check_heartbeat(
    attempts: &mut Attempts<'_>,
    at: usize,
    (silence, hang): (i64, i64),
    now: Timestamp,
) -> Result<(), RunnerError> {
    let Some(attempt) = attempts.running.get_mut(&at) else {
        return Ok(());
    };
    attempt.read_heartbeat(now);
    if now > attempt.last_sign.plus_millis(silence) {
        attempts.stop(at, StopReason::Silent, now)
    } else if hang > 0 && now > attempt.last_work.plus_millis(hang) {
        attempts.stop(at, StopReason::Hung, now)
    } else {
        Ok(())
    }
}

/// Steps to the store, and leases extended for attempts that live.
pub(super) fn flush(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    lease: i64,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let alive = attempts.alive(|at| ledger.graph.id(at).clone());
    let steps = std::mem::take(&mut attempts.steps);
    let recorded = ledger.store.record(&steps, &alive, now.plus_millis(lease));
    if recorded.is_err() {
        attempts.keep_for_later(steps);
    }
    Ok(recorded?)
}

/// An attempt that ended because the disk is full, or while it was, is not to blame: the run waits for
/// room like those that have not begun.
fn for_want_of_room(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    admission: &mut Admission,
    at: usize,
    end: AttemptEnd,
    now: Timestamp,
) -> AttemptEnd {
    let message = match &end {
        AttemptEnd::Failed {
            class: FailureClass::DiskFull,
            message,
        } => message.clone(),
        AttemptEnd::Crashed { message, .. } if is_full(job) => message.clone(),
        _ => return end,
    };
    let secs = ledger.rest_for_room(at, now) / 1000;
    let id = ledger.graph.id(at);
    let reason =
        format!("run {id} found no room on the disk: {message}; it is tried again in {secs} s");
    admission.pause(&mut ledger.reporting, reason, now);
    AttemptEnd::Interrupted
}

fn is_full(job: &SweepJob<'_>) -> bool {
    let floor = job.options.disk_floor_bytes;
    free_bytes(&job.root.join("results")).is_ok_and(|free| free < floor)
}

/// An attempt of a scheduler that did not say how it ended is over all the same, also for the runners to come.
fn give_up_job(dir: &AttemptDir) {
    if read_job_note(dir).is_some()
        && read_job_end(dir).is_none()
        && let Err(error) = write_job_end(dir, &JobEnd::default())
    {
        tracing::warn!(
            "an attempt that is over is not marked so: {}",
            chain(&error)
        );
    }
}

/// A card was lost on a machine that a scheduler chose. If one was under another run that ended there before this one
/// began, and none has come to its end since, the scheduler is asked for others.
fn leave_out_node(
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    (at, began): (usize, i64),
    dir: &AttemptDir,
) {
    let lived = (began, attempts.elapsed);
    let Some(node) = begun_on(dir).filter(|node| ledger.health.node_fault(node, at, lived)) else {
        return;
    };
    let lost = format!("cards of `{node}` were lost under two runs, one after the other");
    let what = match attempts.exclude(dir) {
        Ok(Some(_)) => "nothing more is submitted to it before the next `lions run`".to_owned(),
        Ok(None) => "the scheduler may choose it again".to_owned(),
        Err(error) => format!("it stays in use, as without it {}", chain(&error)),
    };
    ledger
        .reporting
        .warn(ledger.graph.id(at), format!("{lost}; {what}"));
}

/// An attempt is over: publish what it made, or say how it ended.
fn conclude(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    (at, poll): (usize, &Poll),
    now: Timestamp,
) -> Result<(), RunnerError> {
    let Some(ended) = attempts.take_ended(at, now) else {
        return Ok(());
    };
    let lost = matches!(ended.stop, Some((StopReason::LeaseLost, _)));
    let result = read_result(&ended.dir);
    let flops = ledger.graph.planned(at).estimate.flops;
    let flops = matches!(result, Ok(Some(_))).then_some(flops);
    // One that never began at its scheduler has only waited.
    let worked = match ended.waits {
        Some(_) => 0,
        None => attempts.elapsed - ended.began,
    };
    ledger.limits.note(worked, flops);
    let end = match result {
        _ if lost => AttemptEnd::Lost,
        Ok(Some(_)) => {
            ledger.health.well(ended.slot, at);
            if let Some(node) = begun_on(&ended.dir) {
                ledger.health.well_on(&node, ended.began);
            }
            let planned = ledger.graph.planned(at);
            attempts.publish(PublishJob {
                dir: RunDir::new(job.root, &planned.id),
                what: Publication {
                    run: planned.id.clone(),
                    kind: planned.kind,
                    attempt: ended.attempt,
                    started: ended.started,
                    // A clock that is set meanwhile must not make a duration of hours, or less than none.
                    finished: ended.started.plus_millis(attempts.elapsed - ended.began),
                },
                own: true,
            });
            return Ok(());
        }
        Ok(None) => match (ended.end(poll), ended.lost(poll)) {
            (AttemptEnd::Interrupted, Some(why)) => ledger.lose(at, ended.progressed(), why, now),
            (end, _) => end,
        },
        Err(error) => ended.crashed(None, chain(&error)),
    };
    if let Poll::Evicted { message, .. } = poll
        && matches!(end, AttemptEnd::Interrupted | AttemptEnd::Cancelled)
    {
        ledger.reporting.warn(ledger.graph.id(at), message.clone());
    }
    give_up_job(&ended.dir);
    if end.class() == Some(FailureClass::DeviceFault) {
        let Ledger {
            health,
            reporting,
            graph,
            ..
        } = ledger;
        health.fault(&job.options.slots, ended.slot, at, reporting, graph);
        leave_out_node(ledger, attempts, (at, ended.began), &ended.dir);
    }
    let damaged =
        matches!(&end, AttemptEnd::Failed { class, .. } if *class == FailureClass::Damaged);
    let end = for_want_of_room(job, ledger, admission, at, end, now);
    if !damaged {
        return ledger.end_attempt(at, ended.attempt, end, now);
    }
    let lost = lose_inputs(job.root, ledger, at, ended.started, now);
    let end = match end {
        // It waits for its input to be made again: a few times, since a disk may damage all it stores. If the
        // store could not take that now, the next attempt finds the same.
        AttemptEnd::Failed { class, message } if !matches!(lost, Ok(false)) => {
            AttemptEnd::Crashed {
                class: Some(class),
                message,
                progressed: false,
            }
        }
        end => end,
    };
    ledger.end_attempt(at, ended.attempt, end, now)?;
    lost.map(drop)
}
