//! The states of runs: kept in the store, mirrored in the graph, told as they change.

use crate::base::Timestamp;
use crate::plan::RunId;
use crate::queue::{AttemptEnd, CRASH_LIMIT, LOST_LIMIT, RunState, hint, rest_after_crash};
use crate::rundir::FailureClass;
use crate::runner::error::RunnerError;
use crate::runner::events::{Failure, OutcomeSource, RunnerEvent};
use crate::runner::graph::Graph;
use crate::runner::health::Health;
use crate::runner::limits::Limits;
use crate::runner::report::Reporting;
use crate::store::{Change, Orders, Store, StoreError};
use std::collections::BTreeMap;

/// What is known of every run, and who hears of it.
pub(crate) struct Ledger<'r> {
    pub(crate) store: &'r mut Store,
    pub(crate) graph: Graph<'r>,
    pub(crate) reporting: Reporting<'r>,
    /// Until when a run that crashed or found no room is not tried again, by index.
    pub(crate) resting: BTreeMap<usize, Timestamp>,
    /// How often in a row a scheduler has lost a run, by index.
    pub(crate) lost: BTreeMap<usize, u32>,
    /// How often a run has found no room, by index.
    pub(crate) without_room: BTreeMap<usize, u32>,
    /// What people say of the sweep and its runs.
    pub(crate) orders: Orders,
    /// Which cards were lost.
    pub(crate) health: Health,
    /// The time that it may take.
    pub(crate) limits: Limits,
    /// Ends of attempts that the store could not take yet.
    pub(crate) untold: Vec<(usize, u32, AttemptEnd)>,
}

