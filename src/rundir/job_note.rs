//! What stands in an attempt's folder when a scheduler starts it: where it was given to, that it began, how its process
//! ended. These hold across machines, where a lock does not.

use crate::base::fs::is_gone;
use crate::base::{PathError, Timestamp, write_atomic};
use crate::rundir::error::RundirError;
use crate::rundir::layout::AttemptDir;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// What the runner notes of an attempt that it gave to a scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNote {
    /// How the backend finds it again.
    pub handle: String,
    /// Why it has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// A runner has asked it to stop: that its job was cancelled is nobody else's doing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// An attempt that waits at a scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// What the scheduler says.
    pub reason: String,
    /// Since when it says so.
    pub since: Timestamp,
}

/// How the process of an attempt ended, by the process that watched it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Exit code; absent after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was told that its time runs out.
    #[serde(default)]
    pub warned: bool,
    /// The system ended it because memory ran out, as far as that can be told.
    #[serde(default)]
    pub starved: bool,
    /// It was found dead when the scheduler started it once more.
    #[serde(default)]
    pub restarted: bool,
}

/// Writes what is known of an attempt at a scheduler.
///
/// # Errors
/// The file cannot be written.
pub fn write_job_note(dir: &AttemptDir, note: &JobNote) -> Result<(), RundirError> {
    write_json(&dir.job(), note)
}

/// What is known of an attempt at a scheduler; nothing if it was given to none, or if that cannot be read.
pub fn read_job_note(dir: &AttemptDir) -> Option<JobNote> {
    read_json(&dir.job())
}

/// Writes how the process ended.
///
/// # Errors
/// The file cannot be written.
pub fn write_job_end(dir: &AttemptDir, end: &JobEnd) -> Result<(), RundirError> {
    write_json(&dir.ended(), end)
}

/// How the process ended; nothing as long as that is not known.
pub fn read_job_end(dir: &AttemptDir) -> Option<JobEnd> {
    read_json(&dir.ended())
}

/// Marks that the attempt's process was asked to end: it may be killed before it can say how it ended.
///
/// # Errors
/// The file cannot be made.
pub fn note_told(dir: &AttemptDir) -> Result<(), RundirError> {
    Ok(write_atomic(&dir.told(), b"")?)
}

/// Whether the attempt's process was asked to end.
pub fn was_told(dir: &AttemptDir) -> bool {
    dir.told().exists()
}

/// Marks that the attempt begins on this machine. Of all processes that ask one gets `true`, also over a network: a file is
/// made once.
///
/// # Errors
/// The file cannot be made.
pub fn begin_once(dir: &AttemptDir, host: &str) -> Result<bool, RundirError> {
    let path = dir.begun();
    std::fs::create_dir_all(dir.path()).map_err(|e| PathError::new("create", dir.path(), e))?;
    match File::create_new(&path) {
        Ok(mut file) => {
            let written = writeln!(file, "{host}");
            written.map_err(|e| PathError::new("write", &path, e))?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(PathError::new("create", path, e).into()),
    }
}

/// Whether the attempt has begun somewhere.
///
/// # Errors
/// It cannot be told.
pub fn has_begun(dir: &AttemptDir) -> Result<bool, RundirError> {
    match std::fs::metadata(dir.begun()) {
        Ok(_) => Ok(true),
        Err(e) if is_gone(&e) => Ok(false),
        Err(e) => Err(PathError::new("read", dir.begun(), e).into()),
    }
}

/// The machine on which the attempt has begun, by its own name; nothing if it has not, or if that cannot be read.
pub fn begun_on(dir: &AttemptDir) -> Option<String> {
    let text = std::fs::read_to_string(dir.begun()).ok()?;
    let host = text.lines().next()?.trim();
    (!host.is_empty()).then(|| host.to_owned())
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RundirError> {
    let text = serde_json::to_string(value).unwrap_or_default();
    Ok(write_atomic(path, text.as_bytes())?)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RunId;
    use crate::rundir::layout::RunDir;

    #[test]
    fn an_attempt_begins_once_and_its_notes_are_read_as_written() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::new(root.path(), &RunId("ab".repeat(32))).attempt(3);
        assert!(!has_begun(&dir).unwrap());
        assert!(begin_once(&dir, "n1").unwrap());
        assert!(!begin_once(&dir, "n2").unwrap());
        assert_eq!(std::fs::read_to_string(dir.begun()).unwrap(), "n1\n");
        let note = JobNote {
            handle: "slurm:lions-1:0".to_owned(),
            waits: Some(Waits {
                reason: "Priority".to_owned(),
                since: Timestamp(5),
            }),
            stopped: true,
        };
        write_job_note(&dir, &note).unwrap();
        assert_eq!(read_job_note(&dir), Some(note));
        assert_eq!((read_job_end(&dir), was_told(&dir)), (None, false));
        note_told(&dir).unwrap();
        assert!(was_told(&dir));
        let end = JobEnd {
            code: Some(130),
            warned: true,
            ..JobEnd::default()
        };
        write_job_end(&dir, &end).unwrap();
        assert_eq!(read_job_end(&dir), Some(end));
    }
}
