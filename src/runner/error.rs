//! What stops a runner, as opposed to a run.

use crate::backend::BackendError;
use crate::base::PathError;
use crate::base::fs::is_denied;
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

impl RunnerError {
    /// Whether the runner may go on later as if nothing had happened: the store takes nothing now.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Store(error) if error.may_pass())
    }

    /// Whether a sweep that is only to begin waits until it passes.
    pub(crate) fn may_begin_later(&self) -> bool {
        self.is_disk_full() || matches!(self, Self::Store(error) if error.may_begin_later())
    }

    /// Whether a runner waits until it passes, unless it is asked to stop.
    pub(crate) fn is_passing(&self) -> bool {
        self.may_pass() || self.may_begin_later()
    }

    /// Whether the right to write is missing.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Rundir(e) | Self::Backend(BackendError::Rundir(e)) => e.is_denied(),
            Self::Path(e) | Self::Backend(BackendError::Path(e)) => is_denied(&e.source),
            _ => false,
        }
    }

    /// Whether more room on the disk would help.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Rundir(e) | Self::Backend(BackendError::Rundir(e)) => e.is_disk_full(),
            Self::Path(e) | Self::Backend(BackendError::Path(e)) => e.is_disk_full(),
            _ => false,
        }
    }
}
