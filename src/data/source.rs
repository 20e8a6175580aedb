//! Rows of a data file as JSON objects, with the line or row they came from.
//!
//! What a file is, its content tells: Parquet, a JSON list, or JSON lines, the latter two perhaps
//! compressed by gzip or Zstandard. Files come from strangers: what a small file can grow to is bounded.

use super::error::{DataError, RowProblem, RowProblems};
use super::limits::{MAX_ROW, bytes_of, most_text, row_too_long, too_much};
use super::parquet::{read_parquet, read_parquet_texts};
use super::row_text::{Dump, python_json};
use crate::base::PathError;
use crate::config::spec::DataSource;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// One row of a file: its number from 1 (a line of JSON lines, else a row), and its content.
pub(super) type RawRow = (usize, Map<String, Value>);

/// Reads every row of a source, with its columns under our names.
///
/// # Errors
/// As [`read_rows`]; a column that the source names is in no row.
pub(super) fn read_source(root: &Path, source: &DataSource) -> Result<Vec<RawRow>, DataError> {
    let rows = read_rows(root, &source.path)?;
    has_columns(&rows, source)?;
    Ok(renamed(rows, source))
}

/// Most bytes of text of a file that is only looked at, and most rows of a Parquet file that is larger.
const GLANCE_BYTES: u64 = 16 << 20;
const GLANCE_ROWS: usize = 1000;

/// As [`read_source`], of a large file only the rows at its beginning; whether those are all. A packed
/// file is unpacked no further than that.
///
/// # Errors
/// As [`read_source`]; of a large file a column may first occur further on, and is not asked for.
pub(super) fn glance_at_source(
    root: &Path,
    source: &DataSource,
) -> Result<(Vec<RawRow>, bool), DataError> {
    let (rows, whole) = read_beginning(root, &source.path)?;
    if whole {
        has_columns(&rows, source)?;
    }
    Ok((renamed(rows, source), whole))
}

/// The rows at the beginning of `root/path`, and whether those are all.
fn read_beginning(root: &Path, path: &str) -> Result<(Vec<RawRow>, bool), DataError> {
    let opened = Opened::new(root, path)?;
    let (rows, whole) = if opened.text.is_some() {
        let bytes = opened.bytes(GLANCE_BYTES)?;
        let whole = bytes.len() as u64 <= GLANCE_BYTES;
        (read_json(&bytes, path, whole)?, whole)
    } else if opened.size > GLANCE_BYTES {
        let rows = read_parquet(&opened.file, path, GLANCE_ROWS)?;
        ((1..).zip(rows).collect(), false)
    } else {
        (opened.parquet(path)?, true)
    };
    Ok((some(rows, path)?, whole))
}

/// Refuses a source that names a column which is in no row.
fn has_columns(rows: &[RawRow], source: &DataSource) -> Result<(), DataError> {
    for (ours, theirs) in &source.columns {
        if !rows.iter().any(|(_, row)| row.contains_key(theirs)) {
            let keys: Vec<String> = rows[0].1.keys().map(|key| format!("`{key}`")).collect();
            return Err(DataError::Mixture {
                path: source.path.to_string(),
                reason: format!(
                    "no row has the column `{theirs}` that is to be `{ours}`; the first has {}",
                    keys.join(", ")
                ),
            });
        }
    }
    Ok(())
}

/// Rows with their columns under our names.
fn renamed(mut rows: Vec<RawRow>, source: &DataSource) -> Vec<RawRow> {
    if source.columns.is_empty() {
        return rows;
    }
    for (_, row) in &mut rows {
        // All are taken before any is put back, so that two may change places.
        let taken: Vec<(&String, Option<Value>)> = source
            .columns
            .iter()
            .map(|(ours, theirs)| (ours, row.get(theirs).cloned()))
            .collect();
        row.retain(|key, _| !source.columns.values().any(|theirs| theirs == key));
        for (ours, value) in taken {
            row.remove(ours);
            row.extend(value.map(|value| (ours.clone(), value)));
        }
    }
    rows
}

/// Reads every row of `root/path`.
///
/// # Errors
/// The file is missing, empty, of unknown format, too large, or has malformed lines; all of those are
/// named.
pub(super) fn read_rows(root: &Path, path: &str) -> Result<Vec<RawRow>, DataError> {
    let opened = Opened::new(root, path)?;
    let rows = if opened.text.is_none() {
        opened.parquet(path)?
    } else {
        let most = if opened.packed {
            most_text(opened.size)
        } else {
            u64::MAX
        };
        let bytes = opened.bytes(most)?;
        if bytes.len() as u64 > most {
            return Err(too_much(path, most));
        }
        read_json(&bytes, path, true)?
    };
    some(rows, path)
}

