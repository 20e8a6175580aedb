//! A runner's name and proof of life: a locked file that the kernel unlocks when it dies.

use crate::base::{PathError, Timestamp, chain};
use crate::rundir::{
    FolderLock, Pause, RUNNERS_PATH, RundirError, host_name, is_locked, write_pause,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Runners that this process has been.
static RUNNERS: AtomicU32 = AtomicU32::new(0);

/// This runner, alive as long as this value is.
#[derive(Debug)]
pub(crate) struct Owner {
    name: String,
    folder: PathBuf,
    _lock: FolderLock,
}

impl Owner {
    /// Makes a name for this runner below `results/runners` and clears those of dead ones.
    pub(crate) fn new(root: &Path, now: Timestamp) -> Result<Self, RundirError> {
        let folder = root.join(RUNNERS_PATH);
        std::fs::create_dir_all(&folder).map_err(|e| PathError::new("create", &folder, e))?;
        clear_dead(&folder)?;
        let host = host_name().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        loop {
            // A process may be several runners, one after the other; no name comes twice.
            let number = RUNNERS.fetch_add(1, Ordering::Relaxed);
            let name = format!("{host}-{}-{}-{number}", std::process::id(), now.0);
            let path = lock_path(&folder, &name);
            File::create(&path).map_err(|e| PathError::new("create", &path, e))?;
            // Whoever clears dead runners may have been faster; then another name is tried.
            match FolderLock::try_take(&path) {
                Ok(Some(lock)) if path.exists() => {
                    // Nobody removes the file any more.
                    take_room(&path)?;
                    return Ok(Self {
                        name,
                        folder,
                        _lock: lock,
                    });
                }
                // Where the file system has no locks, another name helps nothing.
                Err(error) if path.exists() => return Err(error),
                _ => {}
            }
        }
    }

    /// Tells other processes why nothing is started for now; nothing: work goes on.
    pub(crate) fn note(&self, pause: Option<&Pause>) {
        let path = lock_path(&self.folder, &self.name);
        if let Err(error) = write_pause(&path, pause) {
            tracing::warn!("other commands cannot be told of the pause: {error}");
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the runner of that name lives.
    pub(crate) fn is_alive(&self, name: &str) -> Result<bool, RundirError> {
        is_locked(&lock_path(&self.folder, name))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(std::fs::remove_file(lock_path(&self.folder, &self.name)));
    }
}

/// Room for a note. Where the disk is full by now, a pause is told on the terminal alone.
fn take_room(path: &Path) -> Result<(), RundirError> {
    match write_pause(path, None) {
        Err(error) if error.is_disk_full() => {
            tracing::warn!("other commands will not hear of a pause: {}", chain(&error));
            Ok(())
        }
        written => written,
    }
}

fn lock_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.lock"))
}

fn clear_dead(folder: &Path) -> Result<(), RundirError> {
    let entries = std::fs::read_dir(folder).map_err(|e| PathError::new("read", folder, e))?;
    for entry in entries.flatten() {
        // The lock is held while the file is removed, so that its maker notices.
        if let Ok(Some(_lock)) = FolderLock::try_take(&entry.path()) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_alive_until_it_is_dropped_and_two_have_two_names() {
        let dir = tempfile::tempdir().unwrap();
        let one = Owner::new(dir.path(), Timestamp(5)).unwrap();
        let two = Owner::new(dir.path(), Timestamp(5)).unwrap();
        assert_ne!(one.name(), two.name());
        assert!(one.is_alive(two.name()).unwrap() && one.is_alive(one.name()).unwrap());
        let name = two.name().to_owned();
        drop(two);
        assert!(!one.is_alive(&name).unwrap());
    }
}
