//! What the disk below a path is and how much room it has.

use crate::base::PathError;
use std::io;
use std::path::Path;

/// Bytes that this user may still write below `path`.
pub fn free_bytes(path: &Path) -> Result<u64, PathError> {
    let info = nix::sys::statvfs::statvfs(path)
        .map_err(|e| PathError::new("measure", path, io::Error::from(e)))?;
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
    Ok((info.blocks_available() as u64).saturating_mul(info.fragment_size() as u64))
}

/// The name of the network file system that `path` lies on; nothing if it is local or unknown.
#[cfg(target_os = "linux")]
pub fn network_file_system(path: &Path) -> Result<Option<&'static str>, PathError> {
    let info = nix::sys::statfs::statfs(path)
        .map_err(|e| PathError::new("examine", path, io::Error::from(e)))?;
    #[allow(clippy::unnecessary_cast, reason = "the width differs between systems")]
    Ok(network_name(info.filesystem_type().0 as u32))
}

/// The name of the network file system that `path` lies on; unknown on this system.
#[cfg(not(target_os = "linux"))]
pub fn network_file_system(_path: &Path) -> Result<Option<&'static str>, PathError> {
    Ok(None)
}

/// Magic numbers of `statfs(2)` and of the file systems' own headers.
#[cfg(any(target_os = "linux", test))]
fn network_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "nfs",
        0x517B => "smb",
        0xFE53_4D42 => "smb2",
        0xFF53_4D42 => "cifs",
        0x0BD0_0BD0 => "lustre",
        0x5346_414F => "afs",
        0x4750_4653 => "gpfs",
        0x1983_0326 => "beegfs",
        0x00C3_6400 => "ceph",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_folder_has_room_and_is_no_network() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        assert_eq!(network_file_system(dir.path()).unwrap(), None);
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(network_name(0x6969), Some("nfs"));
        assert_eq!(network_name(0x0BD0_0BD0), Some("lustre"));
        assert_eq!(network_name(0xEF53), None); // ext4
    }

    #[test]
    fn a_missing_path_is_an_error_that_names_it() {
        let error = free_bytes(Path::new("/no/such/path"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "cannot measure `/no/such/path`");
    }
}
