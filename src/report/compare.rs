//! One row a configuration, all seeds together, each compared with its baseline.

use crate::config::sweep::{AxisInfo, AxisValue, Direction, ReportSpec, TableSpec};
use crate::metrics::{
    Analysis, Better, Comparison, Contrast, Estimate, Interval, Parts, TableNoise, mean,
    metric_spec,
};
use crate::plan::RunId;
use crate::report::column::ColumnReader;
use crate::report::halving::{StoppedRow, stopped_rows};
use crate::report::replication::{Replication, replication};
use crate::report::select::{Configuration, ReportError, SweepResults, configuration_key, fits};
use std::collections::BTreeMap;

/// A comparison table.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepTable {
    /// File-name stem.
    pub name: String,
    /// Shown above.
    pub title: String,
    /// Axes that differ between rows, in the sweep's order.
    pub axes: Vec<String>,
    /// The same with what their values count: `length (tokens)`.
    pub axis_labels: Vec<String>,
    /// Measured columns, the first one primary.
    pub metrics: Vec<MetricColumn>,
    /// One row per configuration.
    pub rows: Vec<ConfigRow>,
    /// Configurations that halving stopped: they are compared with nothing.
    pub stopped: Vec<StoppedRow>,
    /// What a seed repeats.
    pub replication: Replication,
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
    /// Comparisons in its family: their intervals are right together.
    pub family: usize,
    /// Differences up to here make no difference; `None` if nobody says so.
    pub delta: Option<f64>,
    /// Whether it is the same in every run, so that there is nothing to test.
    pub constant: bool,
    /// Evaluation rows and their clusters; `None` where they are not known.
    pub rows: Option<(usize, usize)>,
    /// The parts of them that seeds were measured on; `None` where all have the same.
    pub parts: Option<Parts>,
    /// Where the noise of its differences comes from.
    pub noise: Option<TableNoise>,
    /// Rows of the table whose seeds differ far more than those of the others.
    pub apart: Vec<usize>,
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
    /// 95 % interval for new seeds and new rows.
    pub interval: Option<Interval>,
    /// Value and evaluating run of each seed; seeds that share one run count once.
    pub seeds: Vec<(u64, f64, RunId)>,
    /// Seeds without a value: seed, one word, and the sentence.
    pub missing: Vec<(u64, &'static str, String)>,
    /// Against the baseline row.
    pub comparison: Option<Comparison>,
    /// Whether its mean is the best of its column.
    pub top: bool,
    /// Whether it is not clearly worse than the best mean of its column.
    pub best: bool,
}

/// A table over all trials with every final metric that has a better side, for a sweep that names
/// no table.
pub fn default_table(results: &SweepResults) -> TableSpec {
    default_table_of(results, &|_| true)
}

/// The same with metrics that `keep` lets pass.
pub fn default_table_of(results: &SweepResults, keep: &dyn Fn(&str) -> bool) -> TableSpec {
    let evals = results
        .trials
        .iter()
        .filter_map(|trial| results.runs.get(&trial.eval));
    let mut keys: Vec<String> = evals.flat_map(|run| run.metrics.keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| keep(key));
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
/// own, so that a baseline which names one axis of several compares like with like. The comparisons of a
/// metric are one family: their intervals are right together.
///
/// # Errors
/// A results file is there and cannot be read.
pub fn compare(results: &SweepResults, spec: &TableSpec) -> Result<SweepTable, ReportError> {
    let configurations = results.configurations(&spec.filter);
    let axes = results.varying_axes(&configurations);
    let stopped = stopped_rows(results, &spec.filter, &axes);
    let baselines = find_baselines(&configurations, &spec.baseline, results.sweep.chosen());
    let mut reader = ColumnReader::new(results);
    let mut columns: Vec<std::vec::IntoIter<Cell>> = Vec::new();
    let mut metrics = Vec::new();
    for (index, key) in spec.metrics.iter().enumerate() {
        let better = better_of(key, spec.direction.filter(|_| index == 0));
        let delta = delta_of(&results.sweep.report, key);
        let column = reader.column(&configurations, key)?;
        let analysis = Analysis::of(&column);
        let (metric, cells) = measure(
            results,
            &configurations,
            &baselines,
            &analysis,
            MetricColumn {
                key: key.clone(),
                better,
                decimals: 0,
                family: 0,
                delta,
                constant: analysis.is_constant(),
                rows: None,
                parts: column.parts(),
                noise: None,
                apart: Vec::new(),
            },
        );
        metrics.push(metric);
        columns.push(cells.into_iter());
    }
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
        axis_labels: axes.iter().map(|axis| label_of(results, axis)).collect(),
        axes,
        metrics,
        rows,
        stopped,
        replication: replication(results, &configurations),
    })
}

/// An axis with what its values count.
pub(crate) fn label_of(results: &SweepResults, axis: &str) -> String {
    let mut axes = results.sweep.axes.iter();
    let known = axes.find(|known| known.name == axis);
    known.map_or_else(|| axis.to_owned(), AxisInfo::label)
}