/// Every row of `root/path`, which [`read_rows`] has read, as Python writes it, by its number.
///
/// # Errors
/// As [`read_rows`].
pub(super) fn raw_rows(root: &Path, path: &str) -> Result<Vec<(usize, String)>, DataError> {
    let opened = Opened::new(root, path)?;
    if opened.text.is_none() {
        let texts = read_parquet_texts(&opened.file, path)?;
        return Ok((1..).zip(texts).collect());
    }
    let bytes = opened.bytes(u64::MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let broken = |e: serde_json::Error| DataError::Unreadable {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    if text.trim_start().starts_with('[') {
        let mut texts = Vec::new();
        let mut list = serde_json::Deserializer::from_str(text);
        list.deserialize_seq(Texts(&mut texts)).map_err(broken)?;
        return Ok((1..).zip(texts).collect());
    }
    let lines = (1..).zip(text.split('\n'));
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    filled
        .map(|(row, line)| Ok((row, python_json(line).map_err(broken)?)))
        .collect()
}

/// The items of a list, each as Python writes it.
struct Texts<'t>(&'t mut Vec<String>);

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        loop {
            let mut out = String::new();
            let dump = Dump {
                out: &mut out,
                depth: 0,
            };
            if items.next_element_seed(dump)?.is_none() {
                return Ok(());
            }
            self.0.push(out);
        }
    }
}

/// The rows, if there are any.
fn some(rows: Vec<RawRow>, path: &str) -> Result<Vec<RawRow>, DataError> {
    if rows.is_empty() {
        return Err(DataError::EmptyFile {
            path: path.to_owned(),
        });
    }
    Ok(rows)
}

/// A data file.
struct Opened {
    file: PathBuf,
    /// Bytes on disk.
    size: u64,
    packed: bool,
    /// What it holds, unpacked; absent of a Parquet file.
    text: Option<Box<dyn Read>>,
}

impl Opened {
    fn new(root: &Path, path: &str) -> Result<Self, DataError> {
        let file = root.join(path);
        if !crate::config::is_data_file(path) {
            return Err(DataError::UnknownFormat {
                path: path.to_owned(),
            });
        }
        let failed = |what, e| PathError::new(what, &file, e);
        let found = std::fs::metadata(&file).map_err(|e| failed("read", e))?;
        if !found.is_file() {
            return Err(failed("read", std::io::Error::other("it is no file")).into());
        }
        if found.len() == 0 {
            // Not opened: files of the kernel's say that they are empty, and some of them (/proc/kmsg) never end.
            return Ok(Self {
                size: 0,
                packed: false,
                text: Some(Box::new(std::io::empty())),
                file,
            });
        }
        let open = || std::fs::File::open(&file).map_err(|e| failed("open", e));
        let mut head = Vec::new();
        let read = open()?.take(8).read_to_end(&mut head);
        read.map_err(|e| failed("read", e))?;
        let named = path.to_ascii_lowercase().ends_with(".parquet");
        let (packed, text): (bool, Option<Box<dyn Read>>) = if named || head.starts_with(b"PAR1") {
            (false, None)
        } else if head.starts_with(b"\x1f\x8b") {
            (
                true,
                Some(Box::new(flate2::read::MultiGzDecoder::new(open()?))),
            )
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") {
            let decoder = zstd::Decoder::new(open()?).map_err(|e| failed("read", e))?;
            (true, Some(Box::new(decoder)))
        } else {
            (false, Some(Box::new(open()?)))
        };
        Ok(Self {
            size: found.len(),
            packed,
            text,
            file,
        })
    }

    /// The first bytes of the text: one more than `most`, if there are.
    fn bytes(self, most: u64) -> Result<Vec<u8>, DataError> {
        let what = if self.packed { "unpack" } else { "read" };
        let mut bytes = Vec::new();
        if let Some(text) = self.text {
            let read = text.take(most.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|e| PathError::new(what, &self.file, e))?;
        }
        Ok(bytes)
    }

    /// Every row of a Parquet file.
    fn parquet(&self, path: &str) -> Result<Vec<RawRow>, DataError> {
        let rows = read_parquet(&self.file, path, usize::MAX)?;
        short((1..).zip(rows).collect(), path)
    }
}

