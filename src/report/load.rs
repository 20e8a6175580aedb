//! Results from a plan and the run folders.

use crate::config::sweep::Sweep;
use crate::plan::{Plan, PlannedRun, RunId};
use crate::report::select::{Details, ReportError, RunInfo, RunStatus, SweepResults, TrialResult};
use crate::rundir::{Outcome, Provenance, RunDir, read_outcome, read_provenance};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the outcome of every run of `plan` from the folders under `root`.
///
/// `source` is the text of the sweep file. `status` is asked for the runs that have no outcome: the
/// store knows whether they failed, wait or were cancelled.
///
/// # Errors
/// An outcome or a provenance file is there and cannot be read.
pub fn load_results(
    sweep: &Sweep,
    source: &str,
    plan: &Plan,
    root: &Path,
    status: impl Fn(&RunId) -> RunStatus,
) -> Result<SweepResults, ReportError> {
    let mut runs = BTreeMap::new();
    for planned in &plan.runs {
        let dir = RunDir::new(root, &planned.id);
        let info = match read_outcome(&dir)? {
            Some(outcome) => {
                let provenance = read_provenance(&dir.attempt(outcome.attempt))?;
                finished_run(planned, outcome, provenance)
            }
            None => unfinished_run(planned, status(&planned.id)),
        };
        runs.insert(planned.id.clone(), info);
    }
    let trials = plan.trials.iter().map(|t| TrialResult {
        index: t.index,
        label: t.label.clone(),
        seed: t.seed,
        assignments: t.assignments.clone(),
        runs: t.runs.clone(),
        eval: t.eval.clone(),
    });
    Ok(SweepResults {
        sweep: sweep.clone(),
        source: source.to_owned(),
        trials: trials.collect(),
        runs,
        details: Details::Folders(root.to_owned()),
    })
}

fn finished_run(planned: &PlannedRun, outcome: Outcome, provenance: Option<Provenance>) -> RunInfo {
    let facts = provenance.map(|p| {
        let facts = [("device", p.device), ("host", p.host), ("lions", p.version)];
        facts.map(|(name, value)| (name.to_owned(), value))
    });
    RunInfo {
        id: planned.id.clone(),
        kind: planned.kind,
        seed: planned.stage.seed,
        status: RunStatus::Done,
        metrics: outcome.result.metrics,
        counts: outcome.result.counts,
        notes: outcome.result.notes,
        usage: Some(outcome.result.usage),
        provenance: facts.into_iter().flatten().collect(),
    }
}

fn unfinished_run(planned: &PlannedRun, status: RunStatus) -> RunInfo {
    // A run that the store calls done and that has no outcome has lost it: it must run again.
    let status = if status == RunStatus::Done {
        RunStatus::NotRun
    } else {
        status
    };
    RunInfo {
        id: planned.id.clone(),
        kind: planned.kind,
        seed: planned.stage.seed,
        status,
        metrics: BTreeMap::new(),
        counts: BTreeMap::new(),
        notes: Vec::new(),
        usage: None,
        provenance: BTreeMap::new(),
    }
}
