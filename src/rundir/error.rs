//! What can go wrong with a run's folder.

use crate::base::PathError;
use crate::base::fs::is_denied;
use crate::plan::RunId;
use crate::rundir::event::FailureClass;
use std::path::PathBuf;

/// A run's folder could not be read, written or published.
#[derive(Debug, thiserror::Error)]
pub enum RundirError {
    /// A file or folder operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file is not what its name says.
    #[error("cannot understand `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// A file was written by a later version.
    #[error("`{}` has format {found}, this build knows up to {known}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known format.
        known: u32,
    },
    /// Two runs whose ids share their first 12 digits.
    #[error("`{}` belongs to another run than `{}`", path.display(), run.0)]
    OtherRun {
        /// The identity file found.
        path: PathBuf,
        /// The run that wants the folder.
        run: RunId,
    },
    /// The stage named an artifact that it did not make.
    #[error("artifact `{name}` is not in `{}`", dir.display())]
    NoArtifact {
        /// The artifact.
        name: String,
        /// Where it should lie.
        dir: PathBuf,
    },
    /// The outcome names a file that is missing or has another size or content.
    #[error("`{}` is not the file that `outcome.json` names: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Missing, other size or other digest.
        why: String,
    },
}

impl RundirError {
    /// How an attempt that cannot be begun or published for this has failed.
    pub fn class(&self) -> FailureClass {
        match self {
            _ if self.is_denied() => FailureClass::Permission,
            _ if self.is_disk_full() => FailureClass::DiskFull,
            Self::Damaged { .. } => FailureClass::Damaged,
            _ => FailureClass::Internal,
        }
    }

    /// Whether the right to read or write is missing.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Path(error) if is_denied(&error.source))
    }

    /// Whether the device or quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Path(error) if error.is_disk_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn what_the_system_refuses_is_told_from_a_full_disk_and_from_our_own_bugs() {
        for (kind, class) in [
            (ErrorKind::PermissionDenied, FailureClass::Permission),
            (ErrorKind::ReadOnlyFilesystem, FailureClass::Permission),
            (ErrorKind::StorageFull, FailureClass::DiskFull),
            (ErrorKind::QuotaExceeded, FailureClass::DiskFull),
            (ErrorKind::Other, FailureClass::Internal),
        ] {
            let error = RundirError::from(PathError::new("create", "x", kind.into()));
            assert_eq!(error.class(), class, "{kind}");
        }
        let (path, why) = (PathBuf::from("x"), "missing".to_owned());
        let damaged = RundirError::Damaged { path, why };
        assert_eq!(damaged.class(), FailureClass::Damaged);
    }
}