impl Ledger<'_> {
    /// Takes over states that followed from a change, and tells of runs that are blocked now.
    pub(crate) fn apply_changes(&mut self, changes: Vec<Change>) {
        for (run, state) in changes {
            let Some(at) = self.graph.index_of(&run) else {
                continue;
            };
            if self.graph.set_state(at, state) != state {
                self.reporting.report_blocked(&self.graph, at, state);
            }
        }
    }

    /// Takes over a state that another process has given a run.
    pub(crate) fn follow(&mut self, at: usize, state: RunState) -> Result<(), RunnerError> {
        let before = self.graph.set_state(at, state);
        if std::mem::discriminant(&before) == std::mem::discriminant(&state) {
            return Ok(());
        }
        match state {
            RunState::Succeeded => {
                let run = self.graph.id(at);
                let attempts = self.store.read().attempts(run)?;
                let secs = attempts
                    .last()
                    .and_then(|a| Some(a.ended?.secs_since(a.started)))
                    .unwrap_or_default();
                let metrics = self.store.read().metrics(run)?;
                let origin = OutcomeSource::Elsewhere;
                self.reporting
                    .report_finished(&self.graph, at, origin, secs, metrics);
            }
            RunState::Failed => {
                let failure = self.failure(at)?;
                self.reporting.report_failed(failure);
            }
            _ => self.reporting.report_blocked(&self.graph, at, state),
        }
        Ok(())
    }

    /// Commits how an attempt ended without an outcome, and tells it.
    pub(crate) fn end_attempt(
        &mut self,
        at: usize,
        attempt: u32,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<(), RunnerError> {
        let run = self.graph.id(at).clone();
        let told = self.store.end_attempt(&run, attempt, end.clone(), now);
        if told.as_ref().is_err_and(StoreError::may_pass) {
            self.untold.push((at, attempt, end.clone()));
        }
        let changes = match told? {
            Ok(changes) => changes,
            Err(stale) => {
                let message = format!("attempt {attempt} came too late: {stale}");
                self.reporting.warn(&run, message);
                return self.follow(at, stale.state);
            }
        };
        let own = changes.iter().find(|(id, _)| *id == run);
        let failed = own.is_some_and(|(_, state)| *state == RunState::Failed);
        if let Some((_, state)) = own {
            self.graph.set_state(at, *state);
        }
        let stage = self.graph.planned(at).kind;
        let cancelled = own.is_some_and(|(_, state)| *state == RunState::Cancelled);
        match end {
            _ if cancelled => {
                self.reporting
                    .report(RunnerEvent::RunCancelled { run, stage });
            }
            _ if failed => {
                let failure = self.failure(at)?;
                self.reporting.report_failed(failure);
            }
            AttemptEnd::Crashed { class, message, .. } => {
                let crashes = self.store.read().run(&run)?.crashes;
                self.rest(at, crashes, class, now);
                self.reporting.report(RunnerEvent::RunCrashed {
                    run,
                    attempt,
                    crashes,
                    limit: CRASH_LIMIT,
                    message,
                });
            }
            AttemptEnd::Interrupted | AttemptEnd::Lost => {
                self.reporting
                    .report(RunnerEvent::RunInterrupted { run, stage });
            }
            AttemptEnd::Failed { .. } => {
                let message = "memory ran out; it is tried again with half the micro-batch";
                self.reporting.warn(&run, message.to_owned());
            }
            AttemptEnd::Cancelled => {}
        }
        self.apply_changes(changes);
        Ok(())
    }

    /// Lets a run rest that found no room on the disk. Where the disk says that there is some, as with a
    /// quota, it would find none again and again; and others have to make it, as where memory ran out.
    /// For how long, ms.
    pub(crate) fn rest_for_room(&mut self, at: usize, now: Timestamp) -> i64 {
        let times = self.without_room.entry(at).or_default();
        // At most for 80 s: a person who has made room watches.
        *times = (*times + 1).min(5);
        let times = *times;
        self.rest(at, times, Some(FailureClass::OutOfMemory), now)
    }

    /// How an attempt ended that a scheduler lost: its run rests and is tried again. One that is lost again and again without
    /// getting on may be to blame.
    pub(crate) fn lose(
        &mut self,
        at: usize,
        progressed: bool,
        message: &str,
        now: Timestamp,
    ) -> AttemptEnd {
        let before = self.lost.get(&at).filter(|_| !progressed);
        let times = before.map_or(1, |before| before + 1);
        self.lost.insert(at, times);
        if times > LOST_LIMIT {
            return AttemptEnd::Crashed {
                class: None,
                message: format!("{message}; that was so {times} times in a row"),
                progressed,
            };
        }
        self.rest(at, times, None, now);
        AttemptEnd::Interrupted
    }

    /// A run is not tried again at once after this has happened to it so many `times`; for how long, ms.
    fn rest(&mut self, at: usize, times: u32, class: Option<FailureClass>, now: Timestamp) -> i64 {
        let rest = rest_after_crash(times, class);
        self.resting.insert(at, now.plus_millis(rest));
        rest
    }

    /// Whether the end of an attempt is kept for [`Ledger::tell_again`].
    pub(crate) fn is_untold(&self, run: &RunId, attempt: u32) -> bool {
        let at = self.graph.index_of(run);
        let mut untold = self.untold.iter();
        untold.any(|(of, number, _)| (Some(*of), *number) == (at, attempt))
    }

    /// Tells the store what it could not take before.
    pub(crate) fn tell_again(&mut self, now: Timestamp) -> Result<(), RunnerError> {
        while let Some((at, attempt, end)) = self.untold.pop() {
            self.end_attempt(at, attempt, end, now)?;
        }
        Ok(())
    }

    /// What the store says of a failed run.
    pub(crate) fn failure(&self, at: usize) -> Result<Failure, RunnerError> {
        let row = self.store.read().run(self.graph.id(at))?;
        let hint = row.class.map_or(
            "`lions log` has the details, `lions retry` tries again",
            hint,
        );
        Ok(Failure {
            run: row.id,
            stage: row.kind,
            label: self.graph.label(at),
            class: row.class,
            message: row.message.unwrap_or_else(|| "no message".to_owned()),
            hint: hint.to_owned(),
        })
    }
}
