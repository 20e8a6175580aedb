//! What a runner says of itself to other processes while it may be unable to write its database.

use crate::base::{PathError, Timestamp};
use crate::rundir::error::RundirError;
use crate::rundir::lock::is_locked;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Where runners leave their lock files, which hold their notes, below the project root.
pub const RUNNERS_PATH: &str = "results/runners";

/// Room for a note. It is taken when the runner begins, so that a full disk can be told of.
const ROOM: usize = 1024;

/// Why a runner starts nothing for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl Pause {
    /// As JSON that has room; of a long reason only the beginning.
    fn note(&self) -> Option<String> {
        let with_reason = |chars: usize| {
            let pause = Self {
                reason: self.reason.chars().take(chars).collect(),
                since: self.since,
            };
            let text = serde_json::to_string(&pause).ok();
            text.filter(|text| text.len() < ROOM)
        };
        // A character takes six bytes at most.
        let lengths = [usize::MAX, ROOM / 2, ROOM / 8];
        lengths.into_iter().find_map(with_reason)
    }
}

/// Writes a note into a runner's lock file, over the one before; none clears it.
///
/// # Errors
/// The file cannot be written.
pub fn write_pause(lock_file: &Path, pause: Option<&Pause>) -> Result<(), RundirError> {
    let text = pause.and_then(Pause::note).unwrap_or_default();
    let padded = " ".repeat(ROOM - text.len());
    let padded = text + &padded;
    let written = File::options()
        .write(true)
        .open(lock_file)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(padded.as_bytes())
        });
    Ok(written.map_err(|e| PathError::new("write", lock_file, e))?)
}

/// The lock files of runners that are alive.
///
/// # Errors
/// The folder or a lock cannot be read: its runner may live.
pub fn live_runners(root: &Path) -> Result<Vec<PathBuf>, RundirError> {
    let mut live = Vec::new();
    for path in lock_files(root)? {
        if is_locked(&path)? {
            live.push(path);
        }
    }
    Ok(live)
}

/// The lock files of all runners, by name.
fn lock_files(root: &Path) -> Result<Vec<PathBuf>, RundirError> {
    let folder = root.join(RUNNERS_PATH);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if crate::base::fs::is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(PathError::new("read", folder, e).into()),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| PathError::new("read", &folder, e))?;
        files.push(entry.path());
    }
    files.sort();
    Ok(files)
}

/// Why runners that are alive start nothing, if they say so. A lock that cannot be read says nothing.
///
/// # Errors
/// The folder of runners cannot be read.
pub fn pauses(root: &Path) -> Result<Vec<Pause>, RundirError> {
    let read = |path: PathBuf| {
        is_locked(&path).ok().filter(|locked| *locked)?;
        let text = std::fs::read_to_string(path).ok()?;
        serde_json::from_str(text.trim()).ok()
    };
    Ok(lock_files(root)?.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::lock::FolderLock;

    #[test]
    fn a_pause_is_told_as_long_as_its_runner_lives_and_until_it_is_over() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(RUNNERS_PATH).join("one.lock");
        crate::base::write_atomic(&path, &[b' '; ROOM]).unwrap();
        let pause = Pause {
            reason: "the disk is full".to_owned(),
            since: Timestamp(7),
        };
        write_pause(&path, Some(&pause)).unwrap();
        assert_eq!(pauses(root.path()).unwrap(), []);
        let lock = FolderLock::try_take(&path).unwrap();
        assert_eq!(pauses(root.path()).unwrap(), [pause]);
        for (long, told) in [
            ("a disk ".repeat(200), ROOM / 2),
            ("\u{7}".repeat(1000), ROOM / 8),
            ("満".repeat(1000), ROOM / 8),
        ] {
            let pause = Pause {
                reason: long.clone(),
                since: Timestamp(i64::MIN),
            };
            write_pause(&path, Some(&pause)).unwrap();
            let reason = pauses(root.path()).unwrap().remove(0).reason;
            assert_eq!(reason.chars().count(), told);
            assert!(long.starts_with(&reason), "{reason}");
        }
        write_pause(&path, None).unwrap();
        assert_eq!(pauses(root.path()).unwrap(), []);
        drop(lock);
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_cannot_be_read_is_not_taken_for_a_dead_runner() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(RUNNERS_PATH);
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(live_runners(root.path()).unwrap(), Vec::<PathBuf>::new());
        let path = folder.join("one.lock");
        std::os::unix::fs::symlink(&path, &path).unwrap(); // opening it fails, whoever asks
        let error = live_runners(root.path()).unwrap_err().to_string();
        assert!(error.contains("one.lock"), "{error}");
        assert_eq!(pauses(root.path()).unwrap(), []);
    }
}
