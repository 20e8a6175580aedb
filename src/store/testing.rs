//! Small sweeps and plans for tests of the store and the runner.

use crate::base::{Timestamp, digest_bytes};
use crate::config::KeepPolicy;
use crate::config::spec::{Precision, TrainRuntime};
use crate::config::sweep::{AxisInfo, ReportSpec, Sweep};
use crate::plan::{
    InputRef, InputRole, Plan, PlannedRun, PlannedTrial, RefLogpsRecipe, RunCost, RunId,
    STAGE_FORMAT, StageFile, StageKind, StageRecipe,
};
use crate::rundir::{MetricValue, OUTCOME_FORMAT, Outcome, StageResult, Usage};
use serde_json::json;
use std::collections::BTreeMap;

/// The id of the run that tests call `name`.
pub(crate) fn id(name: &str) -> RunId {
    RunId(digest_bytes(name.as_bytes()).0)
}

/// A sweep over beta and pairs: one `sft` run for all; a `dpo` and an `eval` run for each trial,
/// named `dpo/<beta>/<pairs>/<seed>` and `eval/…`.
pub(crate) fn grid(betas: &[f64], pairs: &[u64], seeds: &[u64]) -> (Sweep, Plan) {
    let mut plan = Plan {
        runs: vec![run("sft", StageKind::Sft, &[])],
        trials: vec![],
        missing: vec![],
    };
    for (beta, size) in betas.iter().flat_map(|b| pairs.iter().map(move |p| (b, p))) {
        for seed in seeds {
            let point = format!("{beta}/{size}/{seed}");
            let (dpo, eval) = (format!("dpo/{point}"), format!("eval/{point}"));
            let index = plan.trials.len();
            plan.runs[0].trials.push(index);
            let mut stages = [
                run(&dpo, StageKind::Dpo, &["sft"]),
                run(&eval, StageKind::Eval, &[&dpo]),
            ];
            for stage in &mut stages {
                stage.trials.push(index);
            }
            plan.runs.extend(stages);
            plan.trials.push(PlannedTrial {
                index,
                label: format!("beta={beta} pairs={size}"),
                seed: *seed,
                assignments: [("beta".into(), json!(beta)), ("pairs".into(), json!(size))].into(),
                runs: vec![id("sft"), id(&dpo), id(&eval)],
                eval: id(&eval),
            });
        }
    }
    let axis = |name: &str, values| AxisInfo {
        name: name.to_owned(),
        values,
        unit: String::new(),
    };
    let sweep = Sweep {
        name: "grid".into(),
        question: "Which beta?".into(),
        tags: vec![],
        keep: KeepPolicy::All,
        axes: vec![
            axis("beta", betas.iter().map(|b| json!(b)).collect()),
            axis("pairs", pairs.iter().map(|p| json!(p)).collect()),
        ],
        trials: vec![],
        halving: None,
        report: ReportSpec::default(),
        inputs: BTreeMap::new(),
    };
    (sweep, plan)
}

fn run(name: &str, kind: StageKind, parents: &[&str]) -> PlannedRun {
    let input = |parent: &&str| {
        let artifact = "model".to_owned();
        (
            InputRole::Model,
            InputRef::Run {
                id: id(parent),
                artifact,
            },
        )
    };
    PlannedRun {
        id: id(name),
        kind,
        stage: StageFile {
            format: STAGE_FORMAT,
            run: id(name),
            task: StageRecipe::RefLogps(RefLogpsRecipe {
                sets: vec![],
                online: None,
                precision: Precision::F32,
            }),
            seed: 0,
            chat_template: None,
            inputs: parents.iter().map(input).collect(),
            data: BTreeMap::new(),
            runtime: TrainRuntime::default(),
            judge_runtime: None,
        },
        identity: format!("{{\"name\":\"{name}\"}}"),
        parents: parents.iter().map(|parent| id(parent)).collect(),
        trials: vec![],
        estimate: RunCost {
            tokens: 10,
            flops: 1e6,
            peak_memory_bytes: 1 << 20,
            ..RunCost::default()
        },
    }
}

/// An outcome without artifacts whose metric `score` is `score`.
pub(crate) fn outcome(run: &RunId, attempt: u32, score: f64) -> Outcome {
    Outcome {
        format: OUTCOME_FORMAT,
        run: run.clone(),
        kind: StageKind::Eval,
        attempt,
        started: Timestamp(1_000),
        finished: Timestamp(3_000),
        artifacts: vec![],
        result: StageResult {
            format: OUTCOME_FORMAT,
            artifacts: vec![],
            metrics: [(
                "score".to_owned(),
                MetricValue {
                    value: score,
                    stderr: None,
                    n: 4,
                },
            )]
            .into(),
            counts: [("pairs/kept".to_owned(), 4)].into(),
            notes: vec!["a remark".into()],
            usage: Usage {
                wall_secs: 2.0,
                ..Usage::default()
            },
        },
    }
}
