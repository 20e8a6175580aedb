//! The sign of life of an attempt, and how long it may be missing: one contract for the attempt that
//! gives it, the runner that watches it and the lease that ends without it.

use crate::base::PathError;
use crate::rundir::error::RundirError;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// How often an attempt moves its heartbeat, ms.
pub const HEARTBEAT_MILLIS: u64 = 3_000;
/// An attempt whose heartbeat has not moved for so long is taken for dead, ms. Thirty beats, since
/// the beating thread competes with all threads of the stage and the disk may stall for many
/// seconds; a dead process is noticed by its exit long before.
pub const SILENCE_MILLIS: i64 = 90_000;

/// A counter that moves while an attempt lives, rewritten in place.
#[derive(Debug)]
pub struct Heartbeat {
    file: File,
    path: PathBuf,
    count: u64,
}

impl Heartbeat {
    /// Starts at 1.
    pub fn create(path: &Path) -> Result<Self, RundirError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
        }
        let file = File::create(path).map_err(|e| PathError::new("create", path, e))?;
        let mut heartbeat = Self {
            file,
            path: path.to_owned(),
            count: 0,
        };
        heartbeat.beat()?;
        Ok(heartbeat)
    }

    /// Moves the counter by one.
    pub fn beat(&mut self) -> Result<(), RundirError> {
        self.count += 1;
        let line = format!("{:020}\n", self.count); // one width, so that a rewrite is never shorter
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(line.as_bytes()));
        Ok(written.map_err(|e| PathError::new("write", &self.path, e))?)
    }
}

/// The heartbeat's counter; nothing before the first beat.
pub fn read_heartbeat(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_counts_up_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heartbeat");
        assert_eq!(read_heartbeat(&path), None);
        let mut heartbeat = Heartbeat::create(&path).unwrap();
        assert_eq!(read_heartbeat(&path), Some(1));
        heartbeat.beat().unwrap();
        assert_eq!(read_heartbeat(&path), Some(2));
    }
}
