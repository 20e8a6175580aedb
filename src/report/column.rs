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

impl RunRows<'_> {
    fn set(&self) -> RowSet {
        RowSet {
            weights: self.weights.clone(),
            clusters: numbered(&self.clusters, &self.ids),
        }
    }
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
        let mut trials_of: Vec<Vec<&TrialResult>> = Vec::new();
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
            let row_set = None;
            column.arms.push(Arm { seeds, row_set });
            trials_of.push(trials);
        }
        if with_rows {
            for trial in trials_of.iter().flatten() {
                self.load(&trial.eval)?;
            }
            self.add_rows(&mut column, &trials_of, key);
        }
        Ok(column)
    }

    /// Fills in the rows of arms whose seeds all have some that add up, and the sets that they are of.
    fn add_rows(&self, column: &mut Column, trials_of: &[Vec<&TrialResult>], key: &str) {
        let transform = column.transform;
        let found_of = |arm: &Arm, trials: &[&TrialResult]| -> Option<Vec<RunRows<'_>>> {
            let found: Option<Vec<_>> = trials.iter().map(|t| self.rows_of(&t.eval, key)).collect();
            let found = found.filter(|found| !found.is_empty())?;
            let adds_up = |(rows, seed): (&RunRows<'_>, &SeedValues)| {
                let mean = transform.apply(rows.set().mean(&rows.values));
                (mean - seed.value).abs() <= ADDS_UP * seed.value.abs().max(1e-9)
            };
            let sound = found.iter().zip(&arm.seeds).all(adds_up);
            sound.then_some(found)
        };
        let found: Vec<Option<Vec<RunRows<'_>>>> = column
            .arms
            .iter()
            .zip(trials_of)
            .map(|(arm, trials)| found_of(arm, trials))
            .collect();
        let differ = |seeds: &Vec<RunRows<'_>>| seeds.iter().any(|s| s.ids != seeds[0].ids);
        if found.iter().flatten().any(differ) {
            add_split_rows(column, &found);
        } else {
            add_same_rows(column, &found);
        }
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

/// Rows of arms whose seeds all have the same ones: a set for each that occurs, mostly one.
fn add_same_rows(column: &mut Column, found: &[Option<Vec<RunRows<'_>>>]) {
    let mut sets: Vec<(Vec<&str>, RowSet)> = Vec::new();
    for (arm, found) in column.arms.iter_mut().zip(found) {
        let Some(found) = found else {
            continue;
        };
        let (ids, set) = (&found[0].ids, found[0].set());
        for (seed, rows) in arm.seeds.iter_mut().zip(found) {
            seed.rows.clone_from(&rows.values);
        }
        let mut known = sets.iter();
        let known = known.position(|(known, of)| known == ids && of.weights == set.weights);
        arm.row_set = known.or(Some(sets.len()));
        match known {
            None => sets.push((ids.clone(), set)),
            // Results of earlier versions name no clusters; those of the same rows do.
            Some(at) if set.cluster_count() < sets[at].1.cluster_count() => {
                sets[at].1.clusters = set.clusters;
            }
            Some(_) => {}
        }
    }
    column.row_sets = sets.into_iter().map(|(_, set)| set).collect();
}

/// Rows of arms whose seeds have different ones, as those of cross-validation: one set of all of them, of which
/// each seed has some. A row is known by its id, and by its weight.
fn add_split_rows(column: &mut Column, found: &[Option<Vec<RunRows<'_>>>]) {
    let mut known: BTreeMap<(&str, u64), Option<&str>> = BTreeMap::new();
    for rows in found.iter().flatten().flatten() {
        let rows = rows.ids.iter().zip(&rows.weights).zip(&rows.clusters);
        for ((id, weight), cluster) in rows {
            let name = known.entry((id, weight.to_bits())).or_default();
            *name = name.or(*cluster);
        }
    }
    let ids: Vec<&str> = known.keys().map(|(id, _)| *id).collect();
    let clusters: Vec<Option<&str>> = known.values().copied().collect();
    let places: BTreeMap<(&str, u64), usize> = known
        .keys()
        .enumerate()
        .map(|(at, key)| (*key, at))
        .collect();
    for (arm, found) in column.arms.iter_mut().zip(found) {
        let Some(found) = found else {
            continue;
        };
        for (seed, rows) in arm.seeds.iter_mut().zip(found) {
            seed.rows = vec![f64::NAN; places.len()];
            for ((id, weight), value) in rows.ids.iter().zip(&rows.weights).zip(&rows.values) {
                if let Some(at) = places.get(&(*id, weight.to_bits())) {
                    seed.rows[*at] = *value;
                }
            }
        }
        arm.row_set = Some(0);
    }
    column.row_sets = vec![RowSet {
        weights: known
            .keys()
            .map(|(_, weight)| f64::from_bits(*weight))
            .collect(),
        clusters: numbered(&clusters, &ids),
    }];
}

/// Clusters counted from 0; rows without a name, and all of them where there would be one cluster only, are
/// their own.
fn numbered(clusters: &[Option<&str>], ids: &[&str]) -> Vec<usize> {
    let mut names: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    let keys: Vec<(bool, &str)> = clusters
        .iter()
        .zip(ids)
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
