//! Two runs side by side: how they were made, what they measure, and the rows that flipped.

use crate::base::Timestamp;
use crate::config::sweep::{AxisInfo, AxisValue, ReportSpec, TableSpec};
use crate::metrics::{Flips, metric_spec};
use crate::plan::{FieldChange, RunId, recipe_difference};
use crate::report::compare::{SweepTable, compare};
use crate::report::harness::HarnessResults;
use crate::report::load::plain_run;
use crate::report::select::{Details, ReportError, RowValue, SweepResults, TrialResult};
use crate::store::{ReadStore, StoredSweep};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The axis that tells the two apart.
const SIDE: &str = "run";

/// How the runs of one stage differ.
#[derive(Clone, Debug, PartialEq)]
pub struct StageDiff {
    /// The stage; rounds are numbered.
    pub stage: String,
    /// The run of the first chain, if it has one.
    pub first: Option<RunId>,
    /// The run of the second chain, if it has one.
    pub second: Option<RunId>,
    /// Fields of the recipe that differ.
    pub fields: Vec<FieldChange>,
}

/// A row that one gets right and the other wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlippedRow {
    /// Its id.
    pub row: String,
    /// Whether the second gets it right.
    pub gained: bool,
}

/// The rows of one metric that is 0 or 1 on every row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricFlips {
    /// Its key.
    pub metric: String,
    /// How many.
    pub counts: Flips,
    /// McNemar's exact test.
    pub p: f64,
    /// Which, in the order of the data.
    pub rows: Vec<FlippedRow>,
}

/// Two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDiff {
    /// How they were made, stage by stage; stages that are the same run are left out.
    pub stages: Vec<StageDiff>,
    /// What both measure, the second against the first.
    pub table: SweepTable,
    /// Rows that flipped.
    pub flips: Vec<MetricFlips>,
}

/// What is compared.
#[derive(Debug)]
pub enum DiffSide<'a> {
    /// A run of the store.
    Run(&'a ReadStore, RunId),
    /// Results of lm-evaluation-harness.
    File(HarnessResults),
}

impl DiffSide<'_> {
    /// The run, or what stands for it.
    pub fn run(&self) -> &RunId {
        match self {
            Self::Run(_, run) => run,
            Self::File(file) => &file.run,
        }
    }

    /// What it is called above a column.
    pub fn name(&self) -> &str {
        match self {
            Self::Run(_, run) => run.short(),
            Self::File(file) => &file.name,
        }
    }
}

/// Compares two runs, or results of other programs: what they were made with, and what both have measured.
///
/// # Errors
/// A run is not in the store, or its rows cannot be read.
pub fn diff_runs(
    root: &Path,
    first: &DiffSide<'_>,
    second: &DiffSide<'_>,
) -> Result<RunDiff, ReportError> {
    let results = both(root, [first, second])?;
    let made = stages(first, second)?;
    let (first, second) = (first.run(), second.run());
    let known = |run: &RunId| results.runs.get(run).map(|run| &run.metrics);
    let (a, b) = (known(first), known(second));
    let common = a
        .into_iter()
        .flatten()
        .filter(|(key, _)| b.is_some_and(|b| b.contains_key(*key)));
    let spec = TableSpec {
        name: "diff".to_owned(),
        title: String::new(),
        metrics: common.map(|(key, _)| key.clone()).collect(),
        baseline: BTreeMap::from([(SIDE.to_owned(), AxisValue::from(first.short()))]),
        ..TableSpec::default()
    };
    Ok(RunDiff {
        stages: made,
        table: compare(&results, &spec)?,
        flips: flips(&spec.metrics, &results.rows(first)?, &results.rows(second)?),
    })
}

