//! Why a run is not done.

use crate::base::Timestamp;
use crate::live::words::queue_reason;
use crate::plan::RunId;
use crate::rundir::{RunDir, attempt_at_work, pauses};
use crate::store::{ReadStore, StoreError, Why};
use std::path::Path;

/// Why a run is not done, by the store and by what can be read of the project at `root`: folders that may not be entered
/// say nothing.
///
/// # Errors
/// There is no such run, or the store cannot be read.
pub fn why(root: &Path, store: &ReadStore, id: &RunId, now: Timestamp) -> Result<Why, StoreError> {
    let paused = pauses(root).unwrap_or_default().into_iter().next();
    let paused = paused.map(|pause| (pause.reason, pause.since));
    let held = attempt_at_work(&RunDir::new(root, id)).ok().flatten();
    let waits = queue_reason(root, id, store.run(id)?.state);
    store.why(id, paused, (held, waits), now)
}
