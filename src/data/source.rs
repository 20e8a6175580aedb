//! Rows of a data file as JSON objects, with the line or row they came from.

use super::error::{DataError, RowProblem, RowProblems};
use super::parquet::read_parquet;
use crate::base::PathError;
use serde_json::{Map, Value};
use std::path::Path;

/// One row of a file: its line (JSONL) or row (Parquet) number from 1, and its content.
pub(super) type RawRow = (usize, Map<String, Value>);

/// Reads every row of `root/path`; the extension tells the format.
///
/// # Errors
/// The file is missing, empty, of unknown format, or has malformed lines; all of those are named.
pub(super) fn read_rows(root: &Path, path: &str) -> Result<Vec<RawRow>, DataError> {
    let file = root.join(path);
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or("");
    let rows = match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" | "jsonlines" => read_jsonl(&file, path)?,
        "parquet" => (1..).zip(read_parquet(&file, path)?).collect(),
        _ => {
            return Err(DataError::UnknownFormat {
                path: path.to_owned(),
            });
        }
    };
    if rows.is_empty() {
        return Err(DataError::EmptyFile {
            path: path.to_owned(),
        });
    }
    Ok(rows)
}

/// JSON lines. A byte order mark, CRLF line ends and blank lines are let pass.
fn read_jsonl(file: &Path, path: &str) -> Result<Vec<RawRow>, DataError> {
    let bytes = std::fs::read(file).map_err(|e| PathError::new("read", file, e))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match parse_line(line) {
            Ok(row) => rows.push((index + 1, row)),
            Err((column, reason)) => problems.push(RowProblem {
                row: index + 1,
                column,
                reason,
            }),
        }
    }
    refuse(path, problems)?;
    Ok(rows)
}

/// A JSON object, or the column (from 1) and the reason why the line is none.
fn parse_line(line: &[u8]) -> Result<Map<String, Value>, (Option<usize>, String)> {
    let text = std::str::from_utf8(line)
        .map_err(|e| (Some(e.valid_up_to() + 1), "not UTF-8".to_owned()))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err((
            None,
            format!("expected a JSON object, found {}", kind(&other)),
        )),
        Err(e) => {
            // serde_json ends with " at line 1 column 7"; our line number is the file's.
            let text = e.to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
            Err((Some(e.column()), reason))
        }
    }
}

/// The error for `problems`, if there are any.
pub(super) fn refuse(path: &str, rows: Vec<RowProblem>) -> Result<(), DataError> {
    if rows.is_empty() {
        return Ok(());
    }
    let path = path.to_owned();
    Err(DataError::BadRows {
        problems: RowProblems { path, rows },
    })
}

/// What a JSON value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        crate::base::write_atomic(&dir.path().join("a.jsonl"), text).unwrap();
        dir
    }

    #[test]
    fn byte_order_mark_crlf_and_blank_lines_pass_and_lines_keep_their_numbers() {
        let dir = write(b"\xef\xbb\xbf{\"a\": 1}\r\n\r\n   \n{\"a\": 2}");
        let rows = read_rows(dir.path(), "a.jsonl").unwrap();
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(rows[1].1["a"], 2);
    }

    #[test]
    fn every_malformed_line_is_named_with_its_column() {
        let dir = write(b"{\"a\": 1}\n{\"a\": }\n[1]\n{\"a\": \"\xff\"}\n");
        let error = read_rows(dir.path(), "a.jsonl").unwrap_err().to_string();
        assert_eq!(
            error,
            "3 bad rows in `a.jsonl`: a.jsonl:2:7: expected value; a.jsonl:3: expected a JSON \
             object, found a list; a.jsonl:4:8: not UTF-8"
        );
    }

    #[test]
    fn an_empty_file_and_a_missing_file_are_errors() {
        let dir = write(b"\n\n");
        let empty = read_rows(dir.path(), "a.jsonl").unwrap_err();
        assert_eq!(empty.to_string(), "`a.jsonl` has no rows");
        assert!(matches!(
            read_rows(dir.path(), "b.jsonl").unwrap_err(),
            DataError::File(_)
        ));
        assert!(matches!(
            read_rows(dir.path(), "a.csv").unwrap_err(),
            DataError::UnknownFormat { .. }
        ));
    }
}
