//! Events out of what happened, and the summary.

use crate::plan::PlannedRun;
use crate::queue::{RunState, hint};
use crate::rundir::MetricValue;
use crate::runner::dispatcher::Dispatcher;
use crate::runner::error::RunnerError;
use crate::runner::events::{Failure, Origin, RunnerEvent, SweepEnd, SweepSummary};
use crate::store::Change;
use std::collections::BTreeMap;

impl Dispatcher<'_, '_> {
    pub(super) fn planned(&self, at: usize) -> &PlannedRun {
        &self.job.plan.runs[at]
    }

    /// Takes over states that followed from a change, and tells of runs that are barred now.
    pub(super) fn absorb(&mut self, changes: Vec<Change>) {
        for (run, state) in changes {
            let Some(at) = self.places.get(&run).copied() else {
                continue;
            };
            let before = std::mem::replace(&mut self.states[at], state);
            if before != state {
                self.tell_barred(at, state);
            }
        }
    }

    pub(super) fn tell_barred(&mut self, at: usize, state: RunState) {
        let (run, stage) = (self.ids[at].clone(), self.planned(at).kind);
        match state {
            RunState::Skipped => self.tell(RunnerEvent::RunSkipped { run, stage }),
            RunState::Cancelled => self.tell(RunnerEvent::RunCancelled { run, stage }),
            _ => {}
        }
    }

    pub(super) fn tell_finished(
        &mut self,
        at: usize,
        origin: Origin,
        secs: f64,
        metrics: BTreeMap<String, MetricValue>,
    ) {
        let (run, stage) = (self.ids[at].clone(), self.planned(at).kind);
        let label = self.nodes[at].label.clone();
        self.tell(RunnerEvent::RunFinished {
            run,
            stage,
            label,
            origin,
            secs,
            metrics,
        });
    }

    pub(super) fn failure(&self, at: usize) -> Result<Failure, RunnerError> {
        let row = self.rim.store.read().run(&self.ids[at])?;
        let hint = row.class.map_or(
            "`lions log` has the details, `lions retry` tries again",
            hint,
        );
        Ok(Failure {
            run: row.id,
            stage: row.kind,
            label: self.nodes[at].label.clone(),
            class: row.class,
            message: row.message.unwrap_or_else(|| "no message".to_owned()),
            hint: hint.to_owned(),
        })
    }

    pub(super) fn tell_failed(&mut self, failure: Failure) {
        let Failure {
            run,
            stage,
            label,
            class,
            message,
            hint,
        } = failure;
        self.tell(RunnerEvent::RunFailed {
            run,
            stage,
            label,
            class,
            message,
            hint,
        });
    }

    pub(super) fn tell(&mut self, event: RunnerEvent) {
        if let Some(reporter) = &mut self.reporter
            && let Err(error) = reporter.report(&event)
        {
            tracing::warn!("a reporter failed and is dropped: {error}");
            self.reporter = None;
        }
    }

    pub(super) fn finish(mut self) -> Result<SweepSummary, RunnerError> {
        let count = |wanted: fn(RunState) -> bool| {
            self.states.iter().filter(|state| wanted(**state)).count()
        };
        let failed: Vec<usize> = (0..self.ids.len())
            .filter(|at| self.states[*at] == RunState::Failed)
            .collect();
        let failures = failed.into_iter().map(|at| self.failure(at));
        let failures = failures.collect::<Result<Vec<_>, _>>()?;
        let succeeded = count(|state| state == RunState::Succeeded);
        let end = match (succeeded == self.ids.len(), self.stopping.is_some()) {
            (true, _) => SweepEnd::Succeeded,
            (false, true) => SweepEnd::Interrupted,
            (false, false) => SweepEnd::Incomplete,
        };
        let summary = SweepSummary {
            sweep: self.job.sweep.name.clone(),
            end,
            runs: self.ids.len(),
            succeeded,
            reused: self.reused,
            executed: self.executed,
            failed: failures.len(),
            skipped: count(|state| state == RunState::Skipped),
            cancelled: count(|state| state == RunState::Cancelled),
            waiting: count(|state| !state.is_final()),
            secs: self.rim.clock.now().secs_since(self.began),
            failures,
        };
        self.tell(RunnerEvent::SweepFinished {
            summary: summary.clone(),
        });
        Ok(summary)
    }
}
