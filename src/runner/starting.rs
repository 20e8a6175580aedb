//! From ready runs and free slots to attempts.

use crate::backend::{BackendError, Launch};
use crate::base::Timestamp;
use crate::queue::{AttemptEnd, Candidate, RunState, Slot, schedule};
use crate::rundir::{
    FailureClass, Publication, RunDir, Verify, attempt_numbers, free_bytes, is_locked, read_result,
    verified_outcome, write_run_files,
};
use crate::runner::dispatcher::Dispatcher;
use crate::runner::error::RunnerError;
use crate::runner::events::RunnerEvent;
use crate::runner::live::Live;
use crate::runner::publisher::PublishJob;
use crate::runner::publishing::{chain, reject_result};
use crate::store::{Claim, Wish};
use std::collections::BTreeSet;

impl Dispatcher<'_, '_> {
    pub(super) fn start(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        let slots = &self.job.options.slots;
        let taken: BTreeSet<usize> = self.live.values().map(|live| live.slot).collect();
        let free: Vec<(usize, &Slot)> = slots
            .iter()
            .enumerate()
            .filter(|(at, _)| !taken.contains(at))
            .collect();
        if free.is_empty() || !self.states.contains(&RunState::Ready) || !self.has_room(now)? {
            return Ok(());
        }
        let held_too = self.hold_again.due(now);
        let ready: Vec<Candidate> = (0..self.ids.len())
            .filter(|at| self.states[*at] == RunState::Ready)
            .filter(|at| !self.publishing.contains_key(&self.ids[*at]))
            .filter(|at| held_too || !self.held.contains_key(at))
            .map(|at| Candidate {
                run: at,
                chain: self.nodes[at].chain,
                trial: self.nodes[at].first_trial,
                peak_memory_bytes: self.planned(at).estimate.peak_memory_bytes,
            })
            .collect();
        let mut pairs = Vec::new();
        for (at, slot) in schedule(&ready, &free) {
            if self.may_claim(at, now)? {
                pairs.push((at, slot));
            }
        }
        self.claim(&pairs, now)
    }

    /// Whether a run has to be executed: not if its folder already holds an outcome, a finished
    /// attempt or a process at work.
    pub(super) fn may_claim(&mut self, at: usize, now: Timestamp) -> Result<bool, RunnerError> {
        let planned = self.planned(at);
        let (run, kind) = (planned.id.clone(), planned.kind);
        let dir = RunDir::new(self.job.root, &run);
        if !dir.path().exists() {
            return Ok(true);
        }
        let Some(number) = attempt_numbers(&dir)?.last().copied() else {
            return Ok(true);
        };
        let attempt = dir.attempt(number);
        if is_locked(attempt.path())? {
            self.hold(at, format!("its attempt {number} is still at work"));
            return Ok(false);
        }
        if !matches!(verified_outcome(&dir, Verify::Sizes), Ok(Some(_))) {
            if dir.outcome().exists() {
                // Damaged: neither it nor the result that it was made of counts any more.
                drop(std::fs::remove_file(dir.outcome()));
                reject_result(&attempt);
            }
            if !matches!(read_result(&attempt), Ok(Some(_))) {
                return Ok(true);
            }
        }
        let what = Publication {
            run,
            kind,
            attempt: number,
            started: now,
            finished: now,
        };
        self.send_to_publisher(PublishJob {
            dir,
            what,
            own: false,
        });
        Ok(false)
    }

