//! Which part of a sweep that is halved is next: a rung, or what is left of the sweep.

use crate::cli::database::{open, store_error};
use crate::cli::error::CommandError;
use crate::cli::planned::make;
use crate::cli::preflight::Look;
use crate::cli::project::Project;
use crate::cli::text::{counted, si};
use crate::config::Standing;
use crate::config::sweep::{Sweep, Trial};
use crate::plan::{KnownLengths, Plan, PlannedRun, PlannedTrial, RunId, StageKind};
use crate::queue::RunState;
use crate::rundir::FailureClass;
use crate::store::{ReadStore, StoreError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The sweep that is to be run next.
pub(crate) struct Phase {
    /// A rung, or the sweep without what was stopped.
    pub(crate) sweep: Sweep,
    /// Its runs.
    pub(crate) plan: Plan,
    /// The number of the rung, from 0; none if it is the sweep itself.
    pub(crate) rung: Option<usize>,
    /// What the rungs before have decided.
    standings: Vec<Standing>,
}

impl Phase {
    /// A sweep that is not halved.
    pub(crate) fn whole(sweep: Sweep, plan: Plan) -> Self {
        Self {
            sweep,
            plan,
            rung: None,
            standings: Vec::new(),
        }
    }
}

/// What is next of a sweep, by the results of its rungs so far. One that is not halved is next itself.
pub(crate) fn next_phase(
    project: &Project,
    sweep: &Sweep,
    lengths: &KnownLengths,
) -> Result<Phase, CommandError> {
    let mut sweep = sweep.clone();
    let rungs = sweep.halving.as_ref().map_or(0, |h| h.spec.rungs.len());
    // Opened for each rung anew: a run may have made it since.
    for at in 0..rungs {
        let Some(rung) = sweep.rung(at) else {
            continue; // as many go on as are left
        };
        let plan = make(project, &rung, lengths)?;
        let metric = sweep.halving.as_ref().map(|h| h.spec.metric.clone());
        let store = open(project)?;
        let values = store.and_then(|store| values(&store, (&rung, &plan), &metric?).transpose());
        match (values.transpose()?, &mut sweep.halving) {
            (Some(values), Some(halving)) => halving.decide(at, &values),
            (_, halving) => {
                return Ok(Phase {
                    sweep: rung,
                    plan,
                    rung: Some(at),
                    standings: halving.take().map_or_else(Vec::new, |h| h.standings),
                });
            }
        }
    }
    let sweep = sweep.without_stopped();
    let plan = make(project, &sweep, lengths)?;
    let standings = sweep.halving.as_ref().map(|h| h.standings.clone());
    Ok(Phase {
        standings: standings.unwrap_or_default(),
        ..Phase::whole(sweep, plan)
    })
}

/// Refuses a rung that is no shorter than a trial which competes, by the steps that the plan of the whole sweep estimates.
/// The look at rows has told of the trials whose steps it `counted`.
pub(crate) fn refuse_long_rungs(
    sweep: &Sweep,
    plan: &Plan,
    counted: &BTreeSet<usize>,
) -> Result<(), CommandError> {
    let Some(halving) = &sweep.halving else {
        return Ok(());
    };
    let rung = halving.first_rung().iter();
    let competing: BTreeSet<usize> = rung.map(|trial| trial.index).collect();
    let trains = |run: &&PlannedRun| matches!(run.kind, StageKind::Sft | StageKind::Dpo);
    let trainings = plan.runs.iter().filter(trains);
    let steps: BTreeMap<&RunId, f64> = trainings.map(|r| (&r.id, r.estimate.steps)).collect();
    let last_training = |trial: &PlannedTrial| {
        let steps = trial.runs.iter().rev().find_map(|run| steps.get(run));
        steps.copied().filter(|steps| *steps > 0.0)
    };
    let trials = plan.trials.iter();
    let shortest = trials
        .filter(|trial| competing.contains(&trial.index) && !counted.contains(&trial.index))
        .filter_map(|trial| Some((last_training(trial)?, trial)))
        .min_by(|(a, _), (b, _)| a.total_cmp(b));
    let wrong = shortest
        .and_then(|(steps, trial)| halving.too_long(&trial.label, (steps as u64, "about ")));
    wrong.map_or(Ok(()), |(message, help)| {
        Err(CommandError::user(message).hint(help))
    })
}

/// How a trial of a rung ended.
enum Ended {
    /// With this value.
    Value(f64),
    /// A training, or the metric, did not stay finite.
    NotFinite,
    /// It was evaluated, and not by what decides.
    NotMeasured,
}

/// What a rung's trials measured, if all have ended: nothing of those that did not stay finite.
fn values(
    store: &ReadStore,
    (rung, plan): (&Sweep, &Plan),
    metric: &str,
) -> Result<Option<Vec<Option<f64>>>, CommandError> {
    let mut values = Vec::new();
    for trial in &plan.trials {
        match ended(store, trial, metric).map_err(store_error)? {
            Some(Ended::Value(value)) => values.push(Some(value)),
            Some(Ended::NotFinite) => values.push(None),
            Some(Ended::NotMeasured) => return Err(not_measured(rung, trial, metric)),
            None => return Ok(None),
        }
    }
    Ok(Some(values))
}

/// That a rung cannot be decided: who is ranked last for want of a number has lost nothing.
fn not_measured(rung: &Sweep, trial: &PlannedTrial, metric: &str) -> CommandError {
    let run = trial.eval.short();
    let message = format!(
        "`{}` cannot be decided: run {run}, the evaluation of `{}` with seed {}, is done and has no metric `{metric}`",
        rung.name, trial.label, trial.seed
    );
    CommandError::user(message).hint(format!(
        "`lions show {run}` lists what it measured; `metric` under `[search.halving]` names what decides"
    ))
}

fn ended(
    store: &ReadStore,
    trial: &PlannedTrial,
    metric: &str,
) -> Result<Option<Ended>, StoreError> {
    for run in &trial.runs {
        let row = match store.run(run) {
            Err(StoreError::NoRun { .. }) => return Ok(None),
            row => row?,
        };
        match row.state {
            RunState::Succeeded => {}
            RunState::Failed if row.class == Some(FailureClass::NotFinite) => {
                return Ok(Some(Ended::NotFinite));
            }
            _ => return Ok(None),
        }
    }
    let metrics = store.metrics(&trial.eval)?;
    Ok(Some(match metrics.get(metric).map(|metric| metric.value) {
        Some(value) if value.is_finite() => Ended::Value(value),
        Some(_) => Ended::NotFinite,
        None => Ended::NotMeasured,
    }))
}

/// What a sweep costs that is halved: whoever goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CostRange {
    /// Operations if always the cheapest go on.
    pub(crate) least: f64,
    /// If always the costliest do.
    pub(crate) most: f64,
    /// Without rungs, all in full.
    pub(crate) in_full: f64,
}

