//! What keeps ready runs from being started for now.

use crate::base::{Timestamp, chain};
use crate::rundir::{Pause, free_bytes};
use crate::runner::error::RunnerError;
use crate::runner::events::RunnerEvent;
use crate::runner::graph::Graph;
use crate::runner::job::SweepJob;
use crate::runner::ledger::Ledger;
use crate::runner::owner::Owner;
use crate::runner::report::Reporting;
use crate::runner::timers::Every;
use std::collections::BTreeMap;

/// After a full disk so long is waited before it is looked at again, ms: room is made by people.
const PAUSE_MILLIS: i64 = 5_000;
/// How often runs that are held are tried again, ms.
const HOLD_MILLIS: i64 = 1_000;

/// Runs that are held back one by one, and the pause of all of them while the disk is full.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Why, by index of the run, so that it is told once.
    held: BTreeMap<usize, String>,
    try_again: Every,
    /// Set while a pause is told and no room was found since.
    paused_until: Option<Timestamp>,
    /// The pause that is told, and whether [`Admission::tell`] has still to tell it.
    pause: Option<Pause>,
    changed: bool,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            try_again: Every::millis(HOLD_MILLIS),
            paused_until: None,
            pause: None,
            changed: false,
        }
    }

    /// Of `ready` runs those that may be tried in this turn: not those that crashed just now.
    pub(crate) fn admitted(
        &mut self,
        mut ready: Vec<usize>,
        resting: &BTreeMap<usize, Timestamp>,
        now: Timestamp,
    ) -> Vec<usize> {
        ready.retain(|at| resting.get(at).is_none_or(|until| now >= *until));
        if !self.try_again.due(now) {
            ready.retain(|at| !self.held.contains_key(at));
        }
        ready
    }

    pub(crate) fn hold(
        &mut self,
        reporting: &mut Reporting<'_>,
        graph: &Graph<'_>,
        at: usize,
        reason: String,
    ) {
        if self.held.get(&at) != Some(&reason) {
            reporting.warn(graph.id(at), format!("waits: {reason}"));
            self.held.insert(at, reason);
        }
    }

    /// The run has begun.
    pub(crate) fn release(&mut self, at: usize) {
        self.held.remove(&at);
    }

    pub(crate) fn pause(&mut self, reporting: &mut Reporting<'_>, reason: String, now: Timestamp) {
        let until = now.plus_millis(PAUSE_MILLIS);
        if self.paused_until.replace(until).is_none() {
            (self.pause, self.changed) = (
                Some(Pause {
                    reason: reason.clone(),
                    since: now,
                }),
                true,
            );
            reporting.report(RunnerEvent::Paused { reason });
        }
    }

    /// Tells of a pause that people want, or of its end. While there is no room that is told instead.
    pub(crate) fn obey(
        &mut self,
        reporting: &mut Reporting<'_>,
        reason: Option<String>,
        now: Timestamp,
    ) {
        if self.paused_until.is_some() || self.pause.as_ref().map(|p| &p.reason) == reason.as_ref()
        {
            return;
        }
        self.changed = true;
        self.pause = reason.clone().map(|reason| Pause { reason, since: now });
        reporting.report(match reason {
            Some(reason) => RunnerEvent::Paused { reason },
            None => RunnerEvent::Resumed,
        });
    }

    /// Whether a pause is told and not over.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Tells other processes of a pause, or of its end, if that has changed.
    pub(crate) fn tell(&mut self, owner: &Owner) {
        if std::mem::take(&mut self.changed) {
            owner.note(self.pause.as_ref());
        }
    }

    /// Whether there is free space; says so when that changes.
    pub(crate) fn has_room(
        &mut self,
        ledger: &mut Ledger<'_>,
        job: &SweepJob<'_>,
        now: Timestamp,
    ) -> Result<bool, RunnerError> {
        let reporting = &mut ledger.reporting;
        if self.paused_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        let results = job.root.join("results");
        let (free, floor) = (free_bytes(&results)?, job.options.disk_floor_bytes);
        if free < floor {
            let (free, floor) = (free >> 20, floor >> 20);
            let results = results.display();
            let reason = format!("{free} MiB free below `{results}`, less than {floor} MiB");
            self.pause(reporting, reason, now);
            return Ok(false);
        }
        if self.paused_until.is_none() {
            return Ok(true);
        }
        match ledger.store.try_write() {
            Err(error) if error.may_pass() => {
                self.pause(reporting, chain(&error), now);
                return Ok(false);
            }
            tried => tried?,
        }
        self.resume(reporting);
        Ok(true)
    }

    /// Ends a pause that is told.
    pub(crate) fn resume(&mut self, reporting: &mut Reporting<'_>) {
        if self.paused_until.take().is_some() {
            (self.pause, self.changed) = (None, true);
            reporting.report(RunnerEvent::Resumed);
        }
    }
}
