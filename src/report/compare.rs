//! One row a configuration, all seeds together, each compared with its baseline.

use crate::base::SeedTree;
use crate::config::sweep::{AxisValue, Direction, TableSpec};
use crate::metrics::{
    BOOTSTRAP_DRAWS, Better, Comparison, Estimate, Interval, PairedRows, crossed_bootstrap, holm,
    mean, metric_set, metric_spec, paired_t,
};
use crate::plan::RunId;
use crate::report::select::{
    Configuration, ReportError, RowValue, SweepResults, TrialResult, configuration_key, fits,
};
use std::collections::BTreeMap;

/// Above so many comparisons in a table, rows are not read and seeds alone are compared: each reads
/// two files a seed and draws 10,000 bootstrap samples.
pub const ROW_COMPARISONS: usize = 200;

/// A comparison table.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepTable {
    /// File-name stem.
    pub name: String,
    /// Shown above.
    pub title: String,
    /// Axes that differ between rows, in the sweep's order.
    pub axes: Vec<String>,
    /// Measured columns, the first one primary.
    pub metrics: Vec<MetricColumn>,
    /// One row per configuration.
    pub rows: Vec<ConfigRow>,
}

/// A measured column.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricColumn {
    /// The metric's key.
    pub key: String,
    /// Which way is better here.
    pub better: Better,
    /// Decimals that its intervals deserve.
    pub decimals: usize,
    /// Comparisons in its family, for Holm's correction.
    pub family: usize,
}

/// One configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigRow {
    /// Axis values.
    pub assignments: BTreeMap<String, AxisValue>,
    /// Values of the table's axes; `None` where an axis does not apply.
    pub values: Vec<Option<AxisValue>>,
    /// Index of the row it is compared with; its own index if it is a baseline.
    pub baseline: Option<usize>,
    /// One cell per metric.
    pub cells: Vec<Cell>,
}

/// One configuration's results on one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Mean over seeds; absent if no seed has a value.
    pub estimate: Option<Estimate>,
    /// 95 % t-interval over seeds.
    pub interval: Option<Interval>,
    /// Value and evaluating run of each seed; seeds that share one run count once.
    pub seeds: Vec<(u64, f64, RunId)>,
    /// Seeds without a value: seed, one word, and the sentence.
    pub missing: Vec<(u64, &'static str, String)>,
    /// Against the baseline row.
    pub comparison: Option<Comparison>,
    /// Whether it is the best of its column.
    pub best: bool,
}

