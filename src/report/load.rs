//! Results from the store.

use crate::base::chain;
use crate::base::fs::is_gone;
use crate::plan::RunId;
use crate::queue::RunState;
use crate::report::halving::stopped;
use crate::report::select::{Details, ReportError, RunInfo, RunStatus, SweepResults, TrialResult};
use crate::rundir::{RunDir, RundirError, read_provenance, read_stage_head};
use crate::store::{ReadStore, RunDetails, RunRow, read_notes};
use std::collections::BTreeMap;
use std::path::Path;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What tables and figures need: a few queries, whatever the number of runs.
    Scores,
    /// Also counts, remarks, cost, seeds and provenance of every run, for a report.
    Everything,
}

/// Reads a registered sweep and the results of its runs.
///
/// `source` is the text of the sweep file, or empty if nobody has it. Rows and steps are read later,
/// from the run folders under `root`, by whoever asks for them.
///
/// # Errors
/// The store has no such sweep, or a file of a finished run cannot be read.
pub fn load_results(
    store: &ReadStore,
    root: &Path,
    name: &str,
    source: &str,
    depth: Depth,
) -> Result<SweepResults, ReportError> {
    let mut sweep = store.sweep(name)?;
    sweep.notes = read_notes(root, name)?;
    let mut runs: BTreeMap<RunId, RunInfo> = store
        .runs(name)?
        .into_iter()
        .map(|row| (row.id.clone(), plain_run(row)))
        .collect();
    let mut trials = Vec::new();
    for row in store.trials(name)? {
        if let Some(run) = runs.get_mut(&row.eval) {
            run.metrics = row.metrics;
        }
        trials.push(TrialResult {
            index: row.index,
            label: row.label,
            seed: row.seed,
            assignments: row.assignments,
            runs: row.runs.into_iter().map(|r| r.id).collect(),
            eval: row.eval,
        });
    }
    if depth == Depth::Everything {
        let mut stored = store.details(name)?;
        for run in runs.values_mut().filter(|r| r.status == RunStatus::Done) {
            let details = stored.remove(&run.id).unwrap_or_default();
            add_details(details, root, run, &mut sweep.unread);
        }
    }
    let details = Details::Folders(root.to_owned());
    Ok(SweepResults {
        stopped: stopped(&sweep),
        sweep,
        source: source.to_owned(),
        trials,
        runs,
        details,
    })
}

pub(super) fn plain_run(row: RunRow) -> RunInfo {
    let status = match row.state {
        RunState::Succeeded => RunStatus::Done,
        RunState::Leased { .. } => RunStatus::Running,
        RunState::Blocked | RunState::Ready => RunStatus::NotRun,
        RunState::Failed => {
            RunStatus::Failed(row.message.unwrap_or_else(|| "it went silent".to_owned()))
        }
        RunState::Skipped => RunStatus::Skipped,
        RunState::Cancelled => RunStatus::Cancelled,
    };
    RunInfo {
        id: row.id,
        kind: row.kind,
        seed: None,
        status,
        metrics: BTreeMap::new(),
        counts: BTreeMap::new(),
        notes: Vec::new(),
        usage: None,
        provenance: BTreeMap::new(),
    }
}

/// A file that cannot be read costs what it tells, and is named in `unread`.
fn add_details(details: RunDetails, root: &Path, run: &mut RunInfo, unread: &mut Vec<String>) {
    run.metrics = details.metrics;
    run.counts = details.counts;
    run.notes = details.notes;
    run.usage = details.finished.map(|(_, usage)| usage);
    let dir = RunDir::new(root, &run.id);
    match read_stage_head(&dir) {
        Ok(head) => run.seed = Some(head.seed),
        Err(error) => unread.push(unread_text(&error, "seed", &run.id)),
    }
    let finished = details.finished.map(|(attempt, _)| attempt);
    let provenance = finished.map(|attempt| read_provenance(&dir.attempt(attempt)));
    let provenance = provenance.unwrap_or(Ok(None)).unwrap_or_else(|error| {
        unread.push(unread_text(&error, "device and version", &run.id));
        None
    });
    if let Some(facts) = provenance {
        let named = [
            ("device", facts.device.to_string()),
            ("lions", facts.version),
        ];
        run.provenance = named
            .into_iter()
            .chain(facts.facts.named())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    }
}

