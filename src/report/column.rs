//! One metric of several configurations as the statistics want it: by seed, by row, rows by cluster.

use crate::metrics::{Arm, Column, RowSet, SeedValues, metric_set, metric_spec, weighted_mean};
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

impl<'a> RunRows<'a> {
    /// What tells a row from those of other runs.
    fn keys(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>, u64)> {
        let named = self.ids.iter().zip(&self.clusters).zip(&self.weights);
        named.map(|((id, cluster), weight)| (*id, *cluster, weight.to_bits()))
    }

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
                let mean = transform.apply(weighted_mean(&rows.values, &rows.weights));
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
        let differ = |seeds: &Vec<RunRows<'_>>| {
            let mut others = seeds.iter();
            others.any(|s| s.ids != seeds[0].ids || s.weights != seeds[0].weights)
        };
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
/// each seed has some. A row is known by its id, its cluster and its weight: rows without ids of their own are called by
/// their line, which those of another file, in another part, may be, too.
fn add_split_rows(column: &mut Column, found: &[Option<Vec<RunRows<'_>>>]) {
    let mut known: BTreeMap<(&str, Option<&str>, u64), usize> = BTreeMap::new();
    for rows in found.iter().flatten().flatten() {
        known.extend(rows.keys().map(|key| (key, 0)));
    }
    for (at, place) in known.values_mut().enumerate() {
        *place = at;
    }
    let known = known;
    for (arm, found) in column.arms.iter_mut().zip(found) {
        let Some(found) = found else {
            continue;
        };
        for (seed, rows) in arm.seeds.iter_mut().zip(found) {
            seed.rows = vec![f64::NAN; known.len()];
            for (key, value) in rows.keys().zip(&rows.values) {
                seed.rows[known[&key]] = *value;
            }
        }
        arm.row_set = Some(0);
    }
    let ids: Vec<&str> = known.keys().map(|(id, ..)| *id).collect();
    let clusters: Vec<Option<&str>> = known.keys().map(|(_, cluster, _)| *cluster).collect();
    let weights = known.keys().map(|(.., weight)| f64::from_bits(*weight));
    column.row_sets = vec![RowSet {
        weights: weights.collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn one(cluster: &'static str) -> RunRows<'static> {
        RunRows {
            ids: vec!["row-5", "row-6"],
            values: vec![1.0, 2.0],
            weights: vec![1.0; 2],
            clusters: vec![Some(cluster), Some("another")],
        }
    }

    // Row 5 of one file and row 5 of another, in different parts: without ids of their own both are called so.
    #[test]
    fn rows_of_one_name_and_different_prompts_are_different_rows() {
        let seed = |seed: u64| SeedValues {
            seed,
            run: seed as usize,
            value: 1.5,
            rows: Vec::new(),
        };
        let mut column = Column {
            arms: vec![Arm {
                seeds: vec![seed(1), seed(2)],
                row_set: None,
            }],
            ..Column::default()
        };
        add_split_rows(&mut column, &[Some(vec![one("a prompt"), one("its twin")])]);
        let set = &column.row_sets[0];
        assert_eq!((set.weights.len(), set.cluster_count()), (3, 3));
        let measured = |at: usize| column.arms[0].seeds[at].measured().collect::<Vec<_>>();
        assert_eq!(
            (measured(0), measured(1)),
            (vec![true, false, true], vec![false, true, true])
        );
    }
}