/// The two as if they were a sweep over themselves.
fn both(root: &Path, sides: [&DiffSide<'_>; 2]) -> Result<SweepResults, ReportError> {
    let mut runs = BTreeMap::new();
    let mut trials = Vec::new();
    let mut rows = BTreeMap::new();
    for (index, side) in sides.into_iter().enumerate() {
        let id = side.run();
        let run = match side {
            DiffSide::Run(store, id) => {
                let mut run = plain_run(store.run(id)?);
                run.metrics = store.metrics(id)?;
                run
            }
            DiffSide::File(file) => {
                rows.insert(id.clone(), file.rows.clone());
                file.info()
            }
        };
        runs.insert(id.clone(), run);
        trials.push(TrialResult {
            index,
            label: id.short().to_owned(),
            // Rows are the same, and so is what was drawn for them: the two are paired.
            seed: 0,
            assignments: BTreeMap::from([(SIDE.to_owned(), AxisValue::from(id.short()))]),
            runs: vec![id.clone()],
            eval: id.clone(),
        });
    }
    let axis = AxisInfo {
        name: SIDE.to_owned(),
        values: trials
            .iter()
            .map(|trial| trial.label.as_str().into())
            .collect(),
        unit: String::new(),
    };
    let sweep = StoredSweep {
        name: "diff".to_owned(),
        question: String::new(),
        tags: Vec::new(),
        notes: Vec::new(),
        axes: vec![axis],
        report: ReportSpec::default(),
        halving: None,
        unread: Vec::new(),
        registered: Timestamp(0),
    };
    Ok(SweepResults {
        sweep,
        source: String::new(),
        trials,
        runs,
        stopped: Vec::new(),
        details: Details::Beside {
            root: root.to_owned(),
            rows,
        },
    })
}

/// Everything that a run was made from, and itself, by stage; what is needed comes first.
fn chain(store: &ReadStore, id: &RunId) -> Result<Vec<(String, RunId)>, ReportError> {
    fn visit(
        store: &ReadStore,
        id: &RunId,
        seen: &mut BTreeSet<RunId>,
        found: &mut Vec<(String, RunId)>,
    ) -> Result<(), ReportError> {
        if !seen.insert(id.clone()) {
            return Ok(());
        }
        for (parent, _, _) in store.parents(id)? {
            visit(store, &parent, seen, found)?;
        }
        let kind = store.run(id)?.kind.name();
        let earlier = found
            .iter()
            .filter(|(stage, _)| stage.split(' ').next() == Some(kind));
        let stage = match earlier.count() {
            0 => kind.to_owned(),
            n => format!("{kind} {}", n + 1),
        };
        found.push((stage, id.clone()));
        Ok(())
    }
    let mut found = Vec::new();
    visit(store, id, &mut BTreeSet::new(), &mut found)?;
    Ok(found)
}

fn stages(first: &DiffSide<'_>, second: &DiffSide<'_>) -> Result<Vec<StageDiff>, ReportError> {
    // Nothing is known of how the model of a file was made.
    let (DiffSide::Run(store, first), DiffSide::Run(_, second)) = (first, second) else {
        return Ok(Vec::new());
    };
    let (a, b) = (chain(store, first)?, chain(store, second)?);
    let own = b
        .iter()
        .filter(|(stage, _)| a.iter().all(|(other, _)| other != stage));
    let names: Vec<&String> = a.iter().chain(own).map(|(stage, _)| stage).collect();
    let run = |chain: &[(String, RunId)], stage: &String| {
        let found = chain.iter().find(|(other, _)| other == stage);
        found.map(|(_, run)| run.clone())
    };
    let mut stages = Vec::new();
    for stage in names {
        let (first, second) = (run(&a, stage), run(&b, stage));
        if first == second {
            continue;
        }
        let fields = match (&first, &second) {
            (Some(first), Some(second)) => {
                recipe_difference(&store.identity(first)?, &store.identity(second)?)
            }
            _ => None,
        };
        stages.push(StageDiff {
            stage: stage.clone(),
            first,
            second,
            fields: fields.unwrap_or_default(),
        });
    }
    Ok(stages)
}

/// The flips of each metric that is 0 or 1 on every row that both have.
fn flips(keys: &[String], first: &[RowValue], second: &[RowValue]) -> Vec<MetricFlips> {
    let known: BTreeMap<(&str, &str), &RowValue> = second
        .iter()
        .map(|row| ((row.set.as_str(), row.row.as_str()), row))
        .collect();
    let mut found: BTreeMap<String, Option<MetricFlips>> = BTreeMap::new();
    for row in first {
        let Some(other) = known.get(&(row.set.as_str(), row.row.as_str())) else {
            continue;
        };
        for (name, a) in &row.metrics {
            let Some(b) = other.metrics.get(name) else {
                continue;
            };
            let key = format!("{}/{name}", row.set);
            let flips = found.entry(key.clone()).or_insert_with(|| {
                Some(MetricFlips {
                    metric: key,
                    counts: Flips::default(),
                    p: 1.0,
                    rows: Vec::new(),
                })
            });
            let (Some(a), Some(b)) = (truth(*a), truth(*b)) else {
                *flips = None;
                continue;
            };
            if let Some(flips) = flips {
                flips.counts.count(a, b);
                if a != b {
                    flips.rows.push(FlippedRow {
                        row: row.row.clone(),
                        gained: b,
                    });
                }
            }
        }
    }
    let flips = found
        .into_values()
        .flatten()
        .filter(|flips| keys.contains(&flips.metric) && metric_spec(&flips.metric).is_share);
    flips
        .map(|mut flips| {
            flips.p = flips.counts.p_value();
            flips
        })
        .collect()
}

/// 1 is right and 0 wrong; other numbers are neither.
fn truth(value: f64) -> Option<bool> {
    match value {
        0.0 => Some(false),
        1.0 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, values: &[(&str, f64)]) -> RowValue {
        RowValue {
            set: "arc".to_owned(),
            row: id.to_owned(),
            metrics: values.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
            cluster: None,
        }
    }

    #[test]
    fn only_metrics_that_are_right_or_wrong_on_all_rows_flip() {
        let first = [
            row("a", &[("acc", 1.0), ("acc_norm", 0.0)]),
            row("b", &[("acc", 0.0), ("acc_norm", 0.5)]),
            row("c", &[("acc", 0.0), ("acc_norm", 0.0)]),
        ];
        let second = [
            row("c", &[("acc", 1.0), ("acc_norm", 1.0)]),
            row("a", &[("acc", 0.0), ("acc_norm", 0.0)]),
            row("z", &[("acc", 0.0), ("acc_norm", 0.0)]),
            row("b", &[("acc", 0.0), ("acc_norm", 0.0)]),
        ];
        let keys = ["arc/acc".to_owned(), "arc/acc_norm".to_owned()];
        let found = flips(&keys, &first, &second);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].metric, "arc/acc");
        let flipped: Vec<_> = found[0]
            .rows
            .iter()
            .map(|row| (row.row.as_str(), row.gained))
            .collect();
        assert_eq!(flipped, [("a", false), ("c", true)]);
        assert_eq!(found[0].counts.neither, 1);
        assert!((found[0].p - 1.0).abs() < 1e-12);
    }
}
