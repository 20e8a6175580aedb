//! What a runner is given, and how it sees the plan.

use crate::backend::Backend;
use crate::base::{Clock, Shutdown, Timestamp};
use crate::config::sweep::{AxisValue, Sweep, show_value};
use crate::plan::{Plan, RunId};
use crate::queue::{LEASE_MILLIS, Slot, chains};
use crate::rundir::{RunDir, Verify, attempt_numbers, verified_outcome};
use crate::runner::error::RunnerError;
use crate::store::{FoundRun, Retry, Store};
use std::collections::BTreeMap;
use std::path::Path;

/// An attempt that was asked to stop is killed after so long.
pub const GRACE_MILLIS: i64 = 30_000;
/// Below so much free space nothing is started.
pub const DISK_FLOOR_BYTES: u64 = 512 << 20;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Room for attempts; not empty.
    pub slots: Vec<Slot>,
    /// Whether runs that failed or were cancelled earlier are tried again.
    pub retry: Retry,
    /// An attempt without a sign of life is taken for dead after so long.
    pub lease_millis: i64,
    /// An attempt that was asked to stop is killed after so long.
    pub grace_millis: i64,
    /// Below so much free space nothing is started.
    pub disk_floor_bytes: u64,
}

impl RunOptions {
    /// The usual times and limits with these slots.
    pub fn new(slots: Vec<Slot>) -> Self {
        Self {
            slots,
            retry: Retry::Never,
            lease_millis: LEASE_MILLIS,
            grace_millis: GRACE_MILLIS,
            disk_floor_bytes: DISK_FLOOR_BYTES,
        }
    }
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct SweepJob<'a> {
    /// The project root.
    pub root: &'a Path,
    /// The sweep.
    pub sweep: &'a Sweep,
    /// Its plan.
    pub plan: &'a Plan,
    /// How.
    pub options: &'a RunOptions,
}

/// Everything outside that a runner needs.
pub struct Rim<'a> {
    /// The store.
    pub store: &'a mut Store,
    /// Where attempts run.
    pub backend: &'a mut dyn Backend,
    /// The request to stop.
    pub shutdown: &'a Shutdown,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// A run of the plan as the runner sees it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) label: String,
    /// Estimated work up to the end of the longest chain that needs it.
    pub(crate) chain: f64,
    pub(crate) first_trial: usize,
}

/// One node per run of the plan, in its order.
pub(crate) fn nodes(plan: &Plan) -> Vec<Node> {
    let places: BTreeMap<&RunId, usize> = plan
        .runs
        .iter()
        .enumerate()
        .map(|(at, run)| (&run.id, at))
        .collect();
    let work: Vec<f64> = plan
        .runs
        .iter()
        .map(|run| run.estimate.flops.max(1.0))
        .collect();
    let parents: Vec<Vec<usize>> = plan
        .runs
        .iter()
        .map(|run| {
            run.parents
                .iter()
                .filter_map(|id| places.get(id).copied())
                .collect()
        })
        .collect();
    let chains = chains(&work, &parents);
    let nodes = plan.runs.iter().zip(chains).map(|(run, chain)| Node {
        label: common_label(plan, &run.trials),
        chain,
        first_trial: run.trials.iter().copied().min().unwrap_or(usize::MAX),
    });
    nodes.collect()
}

/// What the given trials have in common: `batching=concat seed=1`; `shared` if nothing.
fn common_label(plan: &Plan, trials: &[usize]) -> String {
    let mut uses = trials.iter().filter_map(|at| plan.trials.get(*at));
    let Some(first) = uses.next() else {
        return "shared".to_owned();
    };
    let mut common: BTreeMap<&String, &AxisValue> = first.assignments.iter().collect();
    let mut seed = Some(first.seed);
    for trial in uses {
        common.retain(|axis, value| trial.assignments.get(*axis) == Some(*value));
        seed = seed.filter(|seed| *seed == trial.seed);
    }
    let mut words: Vec<String> = common
        .iter()
        .map(|(axis, value)| format!("{axis}={}", show_value(value)))
        .collect();
    words.extend(seed.map(|seed| format!("seed={seed}")));
    if words.is_empty() {
        "shared".to_owned()
    } else {
        words.join(" ")
    }
}

/// What the folders of the plan's runs hold. An outcome that is damaged counts as none.
pub(crate) fn look_at_folders(
    root: &Path,
    plan: &Plan,
) -> Result<BTreeMap<RunId, FoundRun>, RunnerError> {
    let mut found = BTreeMap::new();
    for run in &plan.runs {
        let dir = RunDir::new(root, &run.id);
        if !dir.path().exists() {
            continue;
        }
        let outcome = verified_outcome(&dir, Verify::Sizes).ok().flatten();
        let outcome = outcome.filter(|outcome| outcome.run == run.id);
        let attempts = attempt_numbers(&dir)?.last().copied().unwrap_or(0);
        found.insert(run.id.clone(), FoundRun { outcome, attempts });
    }
    Ok(found)
}

/// A moment that comes again at even intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Every {
    millis: i64,
    next: Timestamp,
}

impl Every {
    pub(crate) fn millis(millis: i64) -> Self {
        Self {
            millis,
            next: Timestamp(i64::MIN),
        }
    }

    /// Whether it is time again; true the first time.
    pub(crate) fn due(&mut self, now: Timestamp) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.plus_millis(self.millis);
        }
        due
    }
}