    pub(super) fn claim(
        &mut self,
        pairs: &[(usize, usize)],
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        if pairs.is_empty() {
            return Ok(());
        }
        let slots = &self.job.options.slots;
        let wishes: Vec<Wish> = pairs
            .iter()
            .map(|(at, slot)| Wish {
                run: self.ids[*at].clone(),
                device: slots[*slot].device,
            })
            .collect();
        let lease = self.job.options.lease_millis;
        let claims = self
            .rim
            .store
            .claim(&wishes, self.owner.name(), now, lease)?;
        for ((at, slot), claim) in pairs.iter().zip(claims) {
            tracing::debug!(run = %self.ids[*at], ?claim, "claim");
            match claim {
                Claim::Taken { attempt } => self.launch(*at, *slot, attempt, now)?,
                Claim::NotReady { state } => self.follow(*at, state)?,
                Claim::DeviceBusy { owner } => {
                    let device = slots[*slot].device;
                    self.hold(*at, format!("{device} is in use by runner `{owner}`"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn launch(
        &mut self,
        at: usize,
        slot: usize,
        attempt: u32,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let Slot {
            device, threads, ..
        } = self.job.options.slots[slot];
        let planned = self.planned(at);
        let (run, stage) = (planned.id.clone(), planned.kind);
        let launch = Launch {
            root: self.job.root.to_owned(),
            run: run.clone(),
            attempt,
            device,
            threads,
        };
        let dir = launch.run_dir();
        let written = write_run_files(&dir, &planned.identity, &planned.stage);
        self.states[at] = RunState::Leased {
            attempt,
            expires: now.plus_millis(self.job.options.lease_millis),
        };
        let launched = written
            .map_err(RunnerError::from)
            .and_then(|()| Ok(self.rim.backend.launch(&launch)?));
        let handle = match launched {
            Ok(handle) => handle,
            Err(error) => return self.not_launched(at, attempt, error, now),
        };
        self.active = now;
        self.held.remove(&at);
        self.rim.store.set_handle(&run, attempt, &handle.0)?;
        let live = Live::new(attempt, handle, slot, dir.attempt(attempt), now);
        self.live.insert(at, live);
        let label = self.nodes[at].label.clone();
        self.tell(RunnerEvent::RunStarted {
            run,
            stage,
            label,
            attempt,
            device,
        });
        Ok(())
    }

    /// An attempt that could not even begin: a full disk pauses, a folder that cannot be used
    /// fails the run, a program that cannot be started stops the runner.
    pub(super) fn not_launched(
        &mut self,
        at: usize,
        attempt: u32,
        error: RunnerError,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let full = match &error {
            RunnerError::Rundir(e) | RunnerError::Backend(BackendError::Rundir(e)) => {
                e.is_disk_full()
            }
            RunnerError::Path(e) | RunnerError::Backend(BackendError::Path(e)) => e.is_disk_full(),
            _ => false,
        };
        if full {
            self.pause(chain(&error), now);
            return self.ended(at, attempt, AttemptEnd::Interrupted, now);
        }
        if matches!(error, RunnerError::Backend(BackendError::Busy { .. })) {
            self.ended(at, attempt, AttemptEnd::Interrupted, now)?;
            self.hold(at, chain(&error)); // for a moment, by another runner that looks at it
            return Ok(());
        }
        if matches!(error, RunnerError::Rundir(_)) {
            let (class, message) = (FailureClass::Internal, chain(&error));
            return self.ended(at, attempt, AttemptEnd::Failed { class, message }, now);
        }
        self.ended(at, attempt, AttemptEnd::Interrupted, now)?;
        Err(error)
    }

    /// Whether there is free space; says so when that changes.
    pub(super) fn has_room(&mut self, now: Timestamp) -> Result<bool, RunnerError> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        let results = self.job.root.join("results");
        let (free, floor) = (free_bytes(&results)?, self.job.options.disk_floor_bytes);
        if free < floor {
            let (free, floor) = (free >> 20, floor >> 20);
            self.pause(
                format!(
                    "{free} MiB free below `{}`, less than {floor} MiB",
                    results.display()
                ),
                now,
            );
            return Ok(false);
        }
        if std::mem::take(&mut self.paused) {
            self.tell(RunnerEvent::Resumed);
        }
        Ok(true)
    }

    pub(super) fn pause(&mut self, reason: String, now: Timestamp) {
        self.paused_until = Some(now.plus_millis(5_000));
        if !std::mem::replace(&mut self.paused, true) {
            self.tell(RunnerEvent::Paused { reason });
        }
    }

    pub(super) fn hold(&mut self, at: usize, reason: String) {
        if self.held.insert(at, reason.clone()).as_ref() != Some(&reason) {
            let run = Some(self.ids[at].clone());
            let message = format!("waits: {reason}");
            self.tell(RunnerEvent::Warning { run, message });
        }
    }
}
