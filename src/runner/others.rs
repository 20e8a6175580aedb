//! What other processes do to the sweep: requests, other runners, dead runners.

use crate::backend::{Handle, StopSignal};
use crate::base::Timestamp;
use crate::plan::RunId;
use crate::queue::{AttemptEnd, RunState};
use crate::rundir::{Publication, RunDir, is_locked, read_result};
use crate::runner::dispatcher::Dispatcher;
use crate::runner::error::RunnerError;
use crate::runner::events::{Origin, RunnerEvent};
use crate::runner::live::StopReason;
use crate::runner::publisher::PublishJob;

impl Dispatcher<'_, '_> {
    /// Requests of other processes, and states that other runners changed.
    pub(super) fn hear_others(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        if !self.rim.store.changed_elsewhere()? {
            return Ok(());
        }
        for run in self.rim.store.read().cancel_requests()? {
            if let Some(at) = self.places.get(&run).copied() {
                self.stop(at, StopReason::Cancel, now)?;
            }
        }
        let states = self.rim.store.read().states(&self.ids)?;
        for (at, state) in states.into_iter().enumerate() {
            if let Some(live) = self.live.get(&at) {
                let mine =
                    matches!(state, RunState::Leased { attempt, .. } if attempt == live.attempt);
                if !mine {
                    self.stop(at, StopReason::LeaseLost, now)?;
                }
            } else if !self.publishing.contains_key(&self.ids[at]) {
                self.follow(at, state)?;
            }
        }
        Ok(())
    }

    /// Takes over a state that another process has given a run.
    pub(super) fn follow(&mut self, at: usize, state: RunState) -> Result<(), RunnerError> {
        let before = std::mem::replace(&mut self.states[at], state);
        if std::mem::discriminant(&before) == std::mem::discriminant(&state) {
            return Ok(());
        }
        match state {
            RunState::Succeeded => {
                let run = &self.ids[at];
                let attempts = self.rim.store.read().attempts(run)?;
                let secs = attempts
                    .last()
                    .and_then(|a| Some(a.ended?.secs_since(a.started)));
                let metrics = self.rim.store.read().metrics(run)?;
                self.tell_finished(at, Origin::Elsewhere, secs.unwrap_or_default(), metrics);
            }
            RunState::Failed => {
                let failure = self.failure(at)?;
                self.tell_failed(failure);
            }
            _ => self.tell_barred(at, state),
        }
        Ok(())
    }

    /// Attempts whose runner died, or whose lease ran out: finished ones are published, the others
    /// are ready again as soon as their process is gone.
    pub(super) fn take_back(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        for found in self.rim.store.read().live_attempts()? {
            if found.owner == self.owner.name() || self.publishing.contains_key(&found.run) {
                continue;
            }
            let orphan = !self.owner.is_alive(&found.owner)?;
            let expired = now > found.expires;
            if !orphan && !expired {
                continue;
            }
            let dir = RunDir::new(self.job.root, &found.run);
            let attempt = dir.attempt(found.attempt);
            if is_locked(attempt.path())? {
                if orphan
                    && expired
                    && let Some(handle) = found.handle.map(Handle)
                {
                    self.rim.backend.stop(&handle, StopSignal::Kill)?;
                }
                self.warn_of_orphan(&found.run, found.attempt);
                continue;
            }
            if matches!(read_result(&attempt), Ok(Some(_))) {
                let what = Publication {
                    run: found.run.clone(),
                    kind: found.kind,
                    attempt: found.attempt,
                    started: found.started,
                    finished: now,
                };
                self.send_to_publisher(PublishJob {
                    dir,
                    what,
                    own: false,
                });
                continue;
            }
            let ended =
                self.rim
                    .store
                    .end_attempt(&found.run, found.attempt, AttemptEnd::Lost, now)?;
            self.absorb(ended.unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn warn_of_orphan(&mut self, run: &RunId, attempt: u32) {
        if !std::mem::replace(&mut self.waiting_for_others, true) {
            let message =
                format!("attempt {attempt} of a runner that is gone still stops; waiting for it");
            self.tell(RunnerEvent::Warning {
                run: Some(run.clone()),
                message,
            });
        }
    }
}