fn unread_text(error: &RundirError, what: &str, run: &RunId) -> String {
    let is_mended = match error {
        RundirError::Path(error) => is_gone(&error.source),
        RundirError::TooNew { .. } => false,
        _ => true,
    };
    let why = chain(error);
    let text = format!("{why}: the {what} of run {run} is not known");
    if is_mended {
        text + "; the next `lions run` writes it again"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Device, Timestamp, digest_bytes, write_atomic};
    use crate::config::KeepPolicy;
    use crate::config::spec::TrainRuntime;
    use crate::config::sweep::{ReportSpec, Sweep};
    use crate::plan::{
        Plan, PlannedRun, PlannedTrial, RefLogpsRecipe, RunCost, STAGE_FORMAT, StageFile,
        StageKind, StageRecipe,
    };
    use crate::rundir::Usage;
    use crate::rundir::{
        Facts, MetricValue, OUTCOME_FORMAT, Outcome, Provenance, StageResult, write_provenance,
        write_run_files,
    };
    use crate::store::{FoundRun, Retry, Store};
    use serde_json::json;

    fn planned(name: &str, kind: StageKind, parents: Vec<RunId>) -> PlannedRun {
        let id = RunId(digest_bytes(name.as_bytes()).0);
        // Any recipe will do: nothing here executes it.
        let task = StageRecipe::RefLogps(RefLogpsRecipe {
            sets: Vec::new(),
            online: None,
            precision: crate::config::spec::Precision::F32,
        });
        let stage = StageFile {
            format: STAGE_FORMAT,
            run: id.clone(),
            task,
            seed: 7,
            chat_template: None,
            inputs: BTreeMap::new(),
            data: BTreeMap::new(),
            runtime: TrainRuntime::default(),
            judge_runtime: None,
        };
        let estimate = RunCost {
            tokens: 0,
            flops: 0.0,
            peak_memory_bytes: 0,
            ..RunCost::default()
        };
        PlannedRun {
            id,
            kind,
            stage,
            identity: format!("{{\"of\":\"{name}\"}}"),
            parents,
            trials: vec![0],
            estimate,
        }
    }

    fn outcome(run: &PlannedRun) -> Outcome {
        Outcome {
            format: OUTCOME_FORMAT,
            run: run.id.clone(),
            kind: run.kind,
            attempt: 1,
            started: Timestamp(0),
            finished: Timestamp(1000),
            artifacts: Vec::new(),
            result: StageResult {
                format: OUTCOME_FORMAT,
                artifacts: Vec::new(),
                metrics: [(
                    "stories/loss".to_owned(),
                    MetricValue {
                        value: 1.5,
                        stderr: Some(0.1),
                        n: 20,
                    },
                )]
                .into(),
                counts: [("rows".to_owned(), 20)].into(),
                notes: vec!["a remark".to_owned()],
                usage: Usage {
                    wall_secs: 2.0,
                    tokens: 100,
                    ..Usage::default()
                },
            },
        }
    }

    #[test]
    fn a_registered_sweep_comes_back_with_its_results_and_its_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let sft = planned("sft", StageKind::Sft, Vec::new());
        let done = planned("eval done", StageKind::Eval, vec![sft.id.clone()]);
        let waiting = planned("eval waiting", StageKind::Eval, vec![sft.id.clone()]);
        let trial = |index: usize, eval: &PlannedRun| PlannedTrial {
            index,
            label: format!("beta={index}"),
            seed: 1,
            assignments: [("beta".to_owned(), json!(index))].into(),
            runs: vec![sft.id.clone(), eval.id.clone()],
            eval: eval.id.clone(),
        };
        let plan = Plan {
            trials: vec![trial(0, &done), trial(1, &waiting)],
            runs: vec![sft.clone(), done.clone(), waiting.clone()],
            missing: Vec::new(),
        };
        let mut found = BTreeMap::new();
        for run in [&sft, &done] {
            let folder = RunDir::new(dir.path(), &run.id);
            write_run_files(&folder, &run.identity, &run.stage).unwrap();
            let provenance = Provenance::of_this_process(
                Vec::new(),
                Device::Cpu,
                Timestamp(0),
                Facts::default(),
            );
            write_provenance(&folder.attempt(1), &provenance).unwrap();
            found.insert(
                run.id.clone(),
                FoundRun {
                    outcome: Some(outcome(run)),
                    attempts: 1,
                },
            );
        }
        let sweep = Sweep {
            name: "sample".to_owned(),
            question: "Does it come back?".to_owned(),
            tags: Vec::new(),
            keep: KeepPolicy::All,
            axes: Vec::new(),
            trials: Vec::new(),
            halving: None,
            report: ReportSpec::default(),
            inputs: BTreeMap::new(),
        };
        let mut store = Store::open(&dir.path().join("lions.db")).unwrap();
        store
            .register(
                dir.path(),
                &sweep,
                &plan,
                &found,
                Retry::Never,
                Timestamp(0),
            )
            .unwrap();

        let read = |depth| load_results(store.read(), dir.path(), "sample", "text", depth).unwrap();
        let scores = read(Depth::Scores);
        let loss = scores.metric(&scores.trials[0], "stories/loss").unwrap();
        assert_eq!((loss.n, loss.stderr), (20, Some(0.1)));
        assert_eq!(scores.why_missing(&scores.trials[1]).word, "not run");
        let all = read(Depth::Everything);
        let run = &all.runs[&done.id];
        assert_eq!(
            (run.seed, run.notes.len(), run.counts["rows"]),
            (Some(7), 1, 20)
        );
        assert_eq!(run.usage.unwrap().tokens, 100);
        assert_eq!(run.provenance["device"], "cpu");

        let stage = RunDir::new(dir.path(), &done.id).stage();
        for (text, why, mends) in [("{", "EOF", true), (r#"{"format":99}"#, "format 99", false)] {
            write_atomic(&stage, text.as_bytes()).unwrap();
            let told = read(Depth::Everything).sweep.unread.join("\n");
            assert!(told.contains("stage.json") && told.contains(why), "{told}");
            assert_eq!(told.contains("writes it again"), mends, "{told}");
        }
    }
}
