//! What successive halving decided: whose configurations were stopped, and by what.

use crate::config::Standing;
use crate::config::sweep::{AxisValue, show_value};
use crate::metrics::{fixed, metric_spec};
use crate::report::doc::{PageBlock, paragraph};
use crate::report::grid::Grid;
use crate::report::select::{Stopped, SweepResults, fits};
use crate::store::StoredSweep;
use std::collections::BTreeMap;

/// A configuration that a table has no results of, since it was stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct StoppedRow {
    /// Axis values.
    pub assignments: BTreeMap<String, AxisValue>,
    /// Values of the table's axes; `None` where an axis does not apply.
    pub values: Vec<Option<AxisValue>>,
    /// `stopped at step 20: rank 3 of 4 on valid/loss`.
    pub words: String,
}

/// The configurations of a sweep that were stopped.
pub(crate) fn stopped(sweep: &StoredSweep) -> Vec<Stopped> {
    let of_sweep = sweep.halving.iter().flat_map(|halving| {
        halving.stopped().map(|standing| Stopped {
            assignments: standing.assignments.clone(),
            over: halving.spec.over.clone(),
            words: standing.words(&halving.spec.metric),
        })
    });
    of_sweep.collect()
}

/// The configurations that were stopped and fit `filter`.
pub(crate) fn stopped_rows(
    results: &SweepResults,
    filter: &BTreeMap<String, AxisValue>,
    axes: &[String],
) -> Vec<StoppedRow> {
    let row = |stopped: &Stopped| StoppedRow {
        assignments: stopped.assignments.clone(),
        values: axes
            .iter()
            .map(|axis| stopped.assignments.get(axis).cloned())
            .collect(),
        words: stopped.words.clone(),
    };
    let stopped = results.stopped.iter();
    stopped
        .filter(|stopped| fits(&stopped.assignments, filter))
        .map(row)
        .collect()
}

/// The decisions, rung after rung; nothing of a sweep that is not halved.
pub(crate) fn halving_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
    let Some(halving) = &results.sweep.halving else {
        return;
    };
    let spec = &halving.spec;
    blocks.push(PageBlock::Heading(
        "How configurations were chosen".to_owned(),
    ));
    let seeds: Vec<String> = spec.seeds.iter().map(u64::to_string).collect();
    blocks.push(paragraph(&format!(
        "Successive halving over {}: configurations that differ in nothing else were trained for the steps of a rung, \
         as the whole of their last training, and the best by the mean of `{}` went on. Rungs have seeds of their own \
         ({}) and an evaluation of their own, so that nothing that is compared above decided what is compared.",
        spec.over.join(", "),
        spec.metric,
        seeds.join(", "),
    )));
    let decimals = metric_spec(&spec.metric).decimals;
    let row = |standing: &Standing| {
        let named = standing.assignments.iter();
        let label: Vec<String> = named
            .map(|(axis, value)| format!("{axis}={}", show_value(value)))
            .collect();
        vec![
            standing.steps.to_string(),
            label.join(" "),
            standing
                .value
                .map_or_else(|| "not finite".to_owned(), |value| fixed(value, decimals)),
            format!("{} of {}", standing.rank, standing.of),
            if standing.kept { "went on" } else { "stopped" }.to_owned(),
        ]
    };
    let heads = ["steps", "configuration|", &spec.metric, "rank:", "then:"];
    let rows = halving.standings.iter().map(row).collect();
    blocks.push(PageBlock::table(
        "Configurations at each rung",
        Grid::plain("", &heads, rows),
    ));
}
