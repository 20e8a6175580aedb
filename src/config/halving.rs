//! Successive halving (Jamieson & Talwalkar 2016): configurations train for a few steps, the best of them
//! for more, and the few that are left in full.
//!
//! A *rung* is a sweep of its own: the configurations that still compete, each with the rung's steps as its
//! whole duration (schedule included), with seeds and an evaluation of the rung's own. So its runs are
//! ordinary runs, a configuration that goes on is trained as if there had been no rungs, and what it is
//! compared by at the end shares neither seeds nor rows with what it was chosen by. Nothing is decided by
//! what is not stored: the same results of rungs always leave the same configurations.

use crate::config::axis_value::{AxisValue, show_value};
use crate::config::evaluation::EvalRecipe;
use crate::config::trial::Trial;
use crate::metrics::{Better, metric_spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// `[search.halving]`, but for what is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HalvingSpec {
    /// Axes: configurations that differ in these alone compete with each other.
    pub over: Vec<String>,
    /// How long is trained before each decision, and how many go on, shortest first.
    pub rungs: Vec<Rung>,
    /// Seeds of the rungs, none of them one of the sweep's: who is lucky with a seed is not compared by it.
    pub seeds: Vec<u64>,
    /// What decides: a metric of `eval`, its mean over the seeds.
    pub metric: String,
}

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rung {
    /// Optimiser steps of the last training stage; its whole `duration`, schedule included.
    pub steps: u64,
    /// So many of the configurations that compete with each other go on.
    pub keep: usize,
}

/// `[search.halving]`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct HalvingShape {
    #[serde(flatten)]
    spec: HalvingSpec,
    /// What is measured at a rung, written like `base.eval.recipe`, of other data.
    #[schemars(with = "BTreeMap<String, AxisValue>")]
    eval: EvalRecipe,
}

/// A sweep's halving, and what has been decided of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Halving {
    /// As the file says.
    #[serde(flatten)]
    pub spec: HalvingSpec,
    /// For each rung the trials of all configurations that compete; `index` is that of the configuration's
    /// first trial in the sweep.
    #[serde(skip)]
    pub trials: Vec<Vec<Trial>>,
    /// What has been decided, rung after rung.
    #[serde(default)]
    pub standings: Vec<Standing>,
}

/// How a configuration stood when a rung was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// The rung's steps.
    pub steps: u64,
    /// The configuration.
    pub assignments: BTreeMap<String, AxisValue>,
    /// Its mean over the rung's seeds; absent if a training did not stay finite.
    pub value: Option<f64>,
    /// Its place among those that it competed with, from 1.
    pub rank: usize,
    /// How many these were.
    pub of: usize,
    /// Whether it went on.
    pub kept: bool,
}

impl Standing {
    /// `beta=0.5: stopped at step 20: rank 3 of 4 on valid/loss`.
    pub fn line(&self, metric: &str) -> String {
        let named = self.assignments.iter();
        let label: Vec<String> = named
            .map(|(axis, value)| format!("{axis}={}", show_value(value)))
            .collect();
        format!("{}: {}", label.join(" "), self.words(metric))
    }

    /// `stopped at step 20: rank 3 of 4 on valid/loss`.
    pub fn words(&self, metric: &str) -> String {
        let Self {
            steps, rank, of, ..
        } = self;
        let verb = if self.kept { "went on" } else { "stopped" };
        let why = match self.value {
            Some(_) => "",
            None => ", as a training or the metric was not finite",
        };
        format!("{verb} at step {steps}: rank {rank} of {of} on {metric}{why}")
    }
}

/// A configuration at a rung, with what it measured at each seed.
struct Member {
    assignments: BTreeMap<String, AxisValue>,
    seeds: Vec<Option<f64>>,
}

/// What the configuration's trial has in common with those that it competes with.
fn group_of(assignments: &BTreeMap<String, AxisValue>, over: &[String]) -> String {
    let mut group = assignments.clone();
    group.retain(|axis, _| !over.contains(axis));
    key_of(&group)
}

pub(crate) fn key_of(assignments: &BTreeMap<String, AxisValue>) -> String {
    // A map of JSON values always is JSON.
    serde_json::to_string(assignments).unwrap_or_default()
}

impl Halving {
    /// Configurations that were stopped.
    pub fn stopped(&self) -> impl Iterator<Item = &Standing> {
        self.standings.iter().filter(|standing| !standing.kept)
    }

    /// Axes whose value is chosen for each configuration of the others: one is left of those that compete.
    pub fn chosen(&self) -> &[String] {
        match self.spec.rungs.last() {
            Some(last) if last.keep == 1 => &self.spec.over,
            _ => &[],
        }
    }

    /// The trials of a rung that compete there: more of them than go on, and none of them stopped.
    pub(crate) fn competing(&self, at: usize) -> Vec<&Trial> {
        let Some((rung, trials)) = self.spec.rungs.get(at).zip(self.trials.get(at)) else {
            return Vec::new();
        };
        let stopped: BTreeSet<String> = self.stopped().map(|s| key_of(&s.assignments)).collect();
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut left: Vec<(&Trial, String)> = Vec::new();
        for trial in trials {
            let key = key_of(&trial.assignments);
            if !stopped.contains(&key) {
                let group = group_of(&trial.assignments, &self.spec.over);
                groups.entry(group.clone()).or_default().insert(key);
                left.push((trial, group));
            }
        }
        left.retain(|(_, group)| groups[group].len() > rung.keep);
        left.into_iter().map(|(trial, _)| trial).collect()
    }

