//! From the sources of a recipe to rows: read, checked, sampled, in the order of the sources.

use super::error::{DataError, RowProblem};
use super::filter::{FilterReport, FilteredRow, RowFilter};
use super::fold::read_side;
use super::order::permutation;
use super::record::{
    ChatRow, Origin, PairRow, Schema, chat_row, chat_schema, pair_row, pair_schema,
};
use super::source::{RawRow, refuse};
use crate::base::{Digest, SeedTree, counted, digest_file};
use crate::config::spec::DataSource;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::Path;

/// What was read, source by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// In the order of the recipe.
    pub sources: Vec<SourceReport>,
    /// Repeats and contaminated rows, where the recipe has them left out.
    pub filtered: Option<FilterReport>,
    /// Rows of the selection that got an empty system turn, where the recipe asks for it.
    pub system_turns: Option<usize>,
}

impl LoadReport {
    /// Rows of the whole mixture.
    pub fn rows(&self) -> usize {
        self.sources.iter().map(|s| s.used).sum()
    }
}

/// What was read from one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The file, as the recipe names it.
    pub path: String,
    /// Digest of the file.
    pub content: Digest,
    /// The form of its rows.
    pub schema: Schema,
    /// Rows in the file; of a split those on this side.
    pub found: usize,
    /// Rows of the mixture; more than `found` if the source is repeated.
    pub used: usize,
}

/// Reads chat data and applies the mixture. Rows come source by source, not permuted.
///
/// # Errors
/// A file is missing, malformed or of another form; rows cannot be used (all are counted, the first
/// five named by file and line); a share is impossible.
pub fn load_chat(
    root: &Path,
    sources: &[DataSource],
    seed: &SeedTree,
) -> Result<(Vec<ChatRow>, LoadReport), DataError> {
    load_filtered_chat(root, sources, &RowFilter::default(), seed)
}

/// [`load_chat`] of the rows that pass a filter.
pub(super) fn load_filtered_chat(
    root: &Path,
    sources: &[DataSource],
    filter: &RowFilter,
    seed: &SeedTree,
) -> Result<(Vec<ChatRow>, LoadReport), DataError> {
    let (mut rows, report) = load(root, sources, filter, seed, chat_schema, chat_row)?;
    make_ids_unique(rows.iter_mut().map(|r| (&mut r.id, &r.origin)), &report);
    Ok((rows, report))
}

/// [`load_filtered_chat`] of files that were read already: the rows of each source.
pub(super) fn mixed_chat(
    root: &Path,
    sources: &[DataSource],
    files: Vec<Vec<&ChatRow>>,
    filter: &RowFilter,
    seed: &SeedTree,
) -> Result<Vec<ChatRow>, DataError> {
    let mut report = LoadReport::default();
    for (source, rows) in sources.iter().zip(&files) {
        report.sources.push(SourceReport {
            path: source.path.to_string(),
            content: digest_file(&root.join(&source.path))?,
            schema: Schema::Messages,
            found: rows.len(),
            used: 0,
        });
    }
    let rows = mixed(sources, files, filter, seed, &mut report)?;
    let mut rows: Vec<ChatRow> = rows.into_iter().cloned().collect();
    make_ids_unique(rows.iter_mut().map(|r| (&mut r.id, &r.origin)), &report);
    Ok(rows)
}

/// Reads preference pairs and applies the mixture. Rows come source by source, not permuted.
///
/// # Errors
/// As [`load_chat`]; a pair whose halves are equal cannot be used.
pub fn load_pairs(
    root: &Path,
    sources: &[DataSource],
    seed: &SeedTree,
) -> Result<(Vec<PairRow>, LoadReport), DataError> {
    load_filtered_pairs(root, sources, &RowFilter::default(), seed)
}

/// [`load_pairs`] of the rows that pass a filter.
pub(super) fn load_filtered_pairs(
    root: &Path,
    sources: &[DataSource],
    filter: &RowFilter,
    seed: &SeedTree,
) -> Result<(Vec<PairRow>, LoadReport), DataError> {
    let to_row = |path: &str, _: Schema, raw: RawRow| pair_row(path, raw);
    let (mut rows, report) = load(root, sources, filter, seed, pair_schema, to_row)?;
    make_ids_unique(rows.iter_mut().map(|r| (&mut r.id, &r.origin)), &report);
    Ok((rows, report))
}

