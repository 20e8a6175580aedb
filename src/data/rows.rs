//! Rows of data files as they are, for evaluation tasks, which say themselves what their columns mean.

use super::error::DataError;
use super::record::Origin;
use super::source::{raw_rows, read_rows};
use crate::config::spec::DataFile;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
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

/// The rows of several files as `json.dumps(row, indent=2, ensure_ascii=False)` of Python writes them, by file and number of the row ([`Origin`]).
///
/// # Errors
/// As [`load_rows`].
pub fn row_texts(
    root: &Path,
    files: &[DataFile],
) -> Result<BTreeMap<(String, usize), String>, DataError> {
    let mut all = BTreeMap::new();
    for file in files {
        let rows = raw_rows(root, file)?.into_iter();
        all.extend(rows.map(|(row, text)| ((file.to_string(), row), text)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic as write;

    fn files(file: &str) -> Vec<DataFile> {
        serde_json::from_value(serde_json::json!([file])).unwrap()
    }

    #[test]
    fn rows_keep_the_order_of_their_columns_in_every_format() {
        let dir = tempfile::tempdir().unwrap();
        let rows = "{\"b\": 1, \"a\": \"x\"}";
        write(
            &dir.path().join("a.jsonl"),
            format!("\u{feff}{rows}\r\n\n{rows}\n").as_bytes(),
        )
        .unwrap();
        write(
            &dir.path().join("b.json"),
            format!("[{rows},\n {rows}]").as_bytes(),
        )
        .unwrap();
        let want = "{\n  \"b\": 1,\n  \"a\": \"x\"\n}".to_owned();
        let of = |file: &str| row_texts(dir.path(), &files(file)).unwrap();
        let lines = of("a.jsonl");
        assert_eq!(lines[&("a.jsonl".to_owned(), 3)], want);
        assert_eq!(lines.len(), 2);
        let list = of("b.json");
        assert_eq!(list.into_values().collect::<Vec<_>>(), [want.clone(), want]);
    }
}
