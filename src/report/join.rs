//! Several sweeps as one, for tables over all of them.

use crate::base::Timestamp;
use crate::config::sweep::{AxisInfo, ReportSpec};
use crate::report::harness::HarnessResults;
use crate::report::select::{Details, SweepResults, TrialResult};
use crate::store::StoredSweep;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The axis that tells the sweeps apart.
const SWEEP_AXIS: &str = "sweep";

/// The trials of all sweeps, and what was stopped of them, each with the sweep's name as a value of an axis `sweep`; a
/// single one stays as it is. Tables and figures of the sweep files are left out: each speaks of its own axes.
pub fn join_results(first: SweepResults, others: Vec<SweepResults>) -> SweepResults {
    if others.is_empty() {
        return first;
    }
    let all = std::iter::once(&first).chain(&others);
    let names: Vec<String> = all.map(|one| one.sweep.name.clone()).collect();
    let mut joined = first;
    let (mut trials, mut stopped) = (Vec::new(), Vec::new());
    let mut take = |name: &str, of_sweep: &mut SweepResults| {
        for mut trial in of_sweep.trials.drain(..) {
            trial.index = trials.len();
            trial.assignments.insert(SWEEP_AXIS.to_owned(), json!(name));
            trials.push(trial);
        }
        for mut row in of_sweep.stopped.drain(..) {
            row.assignments.insert(SWEEP_AXIS.to_owned(), json!(name));
            stopped.push(row);
        }
    };
    take(&names[0], &mut joined);
    for (mut other, name) in others.into_iter().zip(&names[1..]) {
        take(name, &mut other);
        joined.runs.extend(other.runs);
        joined.sweep.unread.extend(other.sweep.unread);
        for axis in other.sweep.axes {
            add_axis(&mut joined.sweep.axes, axis);
        }
    }
    (joined.trials, joined.stopped) = (trials, stopped);
    let sweep_axis = AxisInfo {
        name: SWEEP_AXIS.to_owned(),
        values: names.iter().map(|name| json!(name)).collect(),
        unit: String::new(),
    };
    joined.sweep.axes.insert(0, sweep_axis);
    joined.sweep.name = names.join(" and ");
    joined.sweep.report = ReportSpec::default();
    joined
}

/// An axis with the values that it has in any of the sweeps.
fn add_axis(axes: &mut Vec<AxisInfo>, axis: AxisInfo) {
    match axes.iter_mut().find(|known| known.name == axis.name) {
        Some(known) => {
            let new = axis
                .values
                .into_iter()
                .filter(|value| !known.values.contains(value));
            let new: Vec<_> = new.collect();
            known.values.extend(new);
        }
        None => axes.push(axis),
    }
}

/// Results of lm-evaluation-harness as a sweep of one configuration, which [`join_results`] puts beside others. `seed` is that
/// of a trial there: what is asked does not depend on it, so that the two are paired.
pub fn harness_sweep(file: &HarnessResults, seed: u64) -> SweepResults {
    let sweep = StoredSweep {
        name: file.name.clone(),
        question: String::new(),
        tags: Vec::new(),
        notes: Vec::new(),
        axes: Vec::new(),
        report: ReportSpec::default(),
        halving: None,
        unread: Vec::new(),
        registered: Timestamp(0),
    };
    let trial = TrialResult {
        index: 0,
        label: file.name.clone(),
        seed,
        assignments: BTreeMap::new(),
        runs: vec![file.run.clone()],
        eval: file.run.clone(),
    };
    SweepResults {
        sweep,
        source: String::new(),
        trials: vec![trial],
        runs: BTreeMap::from([(file.run.clone(), file.info())]),
        stopped: Vec::new(),
        details: Details::Memory {
            rows: BTreeMap::new(),
            steps: BTreeMap::new(),
            batches: BTreeMap::new(),
            samples: BTreeMap::new(),
        },
    }
}

/// Results whose runs lie in folders of `root`, but for those of `files`.
pub fn with_rows_of(
    mut joined: SweepResults,
    root: &Path,
    files: Vec<HarnessResults>,
) -> SweepResults {
    joined.details = Details::Beside {
        root: root.to_owned(),
        rows: files
            .into_iter()
            .map(|file| (file.run, file.rows))
            .collect(),
    };
    joined
}
