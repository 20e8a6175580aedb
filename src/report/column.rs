//! One metric of several configurations as the statistics want it: by seed, by row, rows by cluster.

use crate::metrics::{Arm, Column, RowSet, SeedValues, metric_set, metric_spec};
use crate::plan::RunId;
use crate::report::select::{Configuration, ReportError, RowValue, SweepResults, TrialResult};
use std::collections::BTreeMap;

/// Rows of more evaluations than this are not read: a table of so many says nothing about rows, and says so.
pub const MOST_ROW_FILES: usize = 600;

/// Rows that do not average to the stored value this closely do not describe it.
const ADDS_UP: f64 = 1e-4;

/// Reads rows of evaluation runs, each file once.
pub(crate) struct ColumnReader<'a> {
    results: &'a SweepResults,
    read: BTreeMap<RunId, BTreeMap<(String, String), RowValue>>,
}

/// Rows of one run in one set: ids, values, weights, and clusters where they are named.
struct RunRows<'a> {
    ids: Vec<&'a str>,
    values: Vec<f64>,
    weights: Vec<f64>,
    clusters: Vec<Option<&'a str>>,
}

impl<'a> ColumnReader<'a> {
    pub(crate) fn new(results: &'a SweepResults) -> Self {
        Self {
            results,
            read: BTreeMap::new(),
        }
    }

    /// The column of `key` with an arm for each configuration, in their order.
    ///
    /// # Errors
    /// A results file is there and cannot be read.
    pub(crate) fn column(
        &mut self,
        configurations: &[Configuration<'_>],
        key: &str,
    ) -> Result<Column, ReportError> {
        let spec = metric_spec(key);
        let evals = configurations.iter().map(|c| c.trials.len()).sum::<usize>();
        let with_rows = evals <= MOST_ROW_FILES && !spec.row_key.is_empty();
        let mut column = Column {
            transform: spec.transform,
            share: spec.is_share,
            ..Column::default()
        };
        let mut runs: BTreeMap<&RunId, usize> = BTreeMap::new();
        let mut sets: Vec<(Vec<String>, RowSet)> = Vec::new();
        for configuration in configurations {
            let mut seeds = Vec::new();
            let mut trials: Vec<&TrialResult> = Vec::new();
            for trial in &configuration.trials {
                let Some(found) = self.results.metric(trial, key) else {
                    continue;
                };
                if !found.value.is_finite()
                    || seeds.iter().any(|s: &SeedValues| s.seed == trial.seed)
                {
                    continue;
                }
                let next = runs.len();
                seeds.push(SeedValues {
                    seed: trial.seed,
                    run: *runs.entry(&trial.eval).or_insert(next),
                    value: found.value,
                    rows: Vec::new(),
                });
                trials.push(trial);
            }
            let row_set = if with_rows {
                self.add_rows(&mut seeds, &trials, key, &mut sets)?
            } else {
                None
            };
            column.arms.push(Arm { seeds, row_set });
        }
        column.row_sets = sets.into_iter().map(|(_, set)| set).collect();
        Ok(column)
    }

    /// Fills in the rows of an arm's seeds, if all have the same ones and they add up; returns which of
    /// `sets` they are.
    fn add_rows(
        &mut self,
        seeds: &mut [SeedValues],
        trials: &[&TrialResult],
        key: &str,
        sets: &mut Vec<(Vec<String>, RowSet)>,
    ) -> Result<Option<usize>, ReportError> {
        for trial in trials {
            self.load(&trial.eval)?;
        }
        let found: Option<Vec<RunRows<'_>>> =
            trials.iter().map(|t| self.rows_of(&t.eval, key)).collect();
        let Some(found) = found.filter(|found| !found.is_empty()) else {
            return Ok(None);
        };
        let ids: Vec<String> = found[0].ids.iter().map(|id| (*id).to_owned()).collect();
        let set = RowSet {
            weights: found[0].weights.clone(),
            clusters: numbered(&found[0]),
        };
        let transform = metric_spec(key).transform;
        let fits = |(rows, seed): (&RunRows<'_>, &SeedValues)| {
            let mean = transform.apply(set.mean(&rows.values));
            rows.ids == found[0].ids
                && (mean - seed.value).abs() <= ADDS_UP * seed.value.abs().max(1e-9)
        };
        if !found.iter().zip(seeds.iter()).all(fits) {
            return Ok(None);
        }
        for (seed, rows) in seeds.iter_mut().zip(&found) {
            seed.rows.clone_from(&rows.values);
        }
        let known = sets
            .iter()
            .position(|(known, of)| *known == ids && of.weights == set.weights);
        let Some(known) = known else {
            sets.push((ids, set));
            return Ok(Some(sets.len() - 1));
        };
        // Results of earlier versions name no clusters; those of the same rows do.
        if set.cluster_count() < sets[known].1.cluster_count() {
            sets[known].1.clusters = set.clusters;
        }
        Ok(Some(known))
    }

    fn load(&mut self, run: &RunId) -> Result<(), ReportError> {
        if !self.read.contains_key(run) {
            let rows = self.results.rows(run)?.into_iter();
            let keyed = rows.map(|r| ((r.set.clone(), r.row.clone()), r));
            self.read.insert(run.clone(), keyed.collect());
        }
        Ok(())
    }

    /// A run's rows in the set of `key`, by id; `None` if it has none.
    fn rows_of(&self, run: &RunId, key: &str) -> Option<RunRows<'_>> {
        let (set, spec) = (metric_set(key), metric_spec(key));
        let mut found = RunRows {
            ids: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            clusters: Vec::new(),
        };
        for ((of_set, id), row) in self.read.get(run)? {
            let Some(value) = row.metrics.get(spec.row_key).filter(|_| of_set == set) else {
                continue;
            };
            if !value.is_finite() {
                return None;
            }
            let tokens = row.metrics.get("tokens").filter(|_| spec.by_tokens);
            found.ids.push(id);
            found.values.push(*value);
            found.weights.push(tokens.copied().unwrap_or(1.0));
            found.clusters.push(row.cluster.as_deref());
        }
        let weight: f64 = found.weights.iter().sum();
        (!found.ids.is_empty() && weight > 0.0).then_some(found)
    }
}

/// Clusters counted from 0; rows without a name, and all of them where there would be one cluster only, are
/// their own.
fn numbered(rows: &RunRows<'_>) -> Vec<usize> {
    let mut names: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    let keys: Vec<(bool, &str)> = rows
        .clusters
        .iter()
        .zip(&rows.ids)
        .map(|(cluster, id)| (cluster.is_some(), cluster.unwrap_or(id)))
        .collect();
    for key in &keys {
        let next = names.len();
        names.entry(*key).or_insert(next);
    }
    if names.len() < 2 {
        return (0..keys.len()).collect();
    }
    keys.iter().map(|key| names[key]).collect()
}
