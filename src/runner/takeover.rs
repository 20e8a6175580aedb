//! What other processes do to the sweep: requests, other runners, dead runners.

use crate::backend::Handle;
use crate::base::Timestamp;
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::{Publication, RunDir, read_result};
use crate::runner::attempt::StopReason;
use crate::runner::attempts::Attempts;
use crate::runner::error::RunnerError;
use crate::runner::events::RunnerEvent;
use crate::runner::job::SweepJob;
use crate::runner::ledger::Ledger;
use crate::runner::owner::Owner;
use crate::runner::publisher::PublishJob;
use crate::store::LiveAttempt;

/// Heeds requests of other processes, and follows states that other runners changed.
pub(super) fn sync_store(
    sweep: &str,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    now: Timestamp,
) -> Result<(), RunnerError> {
    if !ledger.store.changed_elsewhere()? {
        return Ok(());
    }
    for run in ledger.store.read().cancel_requests()? {
        if let Some(at) = ledger.graph.index_of(&run) {
            attempts.stop(at, StopReason::Cancel, now)?;
        }
    }
    ledger.orders = ledger.store.read().orders(sweep)?;
    let running = attempts.running.keys().copied();
    let held = running.filter(|at| ledger.orders.hold(ledger.graph.id(*at)));
    for at in held.collect::<Vec<_>>() {
        attempts.stop(at, StopReason::Pause, now)?;
    }
    let states = ledger.store.read().states(ledger.graph.ids())?;
    for (at, state) in states.into_iter().enumerate() {
        if let Some(running) = attempts.running.get(&at) {
            let number = running.attempt;
            let mine = matches!(state, RunState::Leased { attempt, .. } if attempt == number);
            if !mine {
                attempts.stop(at, StopReason::LeaseLost, now)?;
            }
        } else if !attempts.is_publishing(ledger.graph.id(at)) {
            ledger.follow(at, state)?;
        }
    }
    Ok(())
}

/// A sweep of a higher priority that a runner is at.
pub(super) fn rival(
    sweep: &str,
    owner: &Owner,
    ledger: &Ledger<'_>,
) -> Result<Option<String>, RunnerError> {
    for rival in ledger.store.read().rivals(sweep, owner.name())? {
        if owner.is_alive(&rival.runner)? {
            return Ok(Some(rival.sweep));
        }
    }
    Ok(None)
}

/// Attempts whose runner died, or whose lease ran out: finished ones are published, the others are
/// ready again as soon as their process is gone.
pub(super) fn reclaim_orphans(
    job: &SweepJob<'_>,
    owner: &Owner,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    now: Timestamp,
) -> Result<(), RunnerError> {
    for found in ledger.store.read().live_attempts()? {
        if found.owner == owner.name() || attempts.is_publishing(&found.run) {
            continue;
        }
        let orphan = !owner.is_alive(&found.owner)?;
        let expired = now > found.expires;
        if !orphan && !expired {
            continue;
        }
        let dir = RunDir::new(job.root, &found.run);
        let attempt = dir.attempt(found.attempt);
        if orphan && adopt(job, owner, ledger, attempts, &found, now)? {
            continue;
        }
        if attempts.is_at_work(&attempt)? && !is_given_up(ledger, &found)? {
            // It was told to stop when its runner died, and is given as long as a lease for it.
            if orphan
                && expired
                && let Some(handle) = found.handle.map(Handle)
            {
                attempts.kill_orphan(&handle)?;
            }
            if orphan {
                ledger.reporting.warn_of_orphan(&found.run, found.attempt);
            }
            continue;
        }
        if matches!(read_result(&attempt), Ok(Some(_))) {
            attempts.publish(PublishJob {
                dir,
                what: Publication {
                    run: found.run,
                    kind: found.kind,
                    attempt: found.attempt,
                    started: found.started,
                    finished: now,
                },
                own: false,
            });
            continue;
        }
        let ended = ledger
            .store
            .end_attempt(&found.run, found.attempt, AttemptEnd::Lost, now)?;
        ledger.apply_changes(ended.unwrap_or_default());
    }
    Ok(())
}

/// Goes on with an attempt that outlived its runner, if it is one of this sweep and of this runner's backend.
fn adopt(
    job: &SweepJob<'_>,
    owner: &Owner,
    ledger: &mut Ledger<'_>,
    attempts: &mut Attempts<'_>,
    found: &LiveAttempt,
    now: Timestamp,
) -> Result<bool, RunnerError> {
    let Some(at) = ledger.graph.index_of(&found.run) else {
        return Ok(false);
    };
    let handle = found.handle.clone().map(Handle);
    let Some(handle) = handle.filter(|handle| attempts.knows(handle)) else {
        return Ok(false);
    };
    let expires = now.plus_millis(job.options.lease_millis);
    let names = (found.owner.as_str(), owner.name());
    let number = found.attempt;
    if !ledger.store.adopt(&found.run, number, names, expires)? {
        // Another runner was faster.
        return Ok(true);
    }
    let state = RunState::Leased {
        attempt: number,
        expires,
    };
    ledger.graph.set_state(at, state);
    let dir = RunDir::new(job.root, &found.run).attempt(number);
    attempts.adopt(at, (number, handle), dir, job.options.slots.len(), now);
    ledger.reporting.report(RunnerEvent::RunAdopted {
        run: found.run.clone(),
        stage: found.kind,
        label: ledger.graph.label(at),
        attempt: number,
    });
    Ok(true)
}

/// Whether a person has cancelled an attempt that this runner's backend cannot stop: it is given up, and whatever becomes of its
/// process comes too late.
fn is_given_up(ledger: &Ledger<'_>, found: &LiveAttempt) -> Result<bool, RunnerError> {
    let handle = found.handle.clone().map(Handle);
    let asked = ledger.store.read().cancel_requests()?.contains(&found.run);
    Ok(asked && handle.is_some_and(|handle| !handle.is_local()))
}
