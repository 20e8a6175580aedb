//! Rows of data files as they are, for evaluation tasks, which say themselves what their columns mean.

use super::error::DataError;
use super::record::Origin;
use super::source::read_rows;
use crate::config::spec::DataFile;
use serde_json::{Map, Value};
use std::path::Path;

/// A row with its columns, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRow {
    /// Its columns.
    pub columns: Map<String, Value>,
    /// File and line.
    pub origin: Origin,
}

/// Reads every row of several files, with their columns as they are.
///
/// # Errors
/// A file is missing, empty, of unknown format, too large, or has malformed lines; all of those are named.
pub fn load_rows(root: &Path, files: &[DataFile]) -> Result<Vec<TaskRow>, DataError> {
    let mut all = Vec::new();
    for file in files {
        let rows = read_rows(root, file)?.into_iter();
        all.extend(rows.map(|(row, columns)| TaskRow {
            columns,
            origin: Origin {
                path: file.to_string(),
                row,
            },
        }));
    }
    Ok(all)
}
