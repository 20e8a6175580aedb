//! Content digests (BLAKE3), the only notion of "the same file".

use crate::base::fs::PathError;
use serde::{Deserialize, Serialize};
use std::fmt;
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

/// Digest of a file's content, read in chunks.
///
/// # Errors
/// The file cannot be opened or read.
pub fn digest_file(path: &Path) -> Result<Digest, PathError> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).map_err(|e| PathError::new("open", path, e))?;
    hasher
        .update_reader(file)
        .map_err(|e| PathError::new("read", path, e))?;
    Ok(Digest(hasher.finalize().to_hex().to_string()))
}