/// What the rest of a sweep costs, by what is decided so far; none if it is not halved. Rungs that are too long are refused,
/// unless the look at its rows has told of errors (`wanting`).
pub(crate) fn cost_range(
    project: &Project,
    (sweep, phase): (&Sweep, &Phase),
    (look, wanting): (&Look, bool),
    done: &dyn Fn(&RunId) -> bool,
) -> Result<Option<CostRange>, CommandError> {
    let lengths = look.lengths();
    let mut so_far = sweep.clone();
    let Some(halving) = &mut so_far.halving else {
        return Ok(None);
    };
    halving.standings.clone_from(&phase.standings);
    let rungs = halving.spec.rungs.len();
    let full = make(project, sweep, lengths)?;
    if !wanting {
        refuse_long_rungs(sweep, &full, look.counted())?;
    }
    let flops: BTreeMap<&RunId, f64> = full
        .runs
        .iter()
        .map(|run| (&run.id, run.estimate.flops))
        .collect();
    let mut by_configuration: BTreeMap<String, f64> = BTreeMap::new();
    for trial in &full.trials {
        let cost = by_configuration.entry(trial.label.clone()).or_default();
        *cost += trial
            .runs
            .iter()
            .filter_map(|run| flops.get(run))
            .sum::<f64>();
    }
    let cost = |trial: &Trial| {
        by_configuration
            .get(&trial.label())
            .copied()
            .unwrap_or_default()
    };
    let mut ends = [0.0; 2];
    for (costliest, end) in [false, true].into_iter().zip(&mut ends) {
        let mut left = so_far.clone();
        let mut runs = BTreeMap::new();
        for at in phase.rung.unwrap_or(rungs)..rungs {
            if let Some(rung) = left.rung(at) {
                note_runs(&make(project, &rung, lengths)?, done, &mut runs);
            }
            left = left.leaving(at, cost, costliest);
        }
        let rest = make(project, &left.without_stopped(), lengths)?;
        note_runs(&rest, done, &mut runs);
        *end = runs.values().sum();
    }
    let mut runs = BTreeMap::new();
    note_runs(&full, done, &mut runs);
    Ok(Some(CostRange {
        least: ends[0].min(ends[1]),
        most: ends[0].max(ends[1]),
        in_full: runs.values().sum(),
    }))
}