    /// Trials as they would be left if the first configuration of each group were the best; none unless one
    /// of each group is left. What is said of these holds for whichever are.
    pub(crate) fn as_if_done(&self, trials: &[Trial]) -> Option<Vec<Trial>> {
        let over = self.chosen();
        if over.is_empty() {
            return None;
        }
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        let left = trials.iter().filter(|trial| {
            let group = group_of(&trial.assignments, over);
            let own = key_of(&trial.assignments);
            *first.entry(group).or_insert_with(|| own.clone()) == own
        });
        Some(left.cloned().collect())
    }

    /// The trials of the first rung: of every configuration that competes.
    pub fn first_rung(&self) -> &[Trial] {
        self.trials.first().map_or(&[], Vec::as_slice)
    }

    /// What is wrong, and what helps, if a rung is no shorter than a trial that trains for so many steps in full;
    /// `about` is a word for steps that are estimated.
    pub fn too_long(&self, trial: &str, (steps, about): (u64, &str)) -> Option<(String, String)> {
        let rungs = self.spec.rungs.iter().enumerate();
        let (at, rung) = rungs.rev().find(|(_, rung)| rung.steps >= steps)?;
        let (number, own) = (at + 1, rung.steps);
        let message = format!(
            "rung {number} trains for {own} steps and is no shorter than the trial `{trial}`, which trains for \
             {about}{steps}"
        );
        let help = format!(
            "lower `search.halving.rungs.{at}.steps` below {steps}, or train the trial for longer"
        );
        Some((message, help))
    }

    /// Whether the first rung stops anything.
    pub(crate) fn stops_something(&self) -> bool {
        !self.competing(0).is_empty()
    }

    /// Decides a rung by the values of its trials, in the order of the rung's sweep; none of one that did not
    /// stay finite, which ranks last. Of equal ones the earlier in the sweep ranks first.
    pub fn decide(&mut self, at: usize, values: &[Option<f64>]) {
        let Some(rung) = self.spec.rungs.get(at).copied() else {
            return;
        };
        // The order of the sweep, and all seeds of a configuration together.
        let mut groups: Vec<(String, Vec<Member>)> = Vec::new();
        for (trial, value) in self.competing(at).into_iter().zip(values) {
            let group = group_of(&trial.assignments, &self.spec.over);
            let place = groups.iter().position(|(known, _)| *known == group);
            let place = place.unwrap_or_else(|| {
                groups.push((group, Vec::new()));
                groups.len() - 1
            });
            let members = &mut groups[place].1;
            match members.last_mut() {
                Some(last) if last.assignments == trial.assignments => last.seeds.push(*value),
                _ => members.push(Member {
                    assignments: trial.assignments.clone(),
                    seeds: vec![*value],
                }),
            }
        }
        let better = metric_spec(&self.spec.metric).better;
        for (_, members) in groups {
            let of = members.len();
            let mut ranked: Vec<_> = members
                .into_iter()
                .map(|member| (member.assignments, mean(&member.seeds)))
                .collect();
            ranked.sort_by(|(_, a), (_, b)| best_first(*a, *b, better));
            let standing = |(place, (assignments, value))| Standing {
                steps: rung.steps,
                assignments,
                value,
                rank: place + 1,
                of,
                kept: place < rung.keep,
            };
            let ranked = ranked.into_iter().enumerate();
            self.standings.extend(ranked.map(standing));
        }
    }
}

/// Of all seeds; none if one has none.
fn mean(seeds: &[Option<f64>]) -> Option<f64> {
    let sum: Option<f64> = seeds.iter().copied().sum();
    sum.map(|sum| sum / seeds.len() as f64)
        .filter(|mean| mean.is_finite())
}

fn best_first(a: Option<f64>, b: Option<f64>, better: Better) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if better == Better::Higher => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_side_comes_first_what_is_not_finite_last_and_equals_keep_their_order() {
        let ranked = |better| {
            let mut all = [
                ("a", mean(&[Some(1.0), Some(3.0)])),
                ("b", mean(&[Some(1.0), None])),
                ("c", mean(&[Some(5.0), Some(f64::INFINITY)])),
                ("d", mean(&[Some(1.0)])),
                ("e", mean(&[Some(2.0)])),
            ];
            all.sort_by(|(_, a), (_, b)| best_first(*a, *b, better));
            all.map(|(name, _)| name)
        };
        assert_eq!(ranked(Better::Lower), ["d", "a", "e", "b", "c"]);
        assert_eq!(ranked(Better::Higher), ["a", "e", "d", "b", "c"]);
    }

    #[test]
    fn axes_that_compete_are_no_part_of_a_group() {
        let assigned = |beta: f64, rate: f64| {
            BTreeMap::from([
                ("beta".to_owned(), AxisValue::from(beta)),
                ("rate".to_owned(), AxisValue::from(rate)),
            ])
        };
        let over = ["beta".to_owned()];
        let group = |beta, rate| group_of(&assigned(beta, rate), &over);
        assert_eq!(group(0.1, 1.0), group(0.5, 1.0));
        assert_ne!(group(0.1, 1.0), group(0.1, 2.0));
    }
}
