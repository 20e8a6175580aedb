//! Locks that end with the process that holds them, so that nobody has to guess who is alive.

use crate::base::PathError;
use crate::base::fs::is_gone;
use crate::rundir::error::RundirError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// A lock on a folder or file, held until this and every inherited copy of its file is closed.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Takes the lock on `path`; nothing if another process (or another open file) holds it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, RundirError> {
        let file = File::open(path).map_err(|e| PathError::new("open", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(PathError::new("lock", path, e).into()),
        }
    }

    /// Waits for the lock on `path`.
    pub fn take(path: &Path) -> Result<Self, RundirError> {
        let file = File::open(path).map_err(|e| PathError::new("open", path, e))?;
        file.lock().map_err(|e| PathError::new("lock", path, e))?;
        Ok(Self(file))
    }

    /// The locked file, to hand it to a child.
    pub fn into_file(self) -> File {
        self.0
    }
}

/// Whether some process holds the lock on `path`; a missing path is held by nobody.
///
/// # Errors
/// It cannot be told, as where permission is denied.
pub fn is_locked(path: &Path) -> Result<bool, RundirError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if is_gone(&e) => return Ok(false),
        Err(e) => return Err(PathError::new("open", path, e).into()),
    };
    // Shared, so that two who only look do not take each other for the holder.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(PathError::new("lock", path, e).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_by_others_and_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_locked(&dir.path().join("missing")).unwrap());
        let lock = FolderLock::try_take(dir.path()).unwrap();
        assert!(lock.is_some());
        assert!(is_locked(dir.path()).unwrap());
        drop(lock);
        assert!(!is_locked(dir.path()).unwrap());
    }
}
