//! The sweeps that a halved one is carried out as: its rungs, and what is left.

use crate::config::halving::key_of;
use crate::config::sweep::{ReportSpec, Sweep, TableSpec, Trial};
use crate::metrics::{Better, metric_spec};
use std::collections::BTreeSet;

/// Between a sweep's name and that of its rung: no sweep file can state a name with it.
pub const RUNG_MARK: char = '~';

impl Sweep {
    /// The sweep of a rung, over what still competes there; none if nothing does.
    pub fn rung(&self, at: usize) -> Option<Self> {
        let halving = self.halving.as_ref()?;
        let rung = halving.spec.rungs.get(at)?;
        let competing = halving.competing(at).into_iter().enumerate();
        let trials: Vec<Trial> = competing
            .map(|(index, trial)| Trial {
                index,
                ..trial.clone()
            })
            .collect();
        let (number, of) = (at + 1, halving.spec.rungs.len());
        let (steps, keep) = (rung.steps, rung.keep);
        let table = TableSpec {
            name: "rung".to_owned(),
            title: format!("Rung {number} of {of}: {steps} steps, of which the best {keep} go on"),
            metrics: vec![halving.spec.metric.clone()],
            ..TableSpec::default()
        };
        (!trials.is_empty()).then(|| Self {
            name: format!("{}{RUNG_MARK}{steps}-steps", self.name),
            question: format!("Which configurations go on after {steps} steps?"),
            trials,
            keep: self.keep.of_rung(),
            report: ReportSpec {
                tables: vec![table],
                ..ReportSpec::default()
            },
            halving: None,
            ..self.clone()
        })
    }

    /// The same without the trials of configurations that were stopped.
    #[must_use]
    pub fn without_stopped(mut self) -> Self {
        let Some(halving) = &self.halving else {
            return self;
        };
        let stopped: BTreeSet<String> = halving.stopped().map(|s| key_of(&s.assignments)).collect();
        self.trials
            .retain(|trial| !stopped.contains(&key_of(&trial.assignments)));
        for (index, trial) in self.trials.iter_mut().enumerate() {
            trial.index = index;
        }
        self
    }

    /// The configurations of a rung's groups, of as many as go on, by `cost` the cheapest or the costliest:
    /// what could be left, whoever is the best.
    #[must_use]
    pub fn leaving(&self, at: usize, cost: impl Fn(&Trial) -> f64, costliest: bool) -> Self {
        let mut left = self.clone();
        let Some(halving) = &mut left.halving else {
            return left;
        };
        let better = metric_spec(&halving.spec.metric).better;
        let sign = if costliest == (better == Better::Higher) {
            1.0
        } else {
            -1.0
        };
        let values: Vec<Option<f64>> = halving
            .competing(at)
            .into_iter()
            .map(|trial| Some(sign * cost(trial)))
            .collect();
        halving.decide(at, &values);
        left
    }
}
