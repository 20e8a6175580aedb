//! What is written under a table: what its numbers are, how sure they are, what is missing.

use crate::base::counted;
use crate::metrics::{Comparison, Design, Method, Transform, metric_spec, two_digits};
use crate::report::compare::{ConfigRow, MetricColumn, SweepTable};
use crate::report::select::short_label;
use std::collections::{BTreeMap, BTreeSet};

/// So many measured columns get the comparison in words, the primary one; the others get marks, so
/// that a table of several metrics stays on a page.
pub(crate) const WORDY_COLUMNS: usize = 1;

/// What the numbers are, and what is missing.
pub(crate) fn notes(table: &SweepTable) -> Vec<String> {
    let cells = || table.rows.iter().flat_map(|r| &r.cells);
    let mut notes = vec![means_note(table), table.replication.words()];
    notes.extend(parts_notes(table));
    let comparisons: Vec<&Comparison> = cells().filter_map(|c| c.comparison.as_ref()).collect();
    if !comparisons.is_empty() {
        notes.extend(difference_notes(table, &comparisons));
        notes.extend(shared_baselines(table));
    }
    notes.extend(table.metrics.iter().filter_map(noise_note));
    notes.extend(table.metrics.iter().filter_map(|m| apart_note(table, m)));
    let constants = table.metrics.iter().filter(|m| m.constant);
    let constants: Vec<&str> = constants.map(|m| m.key.as_str()).collect();
    if !constants.is_empty() {
        notes.push(format!(
            "The same at every seed, so without interval, mark or test: {}.",
            constants.join(", ")
        ));
    }
    notes.extend(gap_note(table));
    notes
}

/// Which columns have seeds on different rows, and how those are spread.
fn parts_notes(table: &SweepTable) -> Vec<String> {
    let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for metric in &table.metrics {
        if let Some(parts) = metric.parts {
            said.entry(parts.words()).or_default().push(&metric.key);
        }
    }
    let all = |keys: &Vec<&str>| keys.len() == table.metrics.len();
    let words = |(words, keys): (String, Vec<&str>)| {
        if all(&keys) {
            return words;
        }
        format!("{words} So it is for {}.", keys.join(", "))
    };
    said.into_iter().map(words).collect()
}

/// What values, intervals, n and marks are.
fn means_note(table: &SweepTable) -> String {
    let mut cells = table.rows.iter().flat_map(|r| &r.cells);
    let repeated = cells.any(|c| c.seeds.len() > 1);
    let rows: BTreeSet<String> = table.metrics.iter().filter_map(rows_words).collect();
    let rows: Vec<String> = rows.into_iter().collect();
    let of_means = |m: &MetricColumn| metric_spec(&m.key).transform == Transform::Exp;
    let mean = if table.metrics.iter().any(of_means) {
        "Mean over seeds (perplexity: that of the mean loss)"
    } else {
        "Mean over seeds"
    };
    let mut text = match (repeated, rows.is_empty()) {
        (true, false) => format!("{mean} with its 95 % interval for new seeds and new rows"),
        (true, true) => format!("{mean} with its 95 % interval for new seeds on the same rows"),
        (false, false) => "One seed each, with a 95 % interval for new rows".to_owned(),
        (false, true) => "One seed each and no rows, so no interval".to_owned(),
    };
    if !rows.is_empty() {
        text += &format!(" ({})", rows.join("; "));
        let without = table
            .metrics
            .iter()
            .filter(|m| m.rows.is_none() && !m.constant);
        let without: Vec<&str> = without.map(|m| m.key.as_str()).collect();
        if !without.is_empty() {
            let one = if repeated {
                "for new seeds alone"
            } else {
                "without one"
            };
            text += &format!(
                "; {one}, since the rows are not known: {}",
                without.join(", ")
            );
        }
    }
    format!(
        "{text}; n: seeds (those that share a run count once); bold or *: not clearly worse than the best mean."
    )
}

/// `211 rows in 21 clusters`.
fn rows_words(metric: &MetricColumn) -> Option<String> {
    let (rows, clusters) = metric.rows?;
    Some(if clusters < rows {
        format!(
            "{} in {}",
            counted(rows, "row"),
            counted(clusters, "cluster")
        )
    } else {
        counted(rows, "row")
    })
}

/// How differences were measured, and what the words mean.
fn difference_notes(table: &SweepTable, comparisons: &[&Comparison]) -> Vec<String> {
    let lead = "Difference: configuration minus baseline, paired by seed and by row";
    let tested = |c: &&&Comparison| !matches!(c.method, Method::Untested { .. });
    let methods = Method::describe_all(comparisons.iter().filter(tested).map(|c| &c.method));
    if methods.is_empty() {
        return vec![format!("{lead}.")];
    }
    let mut notes = vec![format!("{lead}; intervals are for {methods}.")];
    let family = table.metrics.iter().map(|m| m.family).max().unwrap_or(0);
    let deltas = table.metrics.iter().filter(|m| m.family > 0 && !m.constant);
    let deltas: Vec<String> = deltas
        .filter_map(|m| Some(format!("±{} of {}", m.delta?, m.key)))
        .collect();
    let equivalent = if deltas.is_empty() {
        String::new()
    } else {
        format!(
            "; equivalent: it lies within what makes no difference ({})",
            deltas.join(", ")
        )
    };
    let together = match family {
        1 => "The interval of a column holds the true difference in 95 % of tables".to_owned(),
        n => format!(
            "In 95 % of tables all {n} intervals of a column hold the true differences (Šidák), and p-values are \
             corrected alike"
        ),
    };
    notes.push(format!(
        "{together}. Better, worse: the interval does not hold zero{equivalent}; unresolved: any other. \
         Comparisons that the sweep file does not claim are exploratory."
    ));
    if table.metrics.len() > WORDY_COLUMNS {
        notes.push(
            "Marks in the other columns: ▲ better, ▼ worse, ↑ higher, ↓ lower, = equivalent, ? unresolved."
                .to_owned(),
        );
    }
    notes
}

