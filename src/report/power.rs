//! What a planned sweep can see, before it runs.

use crate::base::counted;
use crate::config::sweep::{Sweep, TableSpec, Trial};
use crate::metrics::{
    Analysis, Contrast, Design, MetricSpec, Noise, TableNoise, Transform, fixed, metric_spec,
    two_digits,
};
use crate::report::column::ColumnReader;
use crate::report::compare::delta_of;
use crate::report::select::{Configuration, ReportError, SweepResults};
use std::collections::BTreeSet;

/// Components of a difference of shares where nothing was measured yet: those of preference accuracy over
/// 18 DPO runs of the small model that is shipped, on 161 pairs.
const SHARE: Noise = Noise {
    seed: 0.0,
    row: 0.016,
    both: 0.092,
    with_rows: true,
};

/// The same of a loss: of three ways to feed the same instructions to that model, three seeds each, on 225
/// held-out documents.
const LOSS: Noise = Noise {
    seed: 0.0004,
    row: 0.006,
    both: 0.013,
    with_rows: true,
};

/// What is assumed of a metric before its first result, and where that was measured; `None` if nothing is.
fn assumed(spec: &MetricSpec) -> Option<(Noise, &'static str)> {
    let is_loss = spec.unit == "nats per token" && spec.transform == Transform::Identity;
    match (spec.is_share, is_loss) {
        (true, _) => Some((SHARE, "preference accuracy")),
        (_, true) => Some((LOSS, "the loss on held-out instructions")),
        _ => None,
    }
}

/// Numbers of rows for which a plan is told, where nobody knows them.
const ROWS: [usize; 3] = [100, 300, 1000];

/// A sentence for each table of the sweep on its primary metric: the smallest difference that the planned
/// seeds and rows see, and how many of each would see what matters. Noise is that of `earlier` results of
/// the sweep where they have some, else what is [`assumed`].
///
/// # Errors
/// A results file is there and cannot be read.
pub fn power_lines(
    sweep: &Sweep,
    earlier: Option<&SweepResults>,
) -> Result<Vec<String>, ReportError> {
    let mut lines = Vec::new();
    for table in &sweep.report.tables {
        let Some(key) = table.metrics.first() else {
            continue;
        };
        let delta = delta_of(&sweep.report, key);
        let design = planned(sweep, table);
        let measured = match earlier {
            Some(results) => measured(results, table, key)?,
            None => None,
        };
        let lead = format!("table {}, {key}", table.name);
        lines.push(if let Some(noise) = measured {
            known_words(&lead, &noise, &design, delta)
        } else {
            let parts = planned_parts(sweep, table, key);
            assumed_words(&lead, metric_spec(key), &design, parts, delta)
        });
    }
    Ok(lines)
}

/// The trials that a table shows.
fn trials_of<'a>(sweep: &'a Sweep, table: &TableSpec) -> Vec<&'a Trial> {
    let fits = |trial: &&Trial| {
        let mut wanted = table.filter.iter();
        wanted.all(|(axis, value)| trial.assignments.get(axis) == Some(value))
    };
    sweep.trials.iter().filter(fits).collect()
}

/// In how many parts of its rows, a seed one, the set of the metric `key` is measured: 1 without cross-validation.
fn planned_parts(sweep: &Sweep, table: &TableSpec, key: &str) -> usize {
    let set = key.split('/').next().unwrap_or_default();
    let trials = trials_of(sweep, table).into_iter();
    let folds = trials.flat_map(|trial| trial.config.eval.recipe.data_of(set));
    let held_out: BTreeSet<u64> = folds.filter_map(|source| source.fold?.index).collect();
    held_out.len().max(1)
}