/// `rows` if none is too long.
fn short(rows: Vec<RawRow>, path: &str) -> Result<Vec<RawRow>, DataError> {
    let long = |row: &&RawRow| row.1.values().map(bytes_of).sum::<usize>() > MAX_ROW;
    let problem = |row: &RawRow| RowProblem {
        row: row.0,
        column: None,
        reason: row_too_long(),
    };
    refuse(path, rows.iter().filter(long).map(problem).collect())?;
    Ok(rows)
}

/// Rows of a JSON list, or JSON lines; of a text that is not `whole` those that are complete. A byte order
/// mark, CRLF line ends and blank lines are let pass.
fn read_json(bytes: &[u8], path: &str, whole: bool) -> Result<Vec<RawRow>, DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(DataError::Unreadable {
            path: path.to_owned(),
            reason: "it is a Git LFS pointer, the file itself was not fetched (`git lfs pull`)"
                .to_owned(),
        });
    }
    if bytes.trim_ascii_start().starts_with(b"[") {
        return read_list(bytes, path, whole);
    }
    // A line that is longer than all that was read is refused for its length.
    let end = bytes.iter().rposition(|&b| b == b'\n').filter(|_| !whole);
    let bytes = &bytes[..end.unwrap_or(bytes.len())];
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
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
    let broken = problems
        .first()
        .is_some_and(|p| p.row == 1 && p.column.is_some());
    let spread = broken && bytes.starts_with(b"{");
    if spread && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return Err(DataError::Unreadable {
            path: path.to_owned(),
            reason: "it is one JSON object, expected a list of objects, or an object a line"
                .to_owned(),
        });
    }
    refuse(path, problems)?;
    Ok(rows)
}

/// The items of a list, kept where reading it ends early.
struct Items<'i>(&'i mut Vec<Value>);

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            self.0.push(item);
        }
        Ok(())
    }
}

/// Rows of a JSON list, or of its beginning; they are numbered from 1, a syntax error has its line and
/// column.
fn read_list(bytes: &[u8], path: &str, whole: bool) -> Result<Vec<RawRow>, DataError> {
    let problem = |row, column, reason| RowProblem {
        row,
        column,
        reason,
    };
    let mut items = Vec::new();
    let mut list = serde_json::Deserializer::from_slice(bytes);
    let read = list.deserialize_seq(Items(&mut items));
    match read.and_then(|()| list.end()) {
        Err(e) if whole || !e.is_eof() => {
            let reason = format!("not a JSON list of rows: {}", without_place(&e));
            refuse(path, vec![problem(e.line(), Some(e.column()), reason)])?;
        }
        Err(_) if items.is_empty() => refuse(path, vec![problem(1, None, row_too_long())])?,
        _ => {}
    }
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        match item {
            Value::Object(row) if row.values().map(bytes_of).sum::<usize>() <= MAX_ROW => {
                rows.push((index + 1, row));
            }
            Value::Object(_) => problems.push(problem(index + 1, None, row_too_long())),
            other => problems.push(problem(index + 1, None, no_object(&other))),
        }
    }
    refuse(path, problems)?;
    Ok(rows)
}

/// serde_json ends with " at line 1 column 7"; our line number is the file's.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// A JSON object, or the column (from 1) and the reason why the line is none.
fn parse_line(line: &[u8]) -> Result<Map<String, Value>, (Option<usize>, String)> {
    if line.len() > MAX_ROW {
        return Err((None, row_too_long()));
    }
    let text = std::str::from_utf8(line)
        .map_err(|e| (Some(e.valid_up_to() + 1), "not UTF-8".to_owned()))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err((None, no_object(&other))),
        Err(e) => Err((Some(e.column()), without_place(&e))),
    }
}

