//! What can go wrong with the store.

use crate::base::PathError;
use crate::base::fs::is_denied;
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
    #[error("cannot open the store at `{}`: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said; not a source, which would say it twice.
        why: rusqlite::Error,
    },
    /// A folder operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// `lions.toml`, which may say where it lies, cannot be read.
    #[error("where the database lies cannot be told: {0}")]
    Project(String),
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
        "the database would lie on a network file system ({kind}, `{}`), where SQLite loses data; \
         `database = \"/local/disk/lions.db\"` in `lions.toml` names a place on a local disk, and \
         `lions store rebuild` fills it with what has run here",
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
    /// A runner is running, whose database cannot be replaced.
    #[error("a `lions run` is running (`{}`); stop it first", runner.display())]
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
    /// SQLite refused a statement. What it said is no source, which would say it twice.
    #[error("the store refused a statement: {0}")]
    Sql(rusqlite::Error),
}

/// What SQLite lacks where nothing is wrong with the file or the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Space on the disk, or under a quota or a limit.
    Room,
    /// The lock, which another process holds.
    Turn,
    /// The permission to write there.
    Right,
    /// A disk that answers.
    Disk,
}

impl StoreError {
    /// Whether the same statement may succeed later, when a person has made room or a disk answers
    /// again: nothing is wrong with the file or the question.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Sql(refusal) if lack(refusal).is_some())
    }

    /// Whether a sweep that is only to begin waits until it passes: for room on the disk, or for another
    /// process that writes. A place where this user may not write, or a disk that fails, is better told
    /// at once to the person who has just typed the command.
    pub fn may_begin_later(&self) -> bool {
        match self {
            Self::Sql(why) | Self::Open { why, .. } => {
                matches!(lack(why), Some(Lack::Room | Lack::Turn))
            }
            Self::Path(error) => error.is_disk_full(),
            Self::Rundir(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// What a person can do about it; nothing where the error says so itself.
    pub fn remedy(&self) -> Option<&'static str> {
        let lack = match self {
            Self::Sql(why) | Self::Open { why, .. } => lack(why),
            Self::Cell { .. } | Self::Json { .. } => None,
            Self::Path(error) if error.is_disk_full() => Some(Lack::Room),
            Self::Rundir(error) if error.is_disk_full() => Some(Lack::Room),
            Self::Path(error) if is_denied(&error.source) => Some(Lack::Right),
            Self::Rundir(error) if error.is_denied() => Some(Lack::Right),
            _ => return None,
        };
        Some(match lack {
            Some(Lack::Room) => "make room on the disk; nothing that was stored is lost",
            Some(Lack::Turn) => "another process holds the database; try again when it has ended",
            Some(Lack::Right) => GIVE_THE_RIGHT,
            Some(Lack::Disk) => "see to the disk; `lions store verify` reads all that is stored",
            None => "`lions store rebuild` makes the database anew from the run folders",
        })
    }
}

/// What to do where a project cannot be written.
pub const GIVE_THE_RIGHT: &str = "give this user the right to write there; to read is enough for `status`, `show`, `compare` and `report --out`";

fn lack(refusal: &rusqlite::Error) -> Option<Lack> {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, ReadOnly,
        SystemIoFailure,
    };
    use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};
    let error = refusal.sqlite_error()?;
    Some(match (error.code, error.extended_code) {
        // A full disk is called so in the file and its log only, not beside them; a quota nowhere.
        (DiskFull, _) | (_, SQLITE_IOERR_SHMSIZE | SQLITE_IOERR_WRITE) => Lack::Room,
        (DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed, _) => Lack::Turn,
        (ReadOnly | CannotOpen, _) => Lack::Right,
        (SystemIoFailure, _) => Lack::Disk,
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;
    use std::io;

    fn refused(code: i32) -> StoreError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    #[test]
    fn a_sweep_that_begins_waits_for_room_and_for_its_turn_and_for_nothing_else() {
        for (code, passes, waits) in [
            (ffi::SQLITE_FULL, true, true),
            (ffi::SQLITE_IOERR_WRITE, true, true),
            (ffi::SQLITE_IOERR_SHMSIZE, true, true),
            (ffi::SQLITE_BUSY, true, true),
            (ffi::SQLITE_LOCKED, true, true),
            (ffi::SQLITE_IOERR_READ, true, false),
            (ffi::SQLITE_READONLY, true, false),
            (ffi::SQLITE_CANTOPEN, true, false),
            (ffi::SQLITE_CONSTRAINT, false, false),
            (ffi::SQLITE_NOTADB, false, false),
        ] {
            let error = refused(code);
            let found = (error.may_pass(), error.may_begin_later());
            assert_eq!(found, (passes, waits), "{error}");
        }
        let full = PathError::new("create", "results", io::ErrorKind::StorageFull.into());
        assert!(StoreError::from(full).may_begin_later());
    }

    #[test]
    fn a_database_on_a_network_file_system_is_offered_another_place() {
        let path = std::path::PathBuf::from("/nfs/results");
        let said = StoreError::Network { path, kind: "nfs" }.to_string();
        let words = [
            "(nfs, `/nfs/results`)",
            "`lions.toml`",
            "`lions store rebuild`",
        ];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }

    #[test]
    fn a_rebuild_is_the_remedy_of_what_is_wrong_with_the_file_alone() {
        let rebuild = |error: StoreError| error.remedy().map(|what| what.contains("rebuild"));
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_IOERR_READ,
        ] {
            assert_eq!(rebuild(refused(code)), Some(false), "{code}");
        }
        assert_eq!(rebuild(refused(ffi::SQLITE_CONSTRAINT)), Some(true));
        // These say themselves what to do.
        assert_eq!(rebuild(refused(ffi::SQLITE_NOTADB)), None);
        let later = StoreError::TooNew { found: 9, known: 1 };
        assert_eq!(rebuild(later), None);
    }
}