fn load<T: Clone + Send + Sync + FilteredRow>(
    root: &Path,
    sources: &[DataSource],
    filter: &RowFilter,
    seed: &SeedTree,
    schema_of: impl Fn(&str, &serde_json::Map<String, serde_json::Value>) -> Result<Schema, DataError>,
    to_row: impl Fn(&str, Schema, RawRow) -> Result<T, String> + Sync,
) -> Result<(Vec<T>, LoadReport), DataError> {
    let mut files = Vec::new();
    let mut report = LoadReport::default();
    for source in sources {
        let path = &*source.path;
        let raw = read_side(root, source)?;
        let schema = schema_of(path, &raw[0].1)?;
        let file = parse(path, raw, |raw| to_row(path, schema, raw))?;
        report.sources.push(SourceReport {
            path: path.into(),
            content: digest_file(&root.join(path))?,
            schema,
            found: file.len(),
            used: 0,
        });
        files.push(file);
    }
    let rows = mixed(sources, files, filter, seed, &mut report)?;
    Ok((rows, report))
}

/// The rows of the mixture out of all rows of each file, which the report has; it learns the rest.
fn mixed<T: Clone + Sync + FilteredRow>(
    sources: &[DataSource],
    files: Vec<Vec<T>>,
    filter: &RowFilter,
    seed: &SeedTree,
    report: &mut LoadReport,
) -> Result<Vec<T>, DataError> {
    let (files, filtered) = filter.apply(files);
    report.filtered = filtered;
    let mut rows = Vec::new();
    let mut drawn_from: BTreeMap<Digest, u64> = BTreeMap::new();
    for ((source, file), told) in sources.iter().zip(files).zip(&mut report.sources) {
        // By content, as a run's identity knows a file, and by occurrence: neither the file's name nor
        // another source in front may change this one's sample.
        let occurrence = drawn_from.entry(told.content.clone()).or_insert(0);
        let seed = seed.child("data/mixture").child(&told.content.0);
        let seed = seed.index(*occurrence);
        *occurrence += 1;
        let taken = sample(file.len(), told.found, source, &seed)?;
        told.used = taken.len();
        rows.extend(taken.into_iter().map(|i| file[i].clone()));
    }
    if !rows.is_empty() {
        return Ok(rows);
    }
    let found: usize = report.sources.iter().map(|s| s.found).sum();
    Err(DataError::Limits(if found > 0 {
        format!("no row is left of {found}: all hold texts of the evaluation")
    } else {
        "the data mixture has no sources".to_owned()
    }))
}

/// Every row of a file, or all problems of its rows.
pub(super) fn parse<T: Send>(
    path: &str,
    raw: Vec<RawRow>,
    to_row: impl Fn(RawRow) -> Result<T, String> + Sync,
) -> Result<Vec<T>, DataError> {
    let mut file = Vec::with_capacity(raw.len());
    let mut problems = Vec::new();
    let parsed: Vec<(usize, Result<T, String>)> = raw
        .into_par_iter()
        .map(|raw| (raw.0, to_row(raw)))
        .collect();
    for (row, result) in parsed {
        match result {
            Ok(parsed) => file.push(parsed),
            Err(reason) => problems.push(RowProblem {
                row,
                column: None,
                reason,
            }),
        }
    }
    refuse(path, problems)?;
    Ok(file)
}

/// Which rows of a file are used, whole repeats first and each part in file order; a filter left `n`
/// of its `found` rows.
fn sample(
    n: usize,
    found: usize,
    source: &DataSource,
    seed: &SeedTree,
) -> Result<Vec<usize>, DataError> {
    let refuse = |reason: String| {
        Err(DataError::Mixture {
            path: source.path.to_string(),
            reason,
        })
    };
    let count = source.count.map(NonZeroUsize::get);
    let (repeats, rest) = match (source.fraction, count) {
        (None, None) => (1, 0),
        (Some(_), Some(_)) => return refuse("both `fraction` and `count` are given".to_owned()),
        (None, Some(count)) if count > n => {
            return refuse(if n == found {
                let of = if source.fold.is_some() {
                    "its side of the split"
                } else {
                    "the file"
                };
                format!("`count` is {count}, but {of} has {}", counted(n, "row"))
            } else {
                let are = if n == 1 { "is" } else { "are" };
                format!("`count` is {count}, but only {n} of the file's {found} rows {are} left")
            });
        }
        (None, Some(count)) => (0, count),
        (Some(fraction), None) => {
            let fraction = fraction.get();
            // To the nearest row: 0.29 of 100 is 29, although 0.29 * 100 is below 29 in f64.
            let rest = (fraction.fract() * n as f64).round() as usize;
            (fraction.trunc() as usize, rest)
        }
    };
    if repeats + rest == 0 {
        let rows = counted(n, "row");
        return refuse(format!("its `fraction` of {rows} is less than one row"));
    }
    let mut taken: Vec<usize> = (0..repeats).flat_map(|_| 0..n).collect();
    let mut part = permutation(n, seed);
    part.truncate(rest);
    part.sort_unstable();
    taken.extend(part);
    Ok(taken)
}