fn note_runs(plan: &Plan, done: &dyn Fn(&RunId) -> bool, runs: &mut BTreeMap<RunId, f64>) {
    let todo = plan.runs.iter().filter(|run| !done(&run.id));
    runs.extend(todo.map(|run| (run.id.clone(), run.estimate.flops)));
}

/// The rungs, what was decided of them, and the range of what is to do.
pub(crate) fn halving_lines(sweep: &Sweep, phase: &Phase, range: CostRange) -> Vec<String> {
    let Some(halving) = &sweep.halving else {
        return Vec::new();
    };
    let rungs = halving.spec.rungs.iter();
    let rungs: Vec<String> = rungs
        .map(|rung| format!("{} at step {}", rung.keep, rung.steps))
        .collect();
    let next = match phase.rung {
        Some(at) => format!("next is rung {}, `{}`", at + 1, phase.sweep.name),
        None => "all rungs are decided".to_owned(),
    };
    let mut lines = vec![
        format!(
            "halving over {} by {}: {} go on; {next}",
            halving.spec.over.join(", "),
            halving.spec.metric,
            rungs.join(", then "),
        ),
        format!(
            "to do: {} to {} FLOPs, by what goes on ({} without halving)",
            si(range.least),
            si(range.most),
            si(range.in_full)
        ),
    ];
    if range.least > range.in_full {
        lines.push(
            "the rungs cost more than they save: shorten them, or let fewer go on".to_owned(),
        );
    }
    let stopped = phase.standings.iter().filter(|standing| !standing.kept);
    lines.extend(stopped.map(|standing| standing.line(&halving.spec.metric)));
    lines
}

/// The same for programs.
pub(crate) fn halving_json(sweep: &Sweep, phase: &Phase, range: CostRange) -> Value {
    json!({
        "rung": phase.rung, "next": phase.sweep.name,
        "spec": sweep.halving.as_ref().map(|halving| &halving.spec), "standings": phase.standings,
        "flops": { "least": range.least, "most": range.most, "without_halving": range.in_full },
    })
}

/// What is said when a rung is decided.
pub(crate) fn decided(before: &Sweep, after: &Phase) -> Option<String> {
    let halving = after.sweep.halving.as_ref()?;
    let stopped = halving.stopped().count();
    let left: BTreeSet<String> = after.sweep.trials.iter().map(Trial::label).collect();
    let lucky = halving.standings.iter();
    let lucky = lucky.filter(|standing| standing.kept && standing.value.is_none());
    let lucky = match lucky.count() {
        0 => String::new(),
        some => format!("; {some} of these go on by their place alone, as too few stayed finite"),
    };
    Some(format!(
        "{}: {} stopped, {} in full{lucky}",
        before.name,
        counted(stopped, "configuration"),
        left.len()
    ))
}
