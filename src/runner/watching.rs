//! Attempts at work: reading what they tell, noticing how they end.

use crate::backend::{Handle, Poll};
use crate::base::Timestamp;
use crate::queue::{AttemptEnd, CRASH_LIMIT, RunState};
use crate::rundir::{Publication, RunDir, read_result};
use crate::runner::dispatcher::Dispatcher;
use crate::runner::error::RunnerError;
use crate::runner::events::RunnerEvent;
use crate::runner::live::StopReason;
use crate::runner::publisher::PublishJob;
use crate::runner::publishing::chain;

impl Dispatcher<'_, '_> {
    pub(super) fn watch(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let places: Vec<usize> = self.live.keys().copied().collect();
        let handles: Vec<Handle> = self.live.values().map(|live| live.handle.clone()).collect();
        let polls = if handles.is_empty() {
            vec![]
        } else {
            self.rim.backend.poll(&handles)?
        };
        let (tail, beat) = (self.tail.due(now), self.beat.due(now));
        for (at, poll) in places.into_iter().zip(polls) {
            if poll == Poll::Running {
                if tail {
                    self.read(at, now)?;
                }
                if beat {
                    self.feel(at, now)?;
                }
            } else {
                self.read(at, now)?;
                self.conclude(at, &poll, now)?;
            }
        }
        if beat { self.flush(now) } else { Ok(()) }
    }

    pub(super) fn read(&mut self, at: usize, now: Timestamp) -> Result<(), RunnerError> {
        let Some(live) = self.live.get_mut(&at) else {
            return Ok(());
        };
        let run = self.ids[at].clone();
        let news = live.read(&run, now)?;
        self.pending.extend(news.steps);
        let progress = RunnerEvent::RunProgress {
            run: run.clone(),
            unit: live.unit.clone(),
            done: live.done,
            total: live.total,
            loss: live.loss,
        };
        for message in news.warnings {
            self.tell(RunnerEvent::Warning {
                run: Some(run.clone()),
                message,
            });
        }
        if news.progress {
            self.tell(progress);
        }
        Ok(())
    }

    pub(super) fn feel(&mut self, at: usize, now: Timestamp) -> Result<(), RunnerError> {
        let Some(live) = self.live.get_mut(&at) else {
            return Ok(());
        };
        live.feel(now);
        let silent = now > live.moved.plus_millis(self.job.options.lease_millis);
        if silent {
            self.stop(at, StopReason::Silent, now)
        } else {
            Ok(())
        }
    }

    /// Steps to the store, and leases extended for attempts that moved.
    pub(super) fn flush(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let mut alive = Vec::new();
        for (at, live) in &mut self.live {
            if std::mem::take(&mut live.fresh) {
                alive.push((self.ids[*at].clone(), live.attempt));
            }
        }
        let publishing = self.publishing.iter();
        alive.extend(publishing.map(|(run, (attempt, _))| (run.clone(), *attempt)));
        let expires = now.plus_millis(self.job.options.lease_millis);
        let steps = std::mem::take(&mut self.pending);
        Ok(self.rim.store.record(&steps, &alive, expires)?)
    }

    /// An attempt is over: publish what it made, or say how it ended.
    pub(super) fn conclude(
        &mut self,
        at: usize,
        poll: &Poll,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let Some(live) = self.live.remove(&at) else {
            return Ok(());
        };
        self.active = now;
        let run = self.ids[at].clone();
        let lost = matches!(live.stop, Some((StopReason::LeaseLost, _)));
        let end = match read_result(&live.dir) {
            _ if lost => AttemptEnd::Lost,
            Ok(Some(_)) => {
                let what = Publication {
                    run,
                    kind: self.planned(at).kind,
                    attempt: live.attempt,
                    started: live.started,
                    finished: now,
                };
                let dir = RunDir::new(self.job.root, &what.run);
                self.send_to_publisher(PublishJob {
                    dir,
                    what,
                    own: true,
                });
                return Ok(());
            }
            Ok(None) => live.end(poll),
            Err(error) => AttemptEnd::Crashed {
                message: chain(&error),
            },
        };
        self.ended(at, live.attempt, end, now)
    }

    /// Commits how an attempt ended without an outcome, and tells it.
    pub(super) fn ended(
        &mut self,
        at: usize,
        attempt: u32,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let run = self.ids[at].clone();
        let changes = match self
            .rim
            .store
            .end_attempt(&run, attempt, end.clone(), now)?
        {
            Ok(changes) => changes,
            Err(stale) => {
                let message = format!("attempt {attempt} came too late: {stale}");
                self.tell(RunnerEvent::Warning {
                    run: Some(run),
                    message,
                });
                return self.follow(at, stale.state);
            }
        };
        let stage = self.planned(at).kind;
        let failed = changes
            .iter()
            .any(|(id, state)| *id == run && *state == RunState::Failed);
        if let Some((_, state)) = changes.iter().find(|(id, _)| *id == run) {
            self.states[at] = *state;
        }
        match end {
            _ if failed => {
                let failure = self.failure(at)?;
                self.tell_failed(failure);
            }
            AttemptEnd::Crashed { message } => {
                let crashes = self.rim.store.read().run(&run)?.crashes;
                let limit = CRASH_LIMIT;
                self.tell(RunnerEvent::RunCrashed {
                    run,
                    attempt,
                    crashes,
                    limit,
                    message,
                });
            }
            AttemptEnd::Cancelled => self.tell(RunnerEvent::RunCancelled { run, stage }),
            AttemptEnd::Interrupted | AttemptEnd::Lost => {
                self.tell(RunnerEvent::RunInterrupted { run, stage });
            }
            AttemptEnd::Failed { .. } => {}
        }
        self.absorb(changes);
        Ok(())
    }
}
