//! The plan as the runner sees it: its runs, and where each of them stands.

use crate::config::sweep::{AxisValue, show_value};
use crate::plan::{Plan, PlannedRun, RunId};
use crate::queue::{Candidate, Needs, RunState, chains};
use std::collections::{BTreeMap, BTreeSet};

/// The runs of a plan by index, in its order.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    runs: &'a [PlannedRun],
    ids: Vec<RunId>,
    index_of: BTreeMap<RunId, usize>,
    nodes: Vec<Node>,
    states: Vec<RunState>,
}

#[derive(Debug)]
struct Node {
    /// What the run's trials have in common.
    label: String,
    /// Estimated work up to the end of the longest chain that needs it.
    chain: f64,
    first_trial: usize,
    /// The place of the first seed that needs it.
    round: usize,
    /// Whether no run of the plan needs it.
    last: bool,
}

impl<'a> Graph<'a> {
    /// `states` are those of the plan's runs, in its order.
    pub(crate) fn new(plan: &'a Plan, states: Vec<RunState>) -> Self {
        let ids: Vec<RunId> = plan.runs.iter().map(|run| run.id.clone()).collect();
        let index_of: BTreeMap<RunId, usize> = ids.iter().cloned().zip(0..).collect();
        Self {
            runs: &plan.runs,
            nodes: nodes(plan, &index_of),
            ids,
            index_of,
            states,
        }
    }

    pub(crate) fn planned(&self, at: usize) -> &'a PlannedRun {
        &self.runs[at]
    }

    pub(crate) fn id(&self, at: usize) -> &'a RunId {
        &self.runs[at].id
    }

    pub(crate) fn ids(&self) -> &[RunId] {
        &self.ids
    }

    pub(crate) fn index_of(&self, run: &RunId) -> Option<usize> {
        self.index_of.get(run).copied()
    }

    pub(crate) fn label(&self, at: usize) -> String {
        self.nodes[at].label.clone()
    }

    /// Whether a run is leased by this attempt.
    pub(crate) fn is_leased(&self, at: usize, by: u32) -> bool {
        matches!(self.states[at], RunState::Leased { attempt, .. } if attempt == by)
    }

    /// Sets a run's state and answers the one before.
    pub(crate) fn set_state(&mut self, at: usize, state: RunState) -> RunState {
        std::mem::replace(&mut self.states[at], state)
    }

    /// Indices of the runs in a state.
    pub(crate) fn runs_in(&self, wanted: fn(RunState) -> bool) -> Vec<usize> {
        let all = 0..self.states.len();
        all.filter(|at| wanted(self.states[*at])).collect()
    }

    pub(crate) fn needs(&self, at: usize) -> Needs {
        let estimate = &self.runs[at].estimate;
        Needs {
            memory_bytes: estimate.peak_memory_bytes,
            card_memory_bytes: estimate.least_card_memory_bytes,
        }
    }

    /// A run as the scheduler is asked about it.
    pub(crate) fn candidate(&self, at: usize) -> Candidate {
        Candidate {
            run: at,
            chain: self.nodes[at].chain,
            round: self.nodes[at].round,
            trial: self.nodes[at].first_trial,
            last: self.nodes[at].last,
            needs: self.needs(at),
            avoid: None,
        }
    }
}

fn nodes(plan: &Plan, index_of: &BTreeMap<RunId, usize>) -> Vec<Node> {
    let runs = plan.runs.iter();
    let work: Vec<f64> = runs.map(|run| run.estimate.flops.max(1.0)).collect();
    let parents_of = |run: &PlannedRun| {
        let parents = run.parents.iter();
        parents.filter_map(|id| index_of.get(id).copied()).collect()
    };
    let parents: Vec<Vec<usize>> = plan.runs.iter().map(parents_of).collect();
    let chains = chains(&work, &parents);
    let mut rounds: BTreeMap<u64, usize> = BTreeMap::new();
    for trial in &plan.trials {
        let next = rounds.len();
        rounds.entry(trial.seed).or_insert(next);
    }
    let round_of = |run: &PlannedRun| {
        let seeds = run.trials.iter().filter_map(|at| plan.trials.get(*at));
        let places = seeds.filter_map(|trial| rounds.get(&trial.seed));
        places.copied().min().unwrap_or_default()
    };
    let needed: BTreeSet<usize> = parents.into_iter().flatten().collect();
    let nodes = plan.runs.iter().zip(chains).enumerate();
    let nodes = nodes.map(|(at, (run, chain))| Node {
        last: !needed.contains(&at),
        label: common_label(plan, &run.trials),
        chain,
        first_trial: run.trials.iter().copied().min().unwrap_or(usize::MAX),
        round: round_of(run),
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