/// Where the noise of a column's differences comes from, what they could have seen, and what would help.
fn noise_note(metric: &MetricColumn) -> Option<String> {
    let of = metric.noise?;
    let design = of.design;
    let [seeds, rows, both] = of.noise.spread(&design).shares()?;
    let parts = match (of.noise.with_rows, design.seeds) {
        (true, 0 | 1) => "rows, at these seeds".to_owned(),
        (true, _) => format!(
            "seeds {:.0} %, rows {:.0} %, single rows at single seeds {:.0} %",
            100.0 * seeds,
            100.0 * rows,
            100.0 * both
        ),
        (false, _) => "seeds; of rows nothing is known".to_owned(),
    };
    let seen = |design: Design| of.visible(&design).map(|d| (d, two_digits(d)));
    let (_, now) = seen(design)?;
    let mut words = format!(
        "Noise of differences in {}: {parts}. A true difference of {now} would be seen four times in five",
        metric.key
    );
    let more_seeds = seen(Design {
        seeds: 2 * design.seeds,
        ..design
    });
    let more_rows = seen(Design {
        rows: 2 * design.rows,
        ..design
    });
    let noun = format!("{}s", of.row_noun());
    let known = (of.noise.with_rows, design.seeds > 1);
    words += &match (
        more_seeds.filter(|_| known.1),
        more_rows.filter(|_| known.0),
    ) {
        (Some((_, seeds)), Some((_, rows))) if seeds == rows => {
            format!(", of {seeds} with twice the seeds or twice the {noun}")
        }
        (Some((s, seeds)), Some((r, rows))) if s < r => {
            format!(
                "; more seeds help more: {seeds} with twice as many, {rows} with twice the {noun}"
            )
        }
        (Some((_, seeds)), Some((_, rows))) => {
            format!(
                "; more {noun} help more: {rows} with twice as many, {seeds} with twice the seeds"
            )
        }
        (Some((_, seeds)), None) => format!(", of {seeds} with twice the seeds"),
        (None, Some((_, rows))) => {
            format!(", of {rows} with twice the {noun}; what other seeds would do is not known")
        }
        (None, None) => String::new(),
    };
    Some(words + ".")
}

/// Rows whose noise is not that of the others.
fn apart_note(table: &SweepTable, metric: &MetricColumn) -> Option<String> {
    let label = |row: &usize| short_label(&table.rows[*row].assignments, &table.axes);
    let labels: Vec<String> = metric.apart.iter().map(label).collect();
    (!labels.is_empty()).then(|| {
        format!(
            "In {} the seeds of {} differ far more than the others': their variance is not pooled.",
            metric.key,
            labels.join("; ")
        )
    })
}

/// What is missing and why; seeds that lack something for one reason are named together.
fn gap_note(table: &SweepTable) -> Option<String> {
    let mut reasons: Vec<(&str, BTreeSet<u64>)> = Vec::new();
    let missing = table.rows.iter().flat_map(|row| &row.cells);
    for (seed, _, text) in missing.flat_map(|cell| &cell.missing) {
        match reasons.iter_mut().find(|(reason, _)| reason == text) {
            Some((_, seeds)) => drop(seeds.insert(*seed)),
            None => reasons.push((text, BTreeSet::from([*seed]))),
        }
    }
    let gaps: Vec<String> = reasons
        .iter()
        .map(|(reason, seeds)| {
            let listed: Vec<String> = seeds.iter().map(u64::to_string).collect();
            let word = if seeds.len() == 1 { "seed" } else { "seeds" };
            format!("{word} {}: {reason}", listed.join(", "))
        })
        .collect();
    let shown = gaps.len().min(10);
    let more = if gaps.len() > shown {
        format!("; and {} more", gaps.len() - shown)
    } else {
        String::new()
    };
    (shown > 0).then(|| format!("Missing: {}{more}.", gaps[..shown].join("; ")))
}

/// Baselines that are one run for several seeds: what they would be with another seed is not in the
/// intervals of the differences.
fn shared_baselines(table: &SweepTable) -> Option<String> {
    let several = |row: &ConfigRow| row.cells.iter().any(|c| c.seeds.len() > 1);
    let mut names = BTreeSet::new();
    for (index, row) in table.rows.iter().enumerate() {
        let Some(base) = row.baseline.filter(|b| *b != index) else {
            continue;
        };
        let single = table.rows[base]
            .cells
            .iter()
            .all(|c| c.seeds.len() <= 1 && c.missing.is_empty());
        if several(row) && single {
            names.insert(short_label(&table.rows[base].assignments, &table.axes));
        }
    }
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| {
        format!(
            "The baseline {} is one run for all seeds, so that its own spread is not in the intervals of the differences.",
            names.join("; ")
        )
    })
}