/// Cells of one column, and what is said of it as a whole.
fn measure(
    results: &SweepResults,
    configurations: &[Configuration<'_>],
    baselines: &[Option<usize>],
    analysis: &Analysis<'_>,
    mut metric: MetricColumn,
) -> (MetricColumn, Vec<Cell>) {
    let compared: Vec<(usize, usize)> = baselines
        .iter()
        .enumerate()
        .filter_map(|(index, base)| Some((index, (*base).filter(|b| *b != index)?)))
        .filter(|(index, base)| analysis.difference(*index, *base).is_some())
        .collect();
    metric.family = compared.len();
    let mut cells: Vec<Cell> = configurations
        .iter()
        .enumerate()
        .map(|(arm, c)| Cell {
            interval: analysis.cell_interval(arm),
            ..summarise(results, c, &metric.key)
        })
        .collect();
    for (index, base) in &compared {
        cells[*index].comparison = analysis.compare(*index, *base, metric.family, metric.delta);
    }
    mark_best(&mut cells, analysis, metric.better);
    let contrasts: Vec<Contrast> = compared
        .iter()
        .map(|(index, base)| vec![(*index, 1.0), (*base, -1.0)])
        .collect();
    let arms = 0..configurations.len();
    metric.apart = arms.filter(|arm| analysis.is_apart(*arm)).collect();
    metric.noise = analysis.noise(&contrasts, metric.family);
    let counts = (0..cells.len()).filter_map(|arm| analysis.cell(arm));
    let counts = counts.map(|m| (m.rows, m.clusters));
    metric.rows = counts.filter(|(rows, _)| *rows > 0).max();
    metric.decimals = decimals_for(&metric.key, &cells);
    (metric, cells)
}

/// Up to where a difference in a metric makes none: as the sweep file says, else as is known of it.
pub(crate) fn delta_of(report: &ReportSpec, key: &str) -> Option<f64> {
    let own = report.delta.get(key).copied();
    own.or(metric_spec(key).delta)
}

/// Which way a metric is better: as the sweep file says, else as is known of it.
pub(crate) fn better_of(key: &str, direction: Option<Direction>) -> Better {
    match direction {
        Some(Direction::Higher) => Better::Higher,
        Some(Direction::Lower) => Better::Lower,
        None => metric_spec(key).better,
    }
}

/// For each configuration, the index of its baseline: the one that has the baseline's values and otherwise its
/// own, or the only one that has them; none without values. Values of axes that were `chosen` for each
/// configuration of the others are not its own.
pub(crate) fn find_baselines(
    configurations: &[Configuration<'_>],
    baseline: &BTreeMap<String, AxisValue>,
    chosen: &[String],
) -> Vec<Option<usize>> {
    let own = |assignments: &BTreeMap<String, AxisValue>| {
        let mut own = assignments.clone();
        own.retain(|axis, _| !chosen.contains(axis));
        own
    };
    if baseline.is_empty() {
        return vec![None; configurations.len()];
    }
    let places: BTreeMap<String, usize> = configurations
        .iter()
        .enumerate()
        .map(|(i, c)| (configuration_key(&own(c.assignments)), i))
        .collect();
    // The one row that has these values, for rows that have no counterpart of their own.
    let mut fitting =
        (0..configurations.len()).filter(|i| fits(configurations[*i].assignments, baseline));
    let whole = fitting.next().filter(|_| fitting.next().is_none());
    let target = |c: &Configuration<'_>| {
        let mut wanted = own(c.assignments);
        wanted.extend(baseline.iter().map(|(k, v)| (k.clone(), v.clone())));
        places.get(&configuration_key(&wanted)).copied().or(whole)
    };
    configurations.iter().map(target).collect()
}

/// Mean and gaps of one configuration; its interval is a matter of the whole table.
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
    // A perplexity is that of the mean loss, as within one run.
    let transform = metric_spec(key).transform;
    let linear: Vec<f64> = values.iter().map(|v| transform.invert(*v)).collect();
    let estimate = mean(&values)
        .zip(mean(&linear))
        .map(|(e, linear)| Estimate {
            value: transform.apply(linear.value),
            ..e
        });
    Cell {
        estimate,
        interval: None,
        seeds,
        missing,
        comparison: None,
        top: false,
        best: false,
    }
}

/// Marks the best mean and what is not clearly worse; nothing if no side is better, if a single row has
/// values, or if all are the same by construction.
fn mark_best(cells: &mut [Cell], analysis: &Analysis<'_>, better: Better) {
    let score = |c: &Cell| match better {
        Better::Higher => c.estimate.map(|e| e.value),
        Better::Lower => c.estimate.map(|e| -e.value),
        Better::Neither => None,
    };
    let scores: Vec<f64> = cells.iter().filter_map(score).collect();
    if scores.len() < 2 || analysis.is_constant() {
        return;
    }
    let top = scores.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let arms: Vec<usize> = (0..cells.len()).collect();
    let set = analysis.best_set(&arms, better);
    for (cell, may) in cells.iter_mut().zip(set) {
        cell.top = score(cell).is_some_and(|s| s >= top);
        cell.best = cell.top || may == Some(true);
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