/// Gives a row whose id another row has the number of its file in the mixture (from 1; equal files have
/// one number) and its line as a suffix: ids enter artefacts, so the file's name has no part in them.
/// Repeats of a row keep theirs.
pub(super) fn make_ids_unique<'a>(
    rows: impl Iterator<Item = (&'a mut String, &'a Origin)>,
    report: &LoadReport,
) {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for source in &report.sources {
        let same = |other: &SourceReport| other.content == source.content;
        let first = report.sources.iter().position(same);
        numbers.insert(&source.path, first.map_or(0, |at| at + 1));
    }
    let mut owners: HashMap<String, (usize, usize)> = HashMap::new();
    for (id, origin) in rows {
        let (file, row) = (numbers.get(&*origin.path).copied().unwrap_or(0), origin.row);
        // What is made may be the own id of another row: then it gets the suffix once more.
        while *owners.entry(id.clone()).or_insert((file, row)) != (file, row) {
            *id = format!("{id}@{file}:{row}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn source(path: &str, fraction: Option<f64>, count: Option<usize>) -> DataSource {
        DataSource {
            path: path.into(),
            fraction: fraction.map(|fraction| fraction.try_into().unwrap()),
            count: count.and_then(NonZeroUsize::new),
            columns: std::collections::BTreeMap::new(),
            fold: None,
        }
    }

    fn ids(sources: &[DataSource], seed: u64) -> Vec<String> {
        let (rows, _) = load_chat(root(), sources, &SeedTree::root(seed)).unwrap();
        rows.into_iter().map(|r| r.id).collect()
    }

    const INSTRUCT: &str = "data/sft/instruct_test.jsonl"; // 233 rows
    const STORIES: &str = "data/sft/stories_test.jsonl"; // 245 rows

    #[test]
    fn sources_come_in_order_and_all_rows_are_counted() {
        let sources = [
            source(STORIES, None, None),
            source(INSTRUCT, None, Some(10)),
        ];
        let (rows, report) = load_chat(root(), &sources, &SeedTree::root(0)).unwrap();
        assert_eq!(rows.len(), 255);
        assert_eq!(report.rows(), 255);
        assert!(rows[..245].iter().all(|r| r.origin.path == STORIES));
        assert!(rows[245..].iter().all(|r| r.origin.path == INSTRUCT));
        assert_eq!((report.sources[1].found, report.sources[1].used), (233, 10));
        assert_eq!(rows[0].extra["constraints"]["name"], "Fin");
    }

    // 2.1 of 233 rows: twice all of them, and 23 more (23.3 rounded).
    #[test]
    fn the_whole_part_of_a_fraction_repeats_and_the_rest_is_sampled() {
        let ids = ids(&[source(INSTRUCT, Some(2.1), None)], 0);
        assert_eq!(ids.len(), 2 * 233 + 23);
        assert_eq!(ids[..233], ids[233..466]);
        let rest: BTreeSet<&String> = ids[466..].iter().collect();
        assert_eq!(rest.len(), 23);
    }

    #[test]
    fn a_sample_depends_on_the_seed_and_not_on_other_sources() {
        let some = source(INSTRUCT, None, Some(20));
        let alone = ids(std::slice::from_ref(&some), 1);
        assert_eq!(alone, ids(std::slice::from_ref(&some), 1));
        assert_ne!(alone, ids(std::slice::from_ref(&some), 2));
        let behind = ids(&[source(STORIES, None, None), some.clone()], 1);
        assert_eq!(behind[245..], alone);
        let more: BTreeSet<String> = ids(&[source(INSTRUCT, None, Some(40))], 1)
            .into_iter()
            .collect();
        assert!(
            alone.iter().all(|id| more.contains(id)),
            "smaller samples are nested in larger ones"
        );
        let twice = ids(&[some.clone(), some], 1);
        assert_ne!(
            twice[..20],
            twice[20..],
            "a source named twice is sampled twice"
        );
    }

    // A run's identity holds the content of a file and not its name.
    #[test]
    fn neither_samples_nor_ids_depend_on_the_name_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let row = |n: usize| format!("{{\"prompt\": \"say {n}\", \"response\": \"{n}\"}}\n");
        let text: String = (0..50).map(row).collect();
        for name in ["a.jsonl", "b.jsonl"] {
            crate::base::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        }
        let rows = |names: [&str; 2]| -> Vec<(String, String)> {
            let sources = names.map(|name| source(name, None, Some(10)));
            let (rows, _) = load_chat(dir.path(), &sources, &SeedTree::root(3)).unwrap();
            let parts = rows
                .into_iter()
                .map(|r| (r.id, r.messages[0].content.clone()));
            parts.collect()
        };
        let one = rows(["a.jsonl", "a.jsonl"]);
        assert_eq!(one, rows(["a.jsonl", "./b.jsonl"]));
        assert_ne!(one[..10], one[10..]);
    }

    #[test]
    fn impossible_shares_are_refused() {
        let refused = |fraction, count| {
            let sources = [source(INSTRUCT, fraction, count)];
            load_chat(root(), &sources, &SeedTree::root(0))
                .unwrap_err()
                .to_string()
        };
        let lead = format!("data source `{INSTRUCT}`: ");
        assert_eq!(
            refused(None, Some(234)),
            format!("{lead}`count` is 234, but the file has 233 rows")
        );
        assert_eq!(
            refused(Some(1.0), Some(1)),
            format!("{lead}both `fraction` and `count` are given")
        );
        assert_eq!(
            refused(Some(0.001), None),
            format!("{lead}its `fraction` of 233 rows is less than one row")
        );
    }

    #[test]
    fn equal_ids_of_different_rows_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let line = r#"{"id": 1, "prompt": "a", "response": "b"}"#;
        let text = format!("{line}\n{line}\n");
        crate::base::write_atomic(&dir.path().join("a.jsonl"), text.as_bytes()).unwrap();
        let sources = [source("a.jsonl", Some(2.0), None)];
        let (rows, _) = load_chat(dir.path(), &sources, &SeedTree::root(0)).unwrap();
        let ids: Vec<&str> = rows.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["1", "1@1:2", "1", "1@1:2"]);
    }

    #[test]
    fn a_made_id_is_none_that_another_row_has() {
        let dir = tempfile::tempdir().unwrap();
        let line = |id: &str| format!(r#"{{"id": "{id}", "prompt": "a", "response": "b"}}"#);
        let text = ["x", "x@1:3", "x", "x@1:3"].map(line).join("\n");
        crate::base::write_atomic(&dir.path().join("a.jsonl"), text.as_bytes()).unwrap();
        let sources = [source("a.jsonl", Some(2.0), None)];
        let (rows, _) = load_chat(dir.path(), &sources, &SeedTree::root(0)).unwrap();
        let ids: Vec<&str> = rows.iter().map(|r| r.id.as_str()).collect();
        let want = ["x", "x@1:3", "x@1:3@1:3", "x@1:3@1:4"];
        assert_eq!(ids, [want, want].concat());
    }

    #[test]
    fn every_bad_row_of_a_file_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let good = r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#;
        let equal = r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#;
        let empty = r#"{"prompt": "a", "chosen": "b", "rejected": ""}"#;
        let text = format!("{good}\n{equal}\n\n{empty}\n");
        crate::base::write_atomic(&dir.path().join("a.jsonl"), text.as_bytes()).unwrap();
        let error = load_pairs(
            dir.path(),
            &[source("a.jsonl", None, None)],
            &SeedTree::root(0),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "2 bad rows in `a.jsonl`: a.jsonl:2: `chosen` and `rejected` are equal; \
             a.jsonl:4: empty response: `rejected`"
        );
    }

    // Written by pyarrow (tests/golden/make_templates.py): nested lists, nulls, snappy and zstd.
    #[test]
    fn parquet_files_give_the_same_rows_as_json_lines() {
        let sources = [source("tests/fixtures/chat.parquet", None, None)];
        let (rows, report) = load_chat(root(), &sources, &SeedTree::root(0)).unwrap();
        assert_eq!(report.sources[0].schema, Schema::Messages);
        assert_eq!(rows[1].messages.len(), 4);
        assert_eq!(rows[1].messages[3].content, "Zürich");
        assert_eq!(rows[0].extra["score"], 0.5);
        assert!(rows[1].extra["score"].is_null());
        let sources = [source("tests/fixtures/pairs.parquet", None, None)];
        let (pairs, _) = load_pairs(root(), &sources, &SeedTree::root(0)).unwrap();
        assert_eq!(pairs[1].prompt[0].content, "Why?");
        assert_eq!(pairs[1].chosen[0].content, "So.");
        assert_eq!(pairs[1].rejected[0].content, "No.");
        assert_eq!(pairs[1].origin.row, 2);
    }

    #[test]
    fn a_file_that_is_no_parquet_is_named() {
        let dir = tempfile::tempdir().unwrap();
        crate::base::write_atomic(&dir.path().join("a.parquet"), b"not parquet").unwrap();
        let error = load_chat(
            dir.path(),
            &[source("a.parquet", None, None)],
            &SeedTree::root(0),
        );
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot decode the Parquet file `a.parquet`"
        );
        assert!(std::error::Error::source(&error).is_some());
    }
}
