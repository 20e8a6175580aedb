//! What the system says of a file, by which a second look at its content can be saved.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::time::{SystemTime, UNIX_EPOCH};

/// Size, times and place of a file. Whoever writes to a file moves its time of change, which no
/// program can set back; so two equal stamps mean the same content, unless the file changed in the
/// very moment in which the first was taken ([`Stamp::is_settled`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub bytes: u64,
    /// Last write, nanoseconds since 1970; a program can set it.
    modified: i128,
    /// Last change of content or metadata, nanoseconds since 1970.
    changed: i128,
    inode: u64,
    device: u64,
}

/// File systems count time in steps, and two changes within one step have one stamp: at most 10 ms on
/// today's local ones, a second on older ones and on servers that lie on such, two seconds on FAT.
/// Longer than the longest.
const SETTLED_NANOS: i128 = 2_500_000_000;

impl Stamp {
    /// Of a file.
    #[cfg(unix)]
    pub fn of(meta: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let nanos = |secs: i64, rest: i64| i128::from(secs) * 1_000_000_000 + i128::from(rest);
        Self {
            bytes: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
        }
    }

    /// Of a file.
    #[cfg(not(unix))]
    pub fn of(meta: &Metadata) -> Self {
        let modified = meta.modified().ok().map_or(0, nanos_of);
        Self {
            bytes: meta.len(),
            modified,
            changed: modified,
            inode: 0,
            device: 0,
        }
    }

    /// Whether the file had not changed for a while at `moment`: a change after it has another stamp.
    pub fn is_settled(&self, moment: SystemTime) -> bool {
        self.changed.max(self.modified) + SETTLED_NANOS < nanos_of(moment)
    }
}

fn nanos_of(moment: SystemTime) -> i128 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_change_of_the_same_size_moves_the_stamp_even_if_its_time_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let began = SystemTime::now();
        crate::base::write_atomic(&path, b"one").unwrap();
        let stamp = || Stamp::of(&std::fs::metadata(&path).unwrap());
        let (before, modified) = (stamp(), path.metadata().unwrap().modified().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"two").unwrap();
        file.set_modified(modified).unwrap();
        assert_ne!(stamp(), before);
        assert!(!stamp().is_settled(began + Duration::from_secs(2)));
        assert!(stamp().is_settled(SystemTime::now() + Duration::from_secs(3)));
    }
}
