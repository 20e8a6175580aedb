//! What the statistics say, in plain words.

use crate::base::counted;
use crate::metrics::{Better, Verdict, fixed, metric_spec};
use crate::report::compare::{ConfigRow, MetricColumn, SweepTable};
use crate::report::select::{SweepResults, same_value, short_label};

/// Sentences on one table, in the notation of [`crate::report::doc::spans`]: the best of the primary
/// metric, each comparison with the baseline, and what is clear in the other columns.
pub fn answer(table: &SweepTable) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(primary) = table.metrics.first() else {
        return lines;
    };
    lines.extend(best_line(table, primary));
    for row in &table.rows {
        if let Some(line) = effect_line(table, row, 0, primary) {
            lines.push(line);
        }
    }
    for (index, metric) in table.metrics.iter().enumerate().skip(1) {
        lines.extend(other_line(table, index, metric));
    }
    lines
}

/// What the comparisons of a table's primary metric come to, in one sentence: `loss against the baseline, 4 of 5
/// better, 1 of 5 unresolved`.
pub(crate) fn verdict_line(table: &SweepTable) -> String {
    let Some(metric) = table.metrics.first() else {
        return "nothing is measured.".to_owned();
    };
    let of_row = |row: &ConfigRow| Some(row.cells[0].comparison.as_ref()?.verdict(metric.better));
    let verdicts: Vec<Verdict> = table.rows.iter().filter_map(of_row).collect();
    if verdicts.is_empty() {
        return format!("`{}`, compared with no baseline.", metric.key);
    }
    let known = [
        Verdict::Better,
        Verdict::Worse,
        Verdict::More,
        Verdict::Less,
        Verdict::Equivalent,
        Verdict::Unresolved,
        Verdict::Untested,
    ];
    let part = |verdict: &Verdict| match verdicts.iter().filter(|v| *v == verdict).count() {
        0 => None,
        n => Some(format!("{n} of {} {}", verdicts.len(), verdict.words())),
    };
    let parts: Vec<String> = known.iter().filter_map(part).collect();
    format!(
        "`{}` against the baseline, {}.",
        metric.key,
        parts.join(", ")
    )
}

fn better_words(better: Better) -> &'static str {
    match better {
        Better::Higher => ", higher is better",
        Better::Lower => ", lower is better",
        Better::Neither => "",
    }
}

fn best_line(table: &SweepTable, metric: &MetricColumn) -> Option<String> {
    let spec = metric_spec(&metric.key);
    let row = table.rows.iter().find(|r| r.cells[0].top)?;
    let cell = &row.cells[0];
    let estimate = cell.estimate?;
    let interval = cell.interval.map_or(String::new(), |i| {
        format!(
            " [{}, {}]",
            fixed(i.low, metric.decimals),
            fixed(i.high, metric.decimals)
        )
    });
    let seeds = counted(estimate.n, "seed");
    let unit = if spec.unit.is_empty() {
        String::new()
    } else {
        format!("{}, ", spec.unit)
    };
    let better = better_words(metric.better).trim_start_matches(", ");
    let others: Vec<String> = table
        .rows
        .iter()
        .filter(|r| r.cells[0].best && !r.cells[0].top)
        .map(|r| contrast(table, r))
        .collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" Not clearly worse: {}.", others.join("; "))
    };
    Some(format!(
        "Best mean of `{}` ({unit}{better}): **{}**, {}{interval} over {seeds}.{others}",
        metric.key,
        short_label(&row.assignments, &table.axes),
        fixed(estimate.value, metric.decimals),
    ))
}

/// `batching=concat against batching=padded (mask=all-tokens): −0.15 [−0.17, −0.13], better, …`:
/// only the axes on which the two differ are named, the common ones once.
fn effect_line(
    table: &SweepTable,
    row: &ConfigRow,
    index: usize,
    metric: &MetricColumn,
) -> Option<String> {
    let comparison = row.cells[index].comparison.as_ref()?;
    let base = &table.rows[row.baseline?];
    let same = |axis: &&String| match (row.assignments.get(*axis), base.assignments.get(*axis)) {
        (Some(a), Some(b)) => same_value(a, b),
        (a, b) => a == b,
    };
    let (common, differ): (Vec<String>, Vec<String>) =
        table.axes.iter().cloned().partition(|a| same(&a));
    let at = if common.is_empty() {
        String::new()
    } else {
        format!(" ({})", short_label(&row.assignments, &common))
    };
    let words = comparison.words(metric.better, metric.decimals);
    let (ours, theirs) = (
        short_label(&row.assignments, &differ),
        short_label(&base.assignments, &differ),
    );
    Some(format!("**{ours}** against {theirs}{at}: {words}."))
}

/// The label of a row.
fn contrast(table: &SweepTable, row: &ConfigRow) -> String {
    short_label(&row.assignments, &table.axes)
}

/// One sentence on a column that is not primary.
fn other_line(table: &SweepTable, index: usize, metric: &MetricColumn) -> Option<String> {
    let verdict = |r: &ConfigRow| Some(r.cells[index].comparison.as_ref()?.verdict(metric.better));
    let tested: Vec<(&ConfigRow, Verdict)> = table
        .rows
        .iter()
        .filter_map(|r| Some((r, verdict(r).filter(|v| *v != Verdict::Untested)?)))
        .collect();
    if tested.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    for verdict in [
        Verdict::Better,
        Verdict::Worse,
        Verdict::More,
        Verdict::Less,
    ] {
        let names: Vec<String> = tested
            .iter()
            .filter(|t| t.1 == verdict)
            .map(|t| contrast(table, t.0))
            .collect();
        if !names.is_empty() {
            parts.push(format!("{} for {}", verdict.words(), names.join("; ")));
        }
    }
    for verdict in [Verdict::Equivalent, Verdict::Unresolved] {
        match tested.iter().filter(|t| t.1 == verdict).count() {
            0 => {}
            n if n == tested.len() => parts.push(format!("{} for all {n}", verdict.words())),
            n => parts.push(format!("{} for {n}", verdict.words())),
        }
    }
    let text = parts.join(", ");
    Some(format!("`{}`: against the baseline, {text}.", metric.key))
}

/// How much of the sweep is there: `all 45 trials have results`, or what is missing.
pub fn coverage(results: &SweepResults) -> String {
    let total = results.trials.len();
    let done = |id| {
        results
            .runs
            .get(id)
            .is_some_and(|r| r.status == crate::report::select::RunStatus::Done)
    };
    let finished = results.trials.iter().filter(|t| done(&t.eval)).count();
    if finished == total {
        return match total {
            1 => "The one trial has results.".to_owned(),
            _ => format!("All {total} trials have results."),
        };
    }
    let mut reasons: Vec<String> = Vec::new();
    for trial in results.trials.iter().filter(|t| !done(&t.eval)) {
        let why = results.why_missing(trial).text;
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }
    let shown = reasons.len().min(5);
    let more = if reasons.len() > shown {
        format!("; and {} more", reasons.len() - shown)
    } else {
        String::new()
    };
    format!(
        "**{finished} of {} {} results.** Missing: {}{more}.",
        counted(total, "trial"),
        if finished == 1 { "has" } else { "have" },
        reasons[..shown].join("; ")
    )
}
