//! Content digests (BLAKE3), the only notion of "the same file".

use crate::base::fs::PathError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// A BLAKE3 digest as 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// The first 12 hex digits, enough for a person.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    /// Its first 60 bits, by which to take one of a number of things.
    pub fn number(&self) -> u64 {
        let digits = self.0.get(..15).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or(0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digest of bytes in memory.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    Digest(blake3::hash(bytes).to_hex().to_string())
}

/// The SHA-256 of a text as lower-case hex digits: the names that other tools give to rows and texts.
pub fn sha256_text(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So much of a file is read at a time: enough for all threads to have a part of it, bytes.
const CHUNK: usize = 4 << 20;

/// Digest of a file's content, read in chunks, each digested by all threads.
///
/// It is read and not mapped: a mapped file that shrinks meanwhile would end the process.
///
/// # Errors
/// The file cannot be opened or read.
pub fn digest_file(path: &Path) -> Result<Digest, PathError> {
    let failed = |e| PathError::new("read", path, e);
    let mut file = std::fs::File::open(path).map_err(|e| PathError::new("open", path, e))?;
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 {
        // Not read: files of the kernel's say that they are empty, and some of them (/proc/kmsg) never end.
        return Ok(digest_bytes(b""));
    }
    let mut hasher = blake3::Hasher::new();
    if length < CHUNK as u64 {
        hasher.update_reader(file).map_err(failed)?;
        return Ok(Digest(hasher.finalize().to_hex().to_string()));
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut filled = 0;
        while filled < CHUNK {
            match file.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        hasher.update_rayon(&chunk[..filled]);
        if filled < CHUNK {
            return Ok(Digest(hasher.finalize().to_hex().to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: `sha256sum`.
    #[test]
    fn texts_have_the_names_that_other_tools_give_them() {
        let name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_text("abc"), name);
    }

    #[test]
    fn a_file_of_several_chunks_has_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for length in [0, 3, CHUNK, 2 * CHUNK + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            crate::base::write_atomic(&path, &bytes).unwrap();
            assert_eq!(
                digest_file(&path).unwrap(),
                digest_bytes(&bytes),
                "{length}"
            );
        }
    }
}
