//! How much a data file may hold: files come from strangers, and a small one can grow without bound.

use super::error::DataError;
use serde_json::Value;

/// The longest row: millions of tokens, far beyond what a model reads, whose tokenisation still fits
/// into memory.
pub(super) const MAX_ROW: usize = 16 << 20;
/// What any compressed file may grow to.
const MAX_SMALL: u64 = 256 << 20;
/// What it may grow to beyond that, as a multiple of its size. Text shrinks to a fifth, seldom to a
/// twentieth.
const MAX_GROWTH: u64 = 100;

/// Bytes of text that a compressed file of `size` bytes may hold.
pub(super) fn most_text(size: u64) -> u64 {
    MAX_SMALL.saturating_add(size.saturating_mul(MAX_GROWTH))
}

/// The error for a file that holds more text than its size is good for.
pub(super) fn too_much(path: &str, most: u64) -> DataError {
    DataError::Unreadable {
        path: path.to_owned(),
        reason: format!(
            "it unpacks to more than {} MiB, which no text of its size does; unpack it, if it is right",
            most >> 20
        ),
    }
}

/// The error for a row that is too long.
pub(super) fn row_too_long() -> String {
    format!("it is longer than {} MiB", MAX_ROW >> 20)
}

/// Bytes of a value's texts, and some for each value.
pub(super) fn bytes_of(value: &Value) -> usize {
    8 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(map) => map.iter().map(|(k, v)| k.len() + bytes_of(v)).sum(),
        _ => 0,
    }
}
