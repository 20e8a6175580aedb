//! From the sources of a recipe to rows: read, checked, sampled, in the order of the sources.

use super::error::{DataError, RowProblem};
use super::order::permutation;
use super::record::{
    ChatRow, Origin, PairRow, Schema, chat_row, chat_schema, pair_row, pair_schema,
};
use super::source::{RawRow, read_rows, refuse};
use crate::base::SeedTree;
use crate::config::spec::DataSource;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What was read, source by source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// In the order of the recipe.
    pub sources: Vec<SourceReport>,
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
    /// The form of its rows.
    pub schema: Schema,
    /// Rows in the file.
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
    let (mut rows, report) = load(root, sources, seed, chat_schema, chat_row)?;
    make_ids_unique(rows.iter_mut().map(|r| (&mut r.id, &r.origin)));
    Ok((rows, report))
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
    let to_row = |path: &str, _: Schema, raw: RawRow| pair_row(path, raw);
    let (mut rows, report) = load(root, sources, seed, pair_schema, to_row)?;
    make_ids_unique(rows.iter_mut().map(|r| (&mut r.id, &r.origin)));
    Ok((rows, report))
}

fn load<T: Clone + Send>(
    root: &Path,
    sources: &[DataSource],
    seed: &SeedTree,
    schema_of: impl Fn(&str, &serde_json::Map<String, serde_json::Value>) -> Result<Schema, DataError>,
    to_row: impl Fn(&str, Schema, RawRow) -> Result<T, String> + Sync,
) -> Result<(Vec<T>, LoadReport), DataError> {
    let mut rows = Vec::new();
    let mut report = LoadReport::default();
    let mut named: BTreeMap<&str, u64> = BTreeMap::new();
    for source in sources {
        let path = source.path.as_str();
        let raw = read_rows(root, path)?;
        let schema = schema_of(path, &raw[0].1)?;
        let mut file = Vec::with_capacity(raw.len());
        let mut problems = Vec::new();
        let parsed: Vec<(usize, Result<T, String>)> = raw
            .into_par_iter()
            .map(|raw| (raw.0, to_row(path, schema, raw)))
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
        // By path and occurrence: another source in front must not change this one's sample.
        let occurrence = named.entry(path).or_insert(0);
        let seed = seed.child("data/mixture").child(path).index(*occurrence);
        *occurrence += 1;
        let taken = sample(file.len(), source, &seed)?;
        report.sources.push(SourceReport {
            path: path.to_owned(),
            schema,
            found: file.len(),
            used: taken.len(),
        });
        rows.extend(taken.into_iter().map(|i| file[i].clone()));
    }
    if rows.is_empty() {
        return Err(DataError::Limits(
            "the data mixture has no sources".to_owned(),
        ));
    }
    Ok((rows, report))
}

/// Which rows of a file of `n` rows are used, whole repeats first and each part in file order.
fn sample(n: usize, source: &DataSource, seed: &SeedTree) -> Result<Vec<usize>, DataError> {
    let refuse = |reason: String| {
        Err(DataError::Mixture {
            path: source.path.clone(),
            reason,
        })
    };
    let (repeats, rest) = match (source.fraction, source.count) {
        (None, None) => (1, 0),
        (Some(_), Some(_)) => return refuse("both `fraction` and `count` are given".to_owned()),
        (None, Some(0)) => return refuse("`count` is 0".to_owned()),
        (None, Some(count)) if count > n => {
            return refuse(format!("`count` is {count}, but the file has {n} rows"));
        }
        (None, Some(count)) => (0, count),
        (Some(fraction), None) => {
            if !fraction.is_finite() || fraction <= 0.0 {
                return refuse(format!("`fraction` is {fraction}, expected above 0"));
            }
            // To the nearest row: 0.29 of 100 is 29, although 0.29 * 100 is below 29 in f64.
            let rest = (fraction.fract() * n as f64).round() as usize;
            (fraction.trunc() as usize, rest)
        }
    };
    if repeats + rest == 0 {
        return refuse(format!("its `fraction` of {n} rows is less than one row"));
    }
    let mut taken: Vec<usize> = (0..repeats).flat_map(|_| 0..n).collect();
    let mut part = permutation(n, seed);
    part.truncate(rest);
    part.sort_unstable();
    taken.extend(part);
    Ok(taken)
}

/// Gives a row whose id another row has, its file and line as a suffix. Repeats of a row keep theirs.
fn make_ids_unique<'a>(rows: impl Iterator<Item = (&'a mut String, &'a Origin)>) {
    let mut first: BTreeMap<String, Origin> = BTreeMap::new();
    for (id, origin) in rows {
        let owner = first.entry(id.clone()).or_insert_with(|| origin.clone());
        if owner != origin {
            *id = format!("{id}@{origin}");
        }
    }
}
