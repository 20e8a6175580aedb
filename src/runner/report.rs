//! Events out of what happened.

use crate::plan::RunId;
use crate::queue::RunState;
use crate::rundir::MetricValue;
use crate::runner::events::{Failure, OutcomeSource, Reporter, RunnerEvent};
use crate::runner::graph::Graph;
use std::collections::BTreeMap;

/// Who is told, and what was told so far.
pub(crate) struct Reporting<'r> {
    /// Absent: it failed and was dropped.
    reporter: Option<&'r mut dyn Reporter>,
    /// Runs that were done before this runner began.
    pub(crate) reused: usize,
    /// Runs that this runner carried out.
    pub(crate) executed: usize,
    orphans_reported: bool,
}

impl<'r> Reporting<'r> {
    pub(crate) fn to(reporter: &'r mut dyn Reporter) -> Self {
        Self {
            reporter: Some(reporter),
            reused: 0,
            executed: 0,
            orphans_reported: false,
        }
    }

    pub(crate) fn report(&mut self, event: RunnerEvent) {
        if let Some(reporter) = &mut self.reporter
            && let Err(error) = reporter.report(&event)
        {
            tracing::warn!("a reporter failed and is dropped: {error}");
            self.reporter = None;
        }
    }

    /// Something about a run that a person should read.
    pub(crate) fn warn(&mut self, run: &RunId, message: String) {
        let run = Some(run.clone());
        self.report(RunnerEvent::Warning { run, message });
    }

    /// An attempt of a dead runner that has not ended yet; once is enough.
    pub(crate) fn warn_of_orphan(&mut self, run: &RunId, attempt: u32) {
        if !std::mem::replace(&mut self.orphans_reported, true) {
            let message =
                format!("attempt {attempt} of a runner that is gone still stops; waiting for it");
            self.warn(run, message);
        }
    }

    pub(crate) fn report_finished(
        &mut self,
        graph: &Graph<'_>,
        at: usize,
        origin: OutcomeSource,
        secs: f64,
        metrics: BTreeMap<String, MetricValue>,
    ) {
        self.executed += usize::from(origin == OutcomeSource::Executed);
        self.report(RunnerEvent::RunFinished {
            run: graph.id(at).clone(),
            stage: graph.planned(at).kind,
            label: graph.label(at),
            origin,
            secs,
            metrics,
        });
    }

    pub(crate) fn report_failed(&mut self, failure: Failure) {
        let Failure {
            run,
            stage,
            label,
            class,
            message,
            hint,
        } = failure;
        self.report(RunnerEvent::RunFailed {
            run,
            stage,
            label,
            class,
            message,
            hint,
        });
    }

    /// A run that is not tried any more through no fault of its own.
    pub(crate) fn report_blocked(&mut self, graph: &Graph<'_>, at: usize, state: RunState) {
        let (run, stage) = (graph.id(at).clone(), graph.planned(at).kind);
        match state {
            RunState::Skipped => self.report(RunnerEvent::RunSkipped { run, stage }),
            RunState::Cancelled => self.report(RunnerEvent::RunCancelled { run, stage }),
            _ => {}
        }
    }
}
