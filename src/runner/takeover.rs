//! What other processes do to the sweep: requests, other runners, dead runners.

use crate::backend::Handle;
use crate::base::Timestamp;
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::{Publication, RunDir, is_locked, read_result};
use crate::runner::attempt::StopReason;
use crate::runner::attempts::Attempts;
use crate::runner::error::RunnerError;
use crate::runner::ledger::Ledger;
use crate::runner::owner::Owner;
use crate::runner::publisher::PublishJob;
use std::path::Path;

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
    root: &Path,
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
        let dir = RunDir::new(root, &found.run);
        let attempt = dir.attempt(found.attempt);
        if is_locked(attempt.path())? {
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