fn no_object(value: &Value) -> String {
    format!("expected a JSON object, found {}", kind(value))
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
        std::fs::create_dir(dir.path().join("d.jsonl")).unwrap();
        let folder = read_rows(dir.path(), "d.jsonl").unwrap_err();
        assert!(matches!(folder, DataError::File(_)), "{folder}");
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let level = flate2::Compression::default();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), level);
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    // The content tells what a file is, whatever it is called.
    #[test]
    fn lists_and_compressed_files_are_read_as_lines_are() {
        let lines = b"{\"a\": 1}\n{\"a\": 2}\n".as_slice();
        let list = b" [\n {\"a\":\n 1}, {\"a\": 2}\n]\n".as_slice();
        for text in [lines, list] {
            let packed = [
                text.to_vec(),
                gzip(text),
                zstd::encode_all(text, 0).unwrap(),
            ];
            for bytes in packed {
                let dir = write(&bytes);
                let rows = read_rows(dir.path(), "a.jsonl").unwrap();
                assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2]);
                assert_eq!(rows[1].1["a"], 2);
            }
        }
        let dir = write(lines);
        for name in ["b.ndjson", "c.JSONL", "d.json", "e.jsonl.gz", "f.json.zst"] {
            std::fs::copy(dir.path().join("a.jsonl"), dir.path().join(name)).unwrap();
            assert_eq!(read_rows(dir.path(), name).unwrap().len(), 2, "{name}");
        }
    }

    #[test]
    fn a_packed_file_or_a_list_is_read_no_further_than_its_beginning() {
        let row = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
        let lines = format!("{row}\n").repeat(18);
        let list = format!("[{}]", vec![row.as_str(); 18].join(",\n"));
        // What follows the beginning is not looked at, whatever it is.
        let broken = format!("{lines}{{\"a\": }}\n");
        for text in [&lines, &list, &broken] {
            for bytes in [text.clone().into_bytes(), gzip(text.as_bytes())] {
                let dir = write(&bytes);
                let source = serde_json::json!({ "path": "a.jsonl" });
                let source: DataSource = serde_json::from_value(source).unwrap();
                let (rows, whole) = glance_at_source(dir.path(), &source).unwrap();
                assert_eq!((rows.len(), whole), (15, false));
                assert_eq!(rows[14].0, 15);
            }
        }
        let dir = write(&gzip(broken.as_bytes()));
        assert!(read_rows(dir.path(), "a.jsonl").is_err());
    }

    #[test]
    fn what_is_no_list_of_rows_says_so() {
        let said = |text: &[u8]| {
            let dir = write(text);
            read_rows(dir.path(), "a.jsonl").unwrap_err().to_string()
        };
        let broken = said(b"[\n {\"a\": 1},\n {\"a\" 2}\n]");
        assert_eq!(
            broken,
            "1 bad row in `a.jsonl`: a.jsonl:3:7: not a JSON list of rows: expected `:`"
        );
        let mixed = said(b"[{\"a\": 1}, 2]");
        assert_eq!(
            mixed,
            "1 bad row in `a.jsonl`: a.jsonl:2: expected a JSON object, found a number"
        );
        assert!(said(b"{\n \"a\": 1\n}\n").contains("one JSON object"));
        assert!(
            said(b"version https://git-lfs.github.com/spec/v1\noid x\n").contains("git lfs pull")
        );
    }

    #[test]
    fn long_rows_and_files_that_grow_without_bound_are_refused() {
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_ROW));
        let dir = write(long.as_bytes());
        let error = read_rows(dir.path(), "a.jsonl").unwrap_err().to_string();
        assert!(error.ends_with("it is longer than 16 MiB"), "{error}");
        let bomb = gzip(&vec![b' '; 300 << 20]);
        let dir = write(&bomb);
        let error = read_rows(dir.path(), "a.jsonl").unwrap_err().to_string();
        assert!(error.contains("unpacks to more than"), "{error}");
        let dir = write(&[&gzip(b"{\"a\": 1}")[..20], b"junk"].concat());
        assert!(read_rows(dir.path(), "a.jsonl").is_err());
    }

    #[test]
    fn columns_are_read_under_our_names() {
        let dir = write(b"{\"q\": \"Q\", \"prompt\": \"A\", \"x\": 1}\n{\"q\": \"R\"}\n");
        let source = |columns: Value| -> DataSource {
            serde_json::from_value(serde_json::json!({"path": "a.jsonl", "columns": columns}))
                .unwrap()
        };
        let mapped = source(serde_json::json!({"prompt": "q", "response": "prompt"}));
        let rows = read_source(dir.path(), &mapped).unwrap();
        let want = serde_json::json!({"x": 1, "prompt": "Q", "response": "A"});
        assert_eq!(Value::Object(rows[0].1.clone()), want);
        assert_eq!(
            Value::Object(rows[1].1.clone()),
            serde_json::json!({"prompt": "R"})
        );
        let error = read_source(
            dir.path(),
            &source(serde_json::json!({"prompt": "question"})),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("no row has the column `question`"),
            "{error}"
        );
    }
}
