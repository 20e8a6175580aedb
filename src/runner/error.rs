//! What stops a runner, as opposed to a run.

use crate::backend::BackendError;
use crate::base::PathError;
use crate::rundir::RundirError;
use crate::store::StoreError;

/// The sweep cannot be run or cannot go on. Attempts that were at work have been stopped and are
/// ready again.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The plan needs files that are not there.
    #[error("{count} inputs of the sweep are missing, for example `{first}`")]
    Missing {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// Nothing to run on.
    #[error("no slots to run on")]
    NoSlots,
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Attempts cannot be started or asked after.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A run's folder cannot be read or written.
    #[error(transparent)]
    Rundir(#[from] RundirError),
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
}