/// A table over all trials with every final metric that has a better side, for a sweep that names
/// no table.
pub fn default_table(results: &SweepResults) -> TableSpec {
    let evals = results
        .trials
        .iter()
        .filter_map(|trial| results.runs.get(&trial.eval));
    let mut keys: Vec<String> = evals.flat_map(|run| run.metrics.keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    let judged = |k: &String| metric_spec(k).better != Better::Neither;
    if keys.iter().any(judged) {
        keys.retain(judged);
    }
    let measured = keys.len();
    keys.sort_by_key(|key| {
        let telling = TELLING.iter().position(|ending| key.ends_with(ending));
        telling.unwrap_or(TELLING.len())
    });
    keys.truncate(MOST_COLUMNS);
    keys.sort();
    let title = if keys.len() < measured {
        format!("All configurations: {} of {measured} metrics", keys.len())
    } else {
        "All configurations".to_owned()
    };
    TableSpec {
        name: "all".to_owned(),
        title,
        metrics: keys,
        ..TableSpec::default()
    }
}

/// More columns than this do not fit a terminal.
const MOST_COLUMNS: usize = 8;

/// Endings of the metrics that say most about a set, the foremost first; they stay where not all fit.
const TELLING: [&str; 6] = [
    "/rewards/accuracies",
    "/loss",
    "/rule_score",
    "/rewards/margins",
    "/prob_margin",
    "/perplexity",
];

/// Builds the table of `spec`.
///
/// A row is compared with the configuration that has the baseline's axis values and otherwise its
/// own, so that a baseline which names one axis of several compares like with like. Each metric's
/// comparisons are one family for Holm's correction.
///
/// # Errors
/// A results file is there and cannot be read.
pub fn compare(results: &SweepResults, spec: &TableSpec) -> Result<SweepTable, ReportError> {
    let configurations = results.configurations(&spec.filter);
    let axes = results.varying_axes(&configurations);
    let baselines = find_baselines(&configurations, &spec.baseline);
    let mut columns: Vec<Vec<Cell>> = Vec::new();
    let mut metrics = Vec::new();
    let mut rows = RowReader::new(
        results,
        baselines.len() * spec.metrics.len() <= ROW_COMPARISONS,
    );
    for (index, key) in spec.metrics.iter().enumerate() {
        let better = better_of(key, spec.direction.filter(|_| index == 0));
        let mut cells: Vec<Cell> = configurations
            .iter()
            .map(|c| summarise(results, c, key))
            .collect();
        let family = add_comparisons(&mut rows, &mut cells, &configurations, &baselines, key)?;
        mark_best(&mut cells, better);
        metrics.push(MetricColumn {
            key: key.clone(),
            better,
            decimals: decimals_for(key, &cells),
            family,
        });
        columns.push(cells);
    }
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let rows = configurations
        .iter()
        .zip(&baselines)
        .map(|(c, baseline)| ConfigRow {
            assignments: c.assignments.clone(),
            values: axes.iter().map(|a| c.assignments.get(a).cloned()).collect(),
            baseline: *baseline,
            cells: columns.iter_mut().filter_map(Iterator::next).collect(),
        });
    let rows = rows.collect();
    Ok(SweepTable {
        name: spec.name.clone(),
        title: spec.title.clone(),
        axes,
        metrics,
        rows,
    })
}

/// Which way a metric is better: as the sweep file says, else as is known of it.
pub(crate) fn better_of(key: &str, direction: Option<Direction>) -> Better {
    match direction {
        Some(Direction::Higher) => Better::Higher,
        Some(Direction::Lower) => Better::Lower,
        None => metric_spec(key).better,
    }
}

/// For each configuration, the index of its baseline.
fn find_baselines(
    configurations: &[Configuration<'_>],
    baseline: &BTreeMap<String, AxisValue>,
) -> Vec<Option<usize>> {
    if baseline.is_empty() {
        return vec![None; configurations.len()];
    }
    let places: BTreeMap<String, usize> = configurations
        .iter()
        .enumerate()
        .map(|(i, c)| (configuration_key(c.assignments), i))
        .collect();
    // The one row that has these values, for rows that have no counterpart of their own.
    let mut fitting =
        (0..configurations.len()).filter(|i| fits(configurations[*i].assignments, baseline));
    let whole = fitting.next().filter(|_| fitting.next().is_none());
    let target = |c: &Configuration<'_>| {
        let mut wanted = c.assignments.clone();
        wanted.extend(baseline.iter().map(|(k, v)| (k.clone(), v.clone())));
        places.get(&configuration_key(&wanted)).copied().or(whole)
    };
    configurations.iter().map(target).collect()
}

/// Mean, interval and gaps of one configuration.
pub(crate) fn summarise(
    results: &SweepResults,
    configuration: &Configuration<'_>,
    key: &str,
) -> Cell {
    let mut seeds: Vec<(u64, f64, RunId)> = Vec::new();
    let mut missing = Vec::new();
    for trial in &configuration.trials {
        match results.metric(trial, key) {
            Some(m) if m.value.is_finite() => {
                // Seeds that share a run are one measurement, not several.
                if !seeds.iter().any(|s| s.2 == trial.eval) {
                    seeds.push((trial.seed, m.value, trial.eval.clone()));
                }
            }
            Some(_) => missing.push((
                trial.seed,
                "not finite",
                format!("the value in run {} is not finite", trial.eval),
            )),
            None => {
                let why = results.why_missing(trial);
                missing.push((trial.seed, why.word, why.text));
            }
        }
    }
    let values: Vec<f64> = seeds.iter().map(|s| s.1).collect();
    let estimate = mean(&values);
    let interval = estimate.and_then(|e| e.t_interval(0.95));
    Cell {
        estimate,
        interval,
        seeds,
        missing,
        comparison: None,
        best: false,
    }
}

/// Compares every cell with its baseline's and corrects the family; returns the family's size.
fn add_comparisons(
    rows: &mut RowReader<'_>,
    cells: &mut [Cell],
    configurations: &[Configuration<'_>],
    baselines: &[Option<usize>],
    key: &str,
) -> Result<usize, ReportError> {
    for (index, base) in baselines.iter().enumerate() {
        let Some(base) = base.filter(|b| *b != index) else {
            continue;
        };
        cells[index].comparison =
            compare_pair(rows, &configurations[index], &configurations[base], key)?;
    }
    let p: Vec<Option<f64>> = cells.iter().map(|c| c.comparison.as_ref()?.p).collect();
    for (cell, corrected) in cells.iter_mut().zip(holm(&p)) {
        if let Some(c) = &mut cell.comparison {
            c.p_holm = corrected;
        }
    }
    Ok(p.iter().flatten().count())
}

/// One configuration against another, by seed and, where rows are there, by row.
fn compare_pair(
    rows: &mut RowReader<'_>,
    ours: &Configuration<'_>,
    base: &Configuration<'_>,
    key: &str,
) -> Result<Option<Comparison>, ReportError> {
    let mut pairs: Vec<(&TrialResult, &TrialResult)> = Vec::new();
    let mut differences = Vec::new();
    for a in &ours.trials {
        let Some(b) = base.trials.iter().find(|b| b.seed == a.seed) else {
            continue;
        };
        let values = (rows.results.metric(a, key), rows.results.metric(b, key));
        let (Some(x), Some(y)) = values else { continue };
        let known = pairs
            .iter()
            .any(|(p, q)| p.eval == a.eval && q.eval == b.eval);
        if known || !(x.value - y.value).is_finite() {
            continue;
        }
        pairs.push((a, b));
        differences.push(x.value - y.value);
    }
    let by_seed = paired_t(&differences);
    let Some(paired) = rows.paired(&pairs, key)? else {
        return Ok(by_seed);
    };
    let label = format!(
        "{}/{}/{key}",
        configuration_key(ours.assignments),
        configuration_key(base.assignments)
    );
    let seed = SeedTree::root(0).child("report/bootstrap").child(&label);
    let Some(by_row) = crossed_bootstrap(&paired, &seed, BOOTSTRAP_DRAWS) else {
        return Ok(by_seed);
    };
    // Rows that do not add up to the stored value do not describe it.
    let stored = by_seed.as_ref().map_or(f64::NAN, |c| c.difference);
    let scale = rows.scale(&pairs, key).max(1e-9);
    let adds_up = (by_row.difference - stored).abs() <= 1e-4 * scale;
    Ok(if adds_up {
        Some(Comparison {
            difference: stored,
            ..by_row
        })
    } else {
        by_seed
    })
}

/// Marks the best mean; none if nothing says which way is better or a single row has values.
fn mark_best(cells: &mut [Cell], better: Better) {
    let score = |c: &Cell| match better {
        Better::Higher => c.estimate.map(|e| e.value),
        Better::Lower => c.estimate.map(|e| -e.value),
        Better::Neither => None,
    };
    let scores: Vec<f64> = cells.iter().filter_map(score).collect();
    if scores.len() < 2 {
        return;
    }
    let top = scores.into_iter().fold(f64::NEG_INFINITY, f64::max);
    for cell in cells {
        cell.best = score(cell).is_some_and(|s| s >= top);
    }
}

/// Enough decimals for two digits of the narrowest interval, within two of the metric's usual.
fn decimals_for(key: &str, cells: &[Cell]) -> usize {
    let usual = metric_spec(key).decimals;
    let narrowest = cells
        .iter()
        .filter_map(|c| Some(c.interval?.half_width()))
        .filter(|w| *w > 0.0);
    let narrowest = narrowest.fold(f64::INFINITY, f64::min);
    if !narrowest.is_finite() {
        return usual;
    }
    let needed = (1.0 - narrowest.log10().floor()).clamp(0.0, 9.0) as usize;
    needed.clamp(usual, usual + 2)
}

/// Rows of evaluation runs by set and id, read once.
struct RowReader<'a> {
    results: &'a SweepResults,
    enabled: bool,
    read: BTreeMap<RunId, BTreeMap<(String, String), RowValue>>,
}

impl<'a> RowReader<'a> {
    fn new(results: &'a SweepResults, enabled: bool) -> Self {
        Self {
            results,
            enabled,
            read: BTreeMap::new(),
        }
    }

    fn load(&mut self, run: &RunId) -> Result<(), ReportError> {
        if !self.read.contains_key(run) {
            let rows = self.results.rows(run)?;
            let keyed = rows
                .into_iter()
                .map(|r| ((r.set.clone(), r.row.clone()), r));
            self.read.insert(run.clone(), keyed.collect());
        }
        Ok(())
    }

    /// Values and weights of a run's rows in one set, by row id; `None` if it has none.
    fn values(&self, run: &RunId, key: &str) -> Option<BTreeMap<&str, (f64, f64)>> {
        let (set, spec) = (metric_set(key), metric_spec(key));
        let rows = self.read.get(run)?;
        let mut values = BTreeMap::new();
        for ((of_set, id), row) in rows {
            let Some(value) = row.metrics.get(spec.row_key).filter(|_| of_set == set) else {
                continue;
            };
            let tokens = row
                .metrics
                .get("tokens")
                .copied()
                .filter(|_| spec.by_tokens);
            values.insert(id.as_str(), (*value, tokens.unwrap_or(1.0)));
        }
        (!values.is_empty()).then_some(values)
    }

    /// The rows of all pairs, if every run has the same ones.
    fn paired(
        &mut self,
        pairs: &[(&TrialResult, &TrialResult)],
        key: &str,
    ) -> Result<Option<PairedRows>, ReportError> {
        if !self.enabled || pairs.is_empty() || metric_spec(key).row_key.is_empty() {
            return Ok(None);
        }
        for (a, b) in pairs {
            self.load(&a.eval)?;
            self.load(&b.eval)?;
        }
        Ok(self.align(pairs, key))
    }

    fn align(&self, pairs: &[(&TrialResult, &TrialResult)], key: &str) -> Option<PairedRows> {
        let first = self.values(&pairs[0].0.eval, key)?;
        let ids: Vec<&str> = first.keys().copied().collect();
        let weights: Vec<f64> = first.values().map(|v| v.1).collect();
        let side = |run: &RunId| -> Option<Vec<f64>> {
            let values = self.values(run, key)?;
            (values.keys().copied().eq(ids.iter().copied()))
                .then(|| values.values().map(|v| v.0).collect())
        };
        let ours: Option<Vec<_>> = pairs.iter().map(|(a, _)| side(&a.eval)).collect();
        let baseline: Option<Vec<_>> = pairs.iter().map(|(_, b)| side(&b.eval)).collect();
        Some(PairedRows {
            ours: ours?,
            baseline: baseline?,
            weights,
            transform: metric_spec(key).transform,
        })
    }

    /// How large the compared values are, for a relative check.
    fn scale(&self, pairs: &[(&TrialResult, &TrialResult)], key: &str) -> f64 {
        let values = pairs
            .iter()
            .flat_map(|(a, b)| [self.results.metric(a, key), self.results.metric(b, key)]);
        values.flatten().map(|m| m.value.abs()).fold(0.0, f64::max)
    }
}
