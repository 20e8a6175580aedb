//! What can go wrong with the store.

use crate::base::PathError;
use crate::rundir::RundirError;
use std::path::PathBuf;

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store yet.
    #[error("there is no store at `{}`; `lions run` makes one", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The file or its folder cannot be used.
    #[error("cannot open the store at `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A folder operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A later version wrote it.
    #[error("the store has schema {found}, this build knows up to {known}; use a newer lions")]
    TooNew {
        /// Its schema.
        found: u32,
        /// The newest known schema.
        known: u32,
    },
    /// An earlier version wrote it, and it was opened for reading only.
    #[error(
        "the store has schema {found}, this build needs {known}; the next `lions run` updates it"
    )]
    TooOld {
        /// Its schema.
        found: u32,
        /// The newest known schema.
        known: u32,
    },
    /// SQLite's locks do not hold over a network.
    #[error(
        "`{}` lies on a network file system ({kind}), where SQLite loses data; put the project on a local disk",
        path.display()
    )]
    Network {
        /// The folder.
        path: PathBuf,
        /// For example `nfs`.
        kind: &'static str,
    },
    /// The file is no database or is damaged.
    #[error("the store is damaged; `lions store rebuild` makes a new one from the run folders")]
    Damaged {
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A runner is at work, whose database cannot be replaced.
    #[error("a `lions run` is at work (`{}`); stop it first", runner.display())]
    Busy {
        /// Its lock file.
        runner: PathBuf,
    },
    /// No run has an id that begins so.
    #[error("no run begins with `{prefix}`")]
    NoRun {
        /// What was asked for.
        prefix: String,
    },
    /// Several runs have an id that begins so.
    #[error("{count} runs begin with `{prefix}`; give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// No sweep of that name was run.
    #[error("no sweep `{name}` in the store; known: {known}")]
    NoSweep {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A cell holds what no version of this schema writes.
    #[error("the store has an unexpected value in `{column}`: {text}")]
    Cell {
        /// The column.
        column: &'static str,
        /// The value.
        text: String,
    },
    /// A value cannot be written as JSON.
    #[error("cannot write `{what}` as JSON")]
    Json {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A run's folder cannot be read.
    #[error(transparent)]
    Rundir(#[from] RundirError),
    /// SQLite refused a statement.
    #[error("the store refused a statement")]
    Sql(#[source] rusqlite::Error),
}

impl StoreError {
    /// Whether the same statement may succeed later, when a person has made room or a disk answers
    /// again: nothing is wrong with the file or the question.
    pub fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
            ReadOnly, SystemIoFailure,
        };
        let Self::Sql(source) = self else {
            return false;
        };
        matches!(
            source.sqlite_error_code(),
            Some(
                DiskFull
                    | SystemIoFailure
                    | ReadOnly
                    | DatabaseBusy
                    | DatabaseLocked
                    | CannotOpen
                    | FileLockingProtocolFailed
            )
        )
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match source.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { source },
            _ => Self::Sql(source),
        }
    }
}
