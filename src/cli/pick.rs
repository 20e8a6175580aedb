//! Some trials of a sweep, and runs of one stage.

use crate::cli::error::CommandError;
use crate::config::suggest;
use crate::config::sweep::{AxisInfo, AxisValue, show_value};
use crate::plan::{Plan, RunId, StageKind};
use crate::report::SweepResults;
use crate::store::TrialRow;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::collections::{BTreeMap, BTreeSet};

// A doc comment here would replace the help of the commands that take these.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TrialFilter {
    /// Only trials where an axis has one of these values; repeatable, `seed` is an axis, too
    #[arg(long = "where", value_name = "AXIS=VALUE,…")]
    wheres: Vec<String>,
}

/// Values that trials must have.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    /// By axis the texts of the values, one of which a trial must have.
    wanted: BTreeMap<String, Vec<String>>,
}

/// What stands for seeds among the axes.
const SEED: &str = "seed";

impl TrialFilter {
    pub(crate) fn is_empty(&self) -> bool {
        self.wheres.is_empty()
    }

    /// Reads the words against what the sweep has.
    pub(crate) fn read(
        &self,
        axes: &[AxisInfo],
        seeds: impl IntoIterator<Item = u64>,
    ) -> Result<Picked, CommandError> {
        let mut known: BTreeMap<&str, Vec<String>> = axes
            .iter()
            .map(|axis| {
                (
                    axis.name.as_str(),
                    axis.values.iter().map(show_value).collect(),
                )
            })
            .collect();
        let seeds: BTreeSet<u64> = seeds.into_iter().collect();
        known.insert(SEED, seeds.iter().map(u64::to_string).collect());
        let mut picked = Picked::default();
        for word in &self.wheres {
            let Some((axis, values)) = word.split_once('=') else {
                let error = CommandError::user(format!("`--where {word}` has no `=`"));
                return Err(error.hint("for example `--where beta=0.1`"));
            };
            let axis = axis.trim();
            let Some(takes) = known.get(axis) else {
                let error = CommandError::user(format!("this sweep has no axis `{axis}`"));
                let hint = suggest(axis, known.keys().copied()).unwrap_or_default();
                return Err(error.hint(hint));
            };
            let wanted = picked.wanted.entry(axis.to_owned()).or_default();
            // A label may hold a comma.
            let whole = takes.iter().any(|value| same(value, values));
            let parts: Vec<&str> = if whole {
                vec![values]
            } else {
                values.split(',').collect()
            };
            for part in parts {
                let Some(value) = takes.iter().find(|value| same(value, part)) else {
                    let error =
                        CommandError::user(format!("axis `{axis}` never has the value `{part}`"));
                    let hint = suggest(part, takes.iter().map(String::as_str));
                    return Err(error.hint(hint.unwrap_or_default()));
                };
                wanted.push(value.clone());
            }
        }
        Ok(picked)
    }

    /// Leaves the others out of a sweep's trials.
    pub(crate) fn keep_trials(
        &self,
        axes: &[AxisInfo],
        trials: &mut Vec<TrialRow>,
    ) -> Result<(), CommandError> {
        if self.is_empty() {
            return Ok(());
        }
        let picked = self.read(axes, trials.iter().map(|trial| trial.seed))?;
        trials.retain(|trial| picked.fits(&trial.assignments, trial.seed));
        not_none(trials.len())
    }

    /// Leaves the other trials out of results, and the other configurations that were stopped.
    pub(crate) fn keep_results(&self, results: &mut SweepResults) -> Result<(), CommandError> {
        if self.is_empty() {
            return Ok(());
        }
        let seeds = results.trials.iter().map(|trial| trial.seed);
        let picked = self.read(&results.sweep.axes, seeds)?;
        results
            .trials
            .retain(|trial| picked.fits(&trial.assignments, trial.seed));
        results
            .stopped
            .retain(|row| picked.fits_values(&row.assignments));
        if let (true, Some(row)) = (results.trials.is_empty(), results.stopped.first()) {
            let message = "halving stopped every configuration that has all these values";
            return Err(CommandError::user(message).hint(format!(
                "of the first: {}; without `--where` they stand in the table",
                row.words
            )));
        }
        not_none(results.trials.len())
    }
}

/// Whether a value is what was typed; `0.10` and `0.1` are.
fn same(value: &str, typed: &str) -> bool {
    let numbers = || {
        Some((
            value.parse::<f64>().ok()?,
            typed.trim().parse::<f64>().ok()?,
        ))
    };
    value == typed.trim() || numbers().is_some_and(|(a, b)| a.to_bits() == b.to_bits())
}

impl Picked {
    /// Whether a trial has the values.
    pub(crate) fn fits(&self, assignments: &BTreeMap<String, AxisValue>, seed: u64) -> bool {
        let seeds = self.wanted.get(SEED);
        seeds.is_none_or(|seeds| seeds.contains(&seed.to_string())) && self.fits_values(assignments)
    }

    /// Whether a configuration has the values, whatever the seeds.
    pub(crate) fn fits_values(&self, assignments: &BTreeMap<String, AxisValue>) -> bool {
        let mut axes = self.wanted.iter().filter(|(axis, _)| *axis != SEED);
        axes.all(|(axis, wanted)| {
            let value = assignments.get(axis).map(show_value);
            value.is_some_and(|value| wanted.contains(&value))
        })
    }
}

