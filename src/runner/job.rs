//! What a runner is given.

use crate::backend::Backend;
use crate::base::{Clock, PathError, Shutdown, Timestamp, chain};
use crate::config::sweep::Sweep;
use crate::plan::{Plan, RunId};
use crate::queue::{LEASE_MILLIS, Slot};
use crate::rundir::{
    RunDir, RundirError, attempt_numbers, mend_descriptions, needed_again, sealed_outcome,
};
use crate::runner::error::RunnerError;
use crate::store::{FoundRun, Retry, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An attempt that was asked to stop is killed after so long: it saves its state after the step at
/// hand, which takes seconds, and a person who pressed Ctrl-C waits.
const GRACE_MILLIS: i64 = 30_000;
/// An attempt that tells of no step, row, sample or answer for so long is ended as hung. It is far
/// beyond what a large model takes to be read, or a huge step on a few cores.
pub(crate) const HANG_MILLIS: i64 = 2 * 60 * 60 * 1000;
/// Below so much free space nothing is started: room for the state of an attempt or two, and for the
/// database, so that what is at work can end well.
const DISK_FLOOR_BYTES: u64 = 512 << 20;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Room for attempts; not empty.
    pub slots: Vec<Slot>,
    /// Whether runs that failed or were cancelled earlier are tried again.
    pub retry: Retry,
    /// An attempt without a sign of life is taken for dead after so long.
    pub lease_millis: i64,
    /// An attempt that was asked to stop is killed after so long.
    pub grace_millis: i64,
    /// An attempt whose work does not get on for so long is ended; 0: never.
    pub hang_millis: i64,
    /// At this time all is to have ended: what cannot end by then or save its state is not started.
    pub until: Option<Timestamp>,
    /// Time that attempts may be at work, all together, ms; what is at work then is stopped.
    pub budget_millis: Option<i64>,
    /// Below so much free space nothing is started.
    pub disk_floor_bytes: u64,
    /// Only these runs are carried out; absent: all of the plan.
    pub only: Option<BTreeSet<RunId>>,
}

impl RunOptions {
    /// The usual times and limits with these slots.
    pub fn new(slots: Vec<Slot>) -> Self {
        Self {
            slots,
            retry: Retry::Never,
            lease_millis: LEASE_MILLIS,
            grace_millis: GRACE_MILLIS,
            hang_millis: HANG_MILLIS,
            until: None,
            budget_millis: None,
            disk_floor_bytes: DISK_FLOOR_BYTES,
            only: None,
        }
    }

    /// Whether a run is to be carried out.
    pub(crate) fn wants(&self, run: &RunId) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(run))
    }
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct SweepJob<'a> {
    /// The project root.
    pub root: &'a Path,
    /// The sweep.
    pub sweep: &'a Sweep,
    /// Its plan.
    pub plan: &'a Plan,
    /// How.
    pub options: &'a RunOptions,
}

/// The world outside that a runner works with.
pub struct Services<'a> {
    /// The store.
    pub store: &'a mut Store,
    /// Where attempts run.
    pub backend: &'a mut dyn Backend,
    /// The request to stop.
    pub shutdown: &'a Shutdown,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// What the folders of the plan's runs hold. What is damaged, or was deleted and is needed, counts as not
/// there. What cannot be read is neither.
#[derive(Debug, Default)]
pub(crate) struct FoundFolders {
    pub(crate) runs: BTreeMap<RunId, FoundRun>,
    /// Why an outcome does not count, and what follows from it, by run.
    pub(crate) rejected: BTreeMap<RunId, String>,
}

/// Looks at the folders of the plan's runs. Files that were touched since they were last digested are
/// digested.
pub(crate) fn look_at_folders(job: &SweepJob<'_>) -> Result<FoundFolders, RunnerError> {
    let SweepJob { root, plan, .. } = *job;
    let mut found = FoundFolders::default();
    for run in &plan.runs {
        let dir = RunDir::new(root, &run.id);
        if !is_there(dir.path())? {
            continue;
        }
        let outcome = match sealed_outcome(&dir) {
            Err(error @ RundirError::Damaged { .. }) => {
                let again = remedy(costs_result(&dir, &error));
                let why = format!("{error}; {again}");
                found.rejected.insert(run.id.clone(), why);
                None
            }
            read => read?,
        };
        let outcome = outcome.filter(|outcome| outcome.run == run.id);
        if let Some(outcome) = &outcome
            && let Err(error) = mend_descriptions(&dir, &run.identity, &run.stage, outcome)
        {
            // The result is whole; what only tells of it can wait.
            tracing::warn!("{}", chain(&error));
        }
        let attempts = attempt_numbers(&dir)?.last().copied().unwrap_or(0);
        let run = run.id.clone();
        found.runs.insert(run, FoundRun { outcome, attempts });
    }
    let is_done = |run: &RunId| {
        let found = found.runs.get(run);
        !job.options.wants(run) || found.is_some_and(|found| found.outcome.is_some())
    };
    for run in needed_again(root, plan, is_done)? {
        if let Some(lost) = found.runs.get_mut(&run)
            && lost.outcome.take().is_some()
        {
            found
                .rejected
                .insert(run, format!("{NEEDED}; {}", remedy(true)));
        }
    }
    Ok(found)
}

/// What is said of a run that is done again for what was deleted of it.
pub(crate) const NEEDED: &str = "what `lions gc` deleted of it is needed";

/// Whether what is damaged of an outcome is one of its artifacts. The marker itself is written again from
/// the result that it was made of.
pub(crate) fn costs_result(dir: &RunDir, error: &RundirError) -> bool {
    matches!(error, RundirError::Damaged { path, .. } if path.starts_with(dir.artifacts()))
}

/// What is said to follow from damage.
pub(crate) fn remedy(costs_result: bool) -> &'static str {
    if costs_result {
        "the run is done again"
    } else {
        "the run is published again if what it made is whole, and done again if not"
    }
}

/// Whether a folder is there; an error if that cannot be told, as where permission is denied.
pub(crate) fn is_there(path: &Path) -> Result<bool, PathError> {
    path.try_exists()
        .map_err(|e| PathError::new("read", path, e))
}
