//! What a runner is given.

use crate::backend::Backend;
use crate::base::{Clock, Shutdown};
use crate::config::sweep::Sweep;
use crate::plan::{Plan, RunId};
use crate::queue::{LEASE_MILLIS, Slot};
use crate::rundir::{RunDir, Verify, attempt_numbers, verified_outcome};
use crate::runner::error::RunnerError;
use crate::store::{FoundRun, Retry, Store};
use std::collections::BTreeMap;
use std::path::Path;

/// An attempt that was asked to stop is killed after so long: it saves its state after the step at
/// hand, which takes seconds, and a person who pressed Ctrl-C waits.
pub const GRACE_MILLIS: i64 = 30_000;
/// Below so much free space nothing is started: room for the state of an attempt or two, and for the
/// database, so that what is at work can end well.
pub const DISK_FLOOR_BYTES: u64 = 512 << 20;

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
    /// Below so much free space nothing is started.
    pub disk_floor_bytes: u64,
}

impl RunOptions {
    /// The usual times and limits with these slots.
    pub fn new(slots: Vec<Slot>) -> Self {
        Self {
            slots,
            retry: Retry::Never,
            lease_millis: LEASE_MILLIS,
            grace_millis: GRACE_MILLIS,
            disk_floor_bytes: DISK_FLOOR_BYTES,
        }
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

/// What the folders of the plan's runs hold. An outcome that is damaged counts as none.
pub(crate) fn look_at_folders(
    root: &Path,
    plan: &Plan,
) -> Result<BTreeMap<RunId, FoundRun>, RunnerError> {
    let mut found = BTreeMap::new();
    for run in &plan.runs {
        let dir = RunDir::new(root, &run.id);
        if !dir.path().exists() {
            continue;
        }
        let outcome = verified_outcome(&dir, Verify::Sizes).ok().flatten();
        let outcome = outcome.filter(|outcome| outcome.run == run.id);
        let attempts = attempt_numbers(&dir)?.last().copied().unwrap_or(0);
        found.insert(run.id.clone(), FoundRun { outcome, attempts });
    }
    Ok(found)
}
