//! Attempts at work: reading what they tell, noticing how they end.

use crate::backend::Poll;
use crate::base::Timestamp;
use crate::queue::AttemptEnd;
use crate::rundir::{Publication, RunDir, read_result};
use crate::runner::attempt::StopReason;
use crate::runner::attempts::Attempts;
use crate::runner::error::{RunnerError, chain};
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
    timers: &mut Timers,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let (journals, heartbeats) = (timers.journals.due(now), timers.heartbeats.due(now));
    let silence = job.options.lease_millis;
    for (at, poll) in attempts.poll()? {
        if poll == Poll::Running {
            if journals {
                read_journal(ledger, attempts, at, now)?;
            }
            if heartbeats {
                check_heartbeat(attempts, at, silence, now)?;
            }
        } else {
            read_journal(ledger, attempts, at, now)?;
            conclude(job, ledger, attempts, (at, &poll), now)?;
        }
    }
    if heartbeats {
        flush(ledger, attempts, silence, now)
    } else {
        Ok(())
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

/// Stops an attempt that has shown no sign of life for longer than `silence` milliseconds.
fn check_heartbeat(
    attempts: &mut Attempts<'_>,
    at: usize,
    silence: i64,
    now: Timestamp,
) -> Result<(), RunnerError> {
    let Some(attempt) = attempts.running.get_mut(&at) else {
        return Ok(());
    };
    attempt.read_heartbeat(now);
    if now > attempt.last_sign.plus_millis(silence) {
        attempts.stop(at, StopReason::Silent, now)
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
    Ok(ledger
        .store
        .record(&steps, &alive, now.plus_millis(lease))?)
}

/// An attempt is over: publish what it made, or say how it ended.
fn conclude(
    job: &SweepJob<'_>,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    (at, poll): (usize, &Poll),
    now: Timestamp,
) -> Result<(), RunnerError> {
    let Some(ended) = attempts.take_ended(at, now) else {
        return Ok(());
    };
    let lost = matches!(ended.stop, Some((StopReason::LeaseLost, _)));
    let end = match read_result(&ended.dir) {
        _ if lost => AttemptEnd::Lost,
        Ok(Some(_)) => {
            let planned = ledger.graph.planned(at);
            attempts.publish(PublishJob {
                dir: RunDir::new(job.root, &planned.id),
                what: Publication {
                    run: planned.id.clone(),
                    kind: planned.kind,
                    attempt: ended.attempt,
                    started: ended.started,
                    finished: now,
                },
                own: true,
            });
            return Ok(());
        }
        Ok(None) => ended.end(poll),
        Err(error) => AttemptEnd::Crashed {
            message: chain(&error),
        },
    };
    ledger.end_attempt(at, ended.attempt, end, now)
}