/// Seeds, arms and comparisons of a table as the sweep file has them; rows are not known here.
fn planned(sweep: &Sweep, table: &TableSpec) -> Design {
    let trials = trials_of(sweep, table);
    let seeds: BTreeSet<u64> = trials.iter().map(|trial| trial.seed).collect();
    let labels: BTreeSet<String> = trials.iter().map(|trial| trial.label()).collect();
    Design {
        seeds: seeds.len(),
        rows: 0,
        arms: labels.len(),
        family: labels.len().saturating_sub(1).max(1),
    }
}

/// Noise of differences between any arm and the first, and the rows (or clusters) it was measured on.
fn measured(
    results: &SweepResults,
    table: &TableSpec,
    key: &str,
) -> Result<Option<TableNoise>, ReportError> {
    let configurations: Vec<Configuration<'_>> = results.configurations(&table.filter);
    let column = ColumnReader::new(results).column(&configurations, key)?;
    let contrasts: Vec<Contrast> = (1..configurations.len())
        .map(|arm| vec![(arm, 1.0), (0, -1.0)])
        .collect();
    Ok(Analysis::of(&column).noise(&contrasts, contrasts.len()))
}

fn known_words(lead: &str, of: &TableNoise, planned: &Design, delta: Option<f64>) -> String {
    let design = Design {
        rows: of.design.rows,
        ..*planned
    };
    let mut over = counted(design.seeds, "seed");
    if of.noise.with_rows {
        over += &format!(" and {}", counted(design.rows, of.row_noun()));
    }
    let sees = of.visible(&design).map_or_else(
        || "nothing can be seen".to_owned(),
        |visible| {
            let visible = two_digits(visible);
            let seen = seen_words(&design);
            format!("a true difference of {visible} {seen}")
        },
    );
    let needs = delta.map_or_else(String::new, |delta| {
        let linear = of.linear(delta);
        let seeds = of.noise.seeds_for(linear, &design);
        let rows = of.noise.rows_for(linear, &design);
        let count = |count: Option<usize>, what: &str| count.map(|n| counted(n, what));
        let ways = [count(seeds, "seed"), count(rows, of.row_noun())].into_iter();
        let ways: Vec<String> = ways.flatten().collect();
        match ways.as_slice() {
            [] => format!("; neither more seeds nor more rows alone would see {delta}"),
            ways => format!("; {delta} takes {}", ways.join(" or ")),
        }
    });
    format!("{lead}: with {over}, {sees}{needs} (noise of earlier results)")
}

/// How often, and in what: one seed shows nothing of how seeds differ.
fn seen_words(design: &Design) -> &'static str {
    if design.seeds < 2 {
        "between these very runs is seen four times in five"
    } else {
        "is seen four times in five"
    }
}

fn assumed_words(
    lead: &str,
    spec: &MetricSpec,
    design: &Design,
    parts: usize,
    delta: Option<f64>,
) -> String {
    let Some((noise, of)) = assumed(spec) else {
        return format!("{lead}: what can be seen is not known before a first result");
    };
    let whole = noise.in_parts(parts);
    let on = |rows: usize| Design { rows, ..*design };
    let visible = |rows: usize| {
        let seen = whole.smallest_visible(&on(rows))?;
        Some(format!("{} on {}", fixed(seen, 2), counted(rows, "row")))
    };
    let seen: Vec<String> = ROWS.into_iter().filter_map(visible).collect();
    let needs = delta.and_then(|delta| {
        let rows = whole.rows_for(delta, design)?;
        Some(format!("; {delta} takes {}", counted(rows, "row")))
    });
    let deviation = |variance: f64| fixed(variance.sqrt(), 2);
    let mut over = counted(design.seeds, "seed");
    if parts > 1 {
        over += &format!(" on {parts} parts of the rows, one each,");
    }
    format!(
        "{lead}: with {over} a true difference of {} {}{} (assumed noise: that of {of} \
         on the shipped model, standard deviation of a difference by row {}, of a row at a seed {}, by seed {})",
        seen.join(", "),
        seen_words(design),
        needs.unwrap_or_default(),
        deviation(noise.row),
        deviation(noise.both),
        deviation(noise.seed)
    )
}
