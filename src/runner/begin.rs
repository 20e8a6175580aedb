//! What a sweep writes before anything of it runs. It waits for room like everything after it: of
//! several sweeps of one command the last may begin days after a person typed it.

use crate::base::{Clock, Shutdown, Timestamp, chain};
use crate::plan::RunId;
use crate::runner::admission::Admission;
use crate::runner::attempts::Attempts;
use crate::runner::error::RunnerError;
use crate::runner::events::{Reporter, RunnerEvent};
use crate::runner::job::{FoundFolders, SweepJob, look_at_folders};
use crate::runner::owner::Owner;
use crate::runner::report::Reporting;
use crate::store::{Registered, Store, write_snapshot};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Between two tries, ms: long beside what a try costs, short beside a person who makes room.
const TRY_MILLIS: u64 = 1_000;

/// Opens the store of the project at `root`, made if need be. Waits while there is no room on the disk
/// for it, or another process holds it; the reporter is told.
///
/// # Errors
/// It cannot be opened, or a stop was asked for while it could not.
pub fn open_store(
    root: &Path,
    shutdown: &Shutdown,
    reporter: &mut dyn Reporter,
) -> Result<Store, RunnerError> {
    let mut reporting = Reporting::to(reporter);
    let mut paused = false;
    let wait = |error: &RunnerError| {
        if !std::mem::replace(&mut paused, true) {
            let reason = chain(error);
            reporting.report(RunnerEvent::Paused { reason });
        }
        std::thread::sleep(Duration::from_millis(TRY_MILLIS));
    };
    let store = until_it_may(shutdown, wait, || Ok(Store::of_project(root)?))?;
    if paused {
        reporting.report(RunnerEvent::Resumed);
    }
    Ok(store)
}

/// A sweep that is in the store.
pub(super) struct Begun {
    pub(super) owner: Owner,
    pub(super) registered: Registered,
    /// Why outcomes of its runs do not count, and what follows from it.
    pub(super) rejected: BTreeMap<RunId, String>,
}

/// Names this runner, looks at the folders of the plan's runs and registers the sweep.
pub(super) fn begin(
    job: &SweepJob<'_>,
    store: &mut Store,
    attempts: &mut Attempts<'_>,
    admission: &mut Admission,
    reporting: &mut Reporting<'_>,
    (clock, shutdown): (&dyn Clock, &Shutdown),
) -> Result<Begun, RunnerError> {
    let mut pause = |owner: Option<&Owner>, error: &RunnerError| {
        admission.pause(reporting, chain(error), clock.now());
        if let Some(owner) = owner {
            admission.tell(owner);
        }
        attempts.rest(TRY_MILLIS);
    };
    let owner = until_it_may(
        shutdown,
        |error| pause(None, error),
        || Ok(Owner::new(job.root, clock.now())?),
    )?;
    let (found, registered) = until_it_may(
        shutdown,
        |error| pause(Some(&owner), error),
        || register(job, store, clock.now()),
    )?;
    store.set_runner(&job.sweep.name, owner.name())?;
    admission.resume(reporting);
    admission.tell(&owner);
    if let Err(error) = write_snapshot(job.root, job.sweep, job.plan) {
        // Only a rebuild of the database needs it, and who asks whether a report is current.
        let why = chain(&error);
        tracing::warn!("the sweep is not kept beside the database: {why}");
    }
    Ok(Begun {
        owner,
        registered,
        rejected: found.rejected,
    })
}

/// Tries until it succeeds, or fails in a way that waiting does not mend, or a stop is asked for.
fn until_it_may<T>(
    shutdown: &Shutdown,
    mut wait: impl FnMut(&RunnerError),
    mut attempt: impl FnMut() -> Result<T, RunnerError>,
) -> Result<T, RunnerError> {
    loop {
        match attempt() {
            Err(error) if error.may_begin_later() && !shutdown.requested() => wait(&error),
            ended => return ended,
        }
    }
}

fn register(
    job: &SweepJob<'_>,
    store: &mut Store,
    now: Timestamp,
) -> Result<(FoundFolders, Registered), RunnerError> {
    // Before the folders are read, which may be much: where there is no room, that would be for nothing.
    store.try_write()?;
    let found = look_at_folders(job)?;
    let retry = job.options.retry;
    let registered = store.register(job.root, job.sweep, job.plan, &found.runs, retry, now)?;
    Ok((found, registered))
}
