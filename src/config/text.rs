//! Texts in TOML: read from disk, and as values of their own.

use crate::config::diagnose::{ConfigError, SourceFile, Sources};
use crate::config::tree::Node;
use crate::config::typed;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Arc;

/// Reads a value of its own, such as a recipe, from TOML text; ranges are checked, rules across
/// fields are not.
///
/// # Errors
/// The text is no TOML, or what is wrong with the value, at its place.
pub fn parse_toml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    parse_named(text, "recipe")
}

/// [`parse_toml`] of the text of a file, whose name errors give.
pub(super) fn parse_named<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    let read = Node::parse(text, 0).and_then(|node| typed::read(&node, "", |_| None));
    read.map_err(|problem| {
        let file = SourceFile {
            name: name.to_owned(),
            text: Arc::from(text),
        };
        ConfigError::new(Sources(vec![file]), vec![*problem])
    })
}

/// Longest text that is taken for a sweep file, bytes.
const LONGEST_TEXT: u64 = 16 << 20;

/// A text, or one with marks for what is not UTF-8 and the place of the first of them.
pub(super) type Utf8 = Result<String, (String, usize)>;

/// The text of a sweep file, or why there is none.
pub(super) fn read_text(path: &Path) -> Result<Utf8, String> {
    let of_system = |error: std::io::Error| error.to_string();
    let found = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => of_system(error),
    })?;
    if found.is_dir() {
        return Err("it is a folder".to_owned());
    }
    // A device or a pipe may never end.
    if !found.is_file() || found.len() > LONGEST_TEXT {
        return Err("it is no file of a sweep's size".to_owned());
    }
    let bytes = std::fs::read(path).map_err(of_system)?;
    Ok(String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        (text, error.utf8_error().valid_up_to())
    }))
}
