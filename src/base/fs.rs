//! Files that appear whole, and errors that name their path.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file operation that failed: what was tried, on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct PathError {
    /// The verb, for example `read`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl PathError {
    /// An error of `action` on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            action,
            path: path.into(),
            source,
        }
    }

    /// Whether the device or quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Whether nothing is there, as opposed to something that cannot be read.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether the system refused access.
pub fn is_denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Writes `bytes` beside `path`, syncs, and renames: readers see the old file or the new, never half.
///
/// Parent folders are created.
///
/// # Errors
/// The folder or file cannot be written; the temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temp = path.with_file_name(name);
    let written = (|| {
        let mut file = fs::File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    })();
    written.map_err(|e| {
        drop(fs::remove_file(&temp));
        PathError::new("write", path, e)
    })
}

/// Writes a file into a folder that nobody reads yet: as [`write_atomic`] without the steps that make it whole for readers. It is
/// on disk once the folder's files are synced, as where an attempt digests what it made.
///
/// # Errors
/// The folder or file cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
    }
    let written = File::create(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|e| PathError::new("write", path, e))
}

/// Puts the files of a folder on disk.
///
/// # Errors
/// One cannot be opened or written.
pub fn sync_files(folder: &Path) -> Result<(), PathError> {
    let listed = fs::read_dir(folder).map_err(|e| PathError::new("read", folder, e))?;
    for entry in listed {
        let path = entry.map_err(|e| PathError::new("read", folder, e))?.path();
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|e| PathError::new("sync", path, e))?;
    }
    Ok(())
}

/// Appends one line to an open file in a single write.
///
/// # Errors
/// As the file's `write_all`.
pub fn append_line(file: &mut fs::File, line: &str) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// Makes a folder with all above it.
///
/// # Errors
/// It cannot be made, or a file is in its place.
pub fn create_dir(path: &Path) -> Result<(), PathError> {
    fs::create_dir_all(path).map_err(|e| PathError::new("make", path, e))
}

/// Copies a file.
///
/// # Errors
/// Either file cannot be used; the one that cannot is named.
pub fn copy(from: &Path, to: &Path) -> Result<(), PathError> {
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|e| {
        // A source that can be opened leaves only the target to blame.
        match File::open(from) {
            Ok(_) => PathError::new("write the copy", to, e),
            Err(_) => PathError::new("copy", from, e),
        }
    })
}

/// Reads a whole file as text.
///
/// # Errors
/// The file is missing, unreadable or not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String, PathError> {
    fs::read_to_string(path).map_err(|e| PathError::new("read", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_twice_holds_the_second_content_and_no_temporary_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/file.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let beside = path.with_file_name("beside");
        write_new(&beside, b"three").unwrap();
        sync_files(path.parent().unwrap()).unwrap();
        assert_eq!(read_to_string(&beside).unwrap(), "three");
        let nowhere = path.join("below a file");
        let error = write_new(&nowhere, b"").unwrap_err().to_string();
        assert!(error.contains("file.txt"), "{error}");
        assert!(sync_files(&nowhere).is_err());
    }
}
