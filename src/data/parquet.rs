//! Parquet files through the row interface, as the same JSON objects that JSONL gives.

use super::error::DataError;
use super::limits::{bytes_of, most_text, too_much};
use super::row_text::python_json;
use crate::base::{PathError, guarded};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};
use std::path::Path;

/// The key of an object that stands for bytes that are no text.
pub(super) const NOT_UTF8: &str = "bytes that are not UTF-8";

/// Reads the first `count` rows. `path` is the name for messages.
pub(super) fn read_parquet(
    file: &Path,
    path: &str,
    count: usize,
) -> Result<Vec<Map<String, Value>>, DataError> {
    // Of damaged columns the library asserts some things that it could refuse.
    guarded("the Parquet library", || Ok(read(file, path, count))).unwrap_or_else(|reason| {
        Err(DataError::Unreadable {
            path: path.to_owned(),
            reason,
        })
    })
}

/// Every row as Python writes it, with its columns in the order of the file.
pub(super) fn read_parquet_texts(file: &Path, path: &str) -> Result<Vec<String>, DataError> {
    guarded("the Parquet library", || {
        let broken = |e: &dyn std::fmt::Display| e.to_string();
        let handle = std::fs::File::open(file).map_err(|e| broken(&e))?;
        let reader = SerializedFileReader::new(handle).map_err(|e| broken(&e))?;
        let rows = reader.get_row_iter(None).map_err(|e| broken(&e))?;
        let text = |row: Result<Row, _>| {
            let json = ordered(row.map_err(|e: parquet::errors::ParquetError| broken(&e))?);
            python_json(&json).map_err(|e| broken(&e))
        };
        rows.map(text).collect::<Result<Vec<_>, String>>()
    })
    .map_err(|reason| DataError::Unreadable {
        path: path.to_owned(),
        reason,
    })
}

/// A row or struct as the text of a JSON object, its columns in order.
fn ordered(row: Row) -> String {
    let pairs = row.into_columns().into_iter().map(|(name, field)| {
        let text = match field {
            Field::Group(row) => ordered(row),
            Field::ListInternal(list) => {
                let items = list.elements().iter().cloned().map(|item| match item {
                    Field::Group(row) => ordered(row),
                    item => value(item).to_string(),
                });
                format!("[{}]", items.collect::<Vec<_>>().join(","))
            }
            field => value(field).to_string(),
        };
        format!("{}:{text}", Value::from(name))
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fn read(file: &Path, path: &str, count: usize) -> Result<Vec<Map<String, Value>>, DataError> {
    let broken = |source| DataError::Parquet {
        path: path.to_owned(),
        source,
    };
    let handle = std::fs::File::open(file).map_err(|e| PathError::new("open", file, e))?;
    let size = handle.metadata().map_or(0, |found| found.len());
    let reader = SerializedFileReader::new(handle).map_err(broken)?;
    let most = most_text(size);
    let groups = reader.metadata().row_groups().iter();
    let unpacked: u64 = groups
        .map(|group| u64::try_from(group.total_byte_size()).unwrap_or(0))
        .fold(0, u64::saturating_add);
    if unpacked > most && count == usize::MAX {
        return Err(too_much(path, most));
    }
    let mut rows = Vec::new();
    // A dictionary lets one long text stand in every row, so that the sizes in the file say little.
    let mut text = 0u64;
    for row in reader.get_row_iter(None).map_err(broken)?.take(count) {
        let row = object(row.map_err(broken)?);
        text = text.saturating_add(row.values().map(bytes_of).sum::<usize>() as u64);
        if text > most {
            return Err(too_much(path, most));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A row or struct as a JSON object.
fn object(row: Row) -> Map<String, Value> {
    let columns = row.into_columns().into_iter();
    columns.map(|(name, f)| (name, value(f))).collect()
}

/// A cell as JSON. Types without a JSON counterpart (dates, decimals) become their text.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(v) => v.into(),
        Field::Byte(v) => v.into(),
        Field::Short(v) => v.into(),
        Field::Int(v) => v.into(),
        Field::Long(v) => v.into(),
        Field::UByte(v) => v.into(),
        Field::UShort(v) => v.into(),
        Field::UInt(v) => v.into(),
        Field::ULong(v) => v.into(),
        Field::Float(v) => Number::from_f64(f64::from(v)).map_or(Value::Null, Value::Number),
        Field::Double(v) => Number::from_f64(v).map_or(Value::Null, Value::Number),
        Field::Str(v) => Value::String(v),
        Field::Bytes(v) => match std::str::from_utf8(v.data()) {
            Ok(text) => text.into(),
            // Images and the like, which nobody reads as text; of what is read the row is refused.
            Err(_) => serde_json::json!({ (NOT_UTF8): v.data().len() }),
        },
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let pairs = map.entries().iter().cloned();
            Value::Object(pairs.map(|(k, v)| (key(k), value(v))).collect())
        }
        other => Value::String(other.to_string()),
    }
}

/// A map's key as text.
fn key(field: Field) -> String {
    match value(field) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
