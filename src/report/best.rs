//! Which runs the best configurations of a sweep are made of.

use crate::config::sweep::TableSpec;
use crate::plan::RunId;
use crate::report::compare::compare;
use crate::report::page::table_specs;
use crate::report::select::{ReportError, RunStatus, SweepResults};
use std::collections::{BTreeMap, BTreeSet};

/// Runs of the configurations that are not clearly worse than the best, by the first metric of the sweep's first
/// table; with those of which it was not measured. `None` while a trial is not done, or where no configuration is
/// better than another: nothing is decided then.
///
/// # Errors
/// A results file is there and cannot be read.
pub fn best_runs(results: &SweepResults) -> Result<Option<BTreeSet<RunId>>, ReportError> {
    let done = |run: &RunId| {
        let run = results.runs.get(run);
        run.is_some_and(|run| run.status == RunStatus::Done)
    };
    if !results.trials.iter().all(|trial| done(&trial.eval)) {
        return Ok(None);
    }
    let specs = table_specs(results);
    let Some(first) = specs.first() else {
        return Ok(None);
    };
    let spec = TableSpec {
        filter: BTreeMap::new(),
        baseline: BTreeMap::new(),
        metrics: first.metrics.iter().take(1).cloned().collect(),
        ..first.clone()
    };
    let table = compare(results, &spec)?;
    let cells = table
        .rows
        .iter()
        .filter_map(|row| Some((row, row.cells.first()?)));
    let (mut kept, mut decided) = (BTreeSet::new(), false);
    for (row, cell) in cells {
        decided |= cell.best;
        if cell.best || cell.estimate.is_none() {
            let own = results.trials.iter();
            let own = own.filter(|trial| trial.assignments == row.assignments);
            kept.extend(own.flat_map(|trial| trial.runs.iter().cloned()));
        }
    }
    Ok(decided.then_some(kept))
}
