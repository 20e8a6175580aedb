//! What people note of a sweep, beside the database: `results/notes/<name>.jsonl`.
//!
//! Neither a run folder nor the queue knows of it, so it stands in a file of its own, which outlives the
//! database.

use crate::base::fs::is_gone;
use crate::base::{PathError, Timestamp, append_line};
use crate::store::error::StoreError;
use crate::store::file_stem::stem_of;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// A note of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepNote {
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub text: String,
}

fn path(root: &Path, sweep: &str) -> PathBuf {
    root.join(format!("results/notes/{}.jsonl", stem_of(sweep)))
}

/// Adds a note to a sweep.
///
/// # Errors
/// The file cannot be written.
pub fn add_note(root: &Path, sweep: &str, note: &SweepNote) -> Result<(), StoreError> {
    let path = path(root, sweep);
    let json = |source| StoreError::Json {
        what: "the note",
        source,
    };
    let line = serde_json::to_string(note).map_err(json)?;
    let folder = path.parent().unwrap_or(root);
    std::fs::create_dir_all(folder).map_err(|e| PathError::new("create", folder, e))?;
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).open(&path);
    let written = opened.and_then(|mut file| append_line(&mut file, &line));
    Ok(written.map_err(|e| PathError::new("write", &path, e))?)
}

/// The notes of a sweep in their order; a line that cannot be read is passed over.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_notes(root: &Path, sweep: &str) -> Result<Vec<SweepNote>, StoreError> {
    let path = path(root, sweep);
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(PathError::new("read", path, e).into()),
    };
    let read = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(read.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_in_order_and_a_torn_line_costs_itself_alone() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_notes(root.path(), "study+a=1").unwrap(), []);
        let note = |at, text: &str| SweepNote {
            at: Timestamp(at),
            text: text.to_owned(),
        };
        add_note(root.path(), "study+a=1", &note(1, "first")).unwrap();
        let path = path(root.path(), "study+a=1");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        append_line(&mut file, "{\"at\": 2, \"te").unwrap();
        add_note(root.path(), "study+a=1", &note(3, "third")).unwrap();
        let read = read_notes(root.path(), "study+a=1").unwrap();
        assert_eq!(read, [note(1, "first"), note(3, "third")]);
        assert_eq!(read_notes(root.path(), "study+a=2").unwrap(), []);
    }
}