/// Refuses values that no trial has together.
pub(crate) fn not_none(trials: usize) -> Result<(), CommandError> {
    if trials > 0 {
        return Ok(());
    }
    let error = CommandError::user("no trial has all these values");
    Err(error.hint("leave one `--where` out; `lions plan` lists the trials"))
}

// As above.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct OnlyStage {
    /// Only runs of this stage, and what they need
    #[arg(long = "only", value_name = "STAGE", value_parser = stages())]
    pub(crate) stage: Option<StageKind>,
}

/// Reads the name of a stage.
fn stages() -> impl TypedValueParser<Value = StageKind> {
    let names = StageKind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).map(|name| {
        let named = StageKind::ALL.iter().find(|kind| kind.name() == name);
        *named.unwrap_or(&StageKind::Eval)
    })
}

/// The runs that trials and stage ask for, with what they need; nothing if all are.
pub(crate) fn wanted_runs(
    plan: &Plan,
    axes: &[AxisInfo],
    filter: &TrialFilter,
    only: OnlyStage,
) -> Result<Option<BTreeSet<RunId>>, CommandError> {
    if filter.is_empty() && only.stage.is_none() {
        return Ok(None);
    }
    let picked = filter.read(axes, plan.trials.iter().map(|trial| trial.seed))?;
    let fits = |index: &usize| {
        let trial = plan.trials.iter().find(|trial| trial.index == *index);
        trial.is_some_and(|trial| picked.fits(&trial.assignments, trial.seed))
    };
    not_none(
        plan.trials
            .iter()
            .filter(|trial| fits(&trial.index))
            .count(),
    )?;
    let mut wanted = BTreeSet::new();
    // Parents stand before children.
    for run in plan.runs.iter().rev() {
        let asked = only.stage.is_none_or(|kind| kind == run.kind) && run.trials.iter().any(fits);
        if asked || wanted.contains(&run.id) {
            wanted.insert(run.id.clone());
            wanted.extend(run.parents.iter().cloned());
        }
    }
    if let (true, Some(kind)) = (wanted.is_empty(), only.stage) {
        let error = CommandError::user(format!("these trials have no run of stage `{kind}`"));
        let has: BTreeSet<&str> = plan.runs.iter().map(|run| run.kind.name()).collect();
        let has: Vec<&str> = has.into_iter().collect();
        return Err(error.hint(format!("the sweep has {}", has.join(", "))));
    }
    Ok(Some(wanted))
}

/// The part of a plan that these runs are, with the trials that `filter` picks.
pub(crate) fn part_of(
    plan: &mut Plan,
    axes: &[AxisInfo],
    filter: &TrialFilter,
    only: OnlyStage,
) -> Result<(), CommandError> {
    let Some(wanted) = wanted_runs(plan, axes, filter, only)? else {
        return Ok(());
    };
    let picked = filter.read(axes, plan.trials.iter().map(|trial| trial.seed))?;
    plan.runs.retain(|run| wanted.contains(&run.id));
    plan.trials
        .retain(|trial| picked.fits(&trial.assignments, trial.seed));
    let kept: BTreeSet<usize> = plan.trials.iter().map(|trial| trial.index).collect();
    for run in &mut plan.runs {
        run.trials.retain(|trial| kept.contains(trial));
    }
    for trial in &mut plan.trials {
        trial.runs.retain(|run| wanted.contains(run));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(words: &[&str]) -> Result<Picked, CommandError> {
        let axis = |name: &str, values: &[AxisValue]| AxisInfo {
            name: name.to_owned(),
            values: values.to_vec(),
            unit: String::new(),
        };
        let axes = [
            axis("beta", &[json!(0.1), json!(0.2)]),
            axis("loss", &[json!("dpo"), json!("ipo")]),
        ];
        let filter = TrialFilter {
            wheres: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        filter.read(&axes, [3, 4])
    }

    #[test]
    fn values_are_compared_as_people_write_them() {
        let assignments = BTreeMap::from([
            ("beta".to_owned(), json!(0.1)),
            ("loss".to_owned(), json!("ipo")),
        ]);
        let fits = |words: &[&str]| read(words).unwrap().fits(&assignments, 3);
        for word in [
            "beta=0.10",
            "beta = 1e-1",
            "beta=0.2,0.1",
            "loss=ipo",
            "seed=3",
        ] {
            assert!(fits(&[word]), "{word}");
        }
        for word in ["beta=0.2", "loss=dpo", "seed=4"] {
            assert!(!fits(&[word]), "{word}");
        }
        assert!(fits(&["beta=0.1", "beta=0.2", "loss=ipo"]));
        assert!(!fits(&["beta=0.1", "loss=dpo"]));
    }

    #[test]
    fn what_the_sweep_has_not_is_refused() {
        for word in ["beta", "size=1", "beta=0.7", "seed=9"] {
            assert!(read(&[word]).is_err(), "{word}");
        }
        let error = read(&["bta=1"]).unwrap_err();
        assert_eq!(error.hints, ["did you mean `beta`?"]);
    }
}
