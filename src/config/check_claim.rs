//! Rules for `[[report.claim]]` and `[report.delta]`.

use crate::config::check_report::{Assignments, ReportChecker, matches};
use crate::config::sweep::{ClaimDirection, ClaimSpec};
use crate::metrics::metric_spec;
use std::collections::BTreeMap;

impl ReportChecker<'_> {
    /// What makes no difference is a positive number of a metric that there is.
    pub(super) fn deltas(&mut self, deltas: &BTreeMap<String, f64>) {
        let all: Vec<usize> = (0..self.trials.len()).collect();
        let valid = self.valid_metrics(&all, false);
        for (key, delta) in deltas {
            self.metric(key, &valid, self.key_place("delta", key));
            self.delta(*delta, &format!("delta.{key}"));
        }
    }

    fn delta(&mut self, delta: f64, path: &str) {
        if !(delta.is_finite() && delta > 0.0) {
            let message = format!("`{delta}` is no size of a difference");
            let help = "write the largest difference that would not matter, above zero";
            self.fail(self.place(path), message, help);
        }
    }

    /// A claim is about points of the sweep, and says what would decide it.
    pub(super) fn claim(
        &mut self,
        claim: &mut ClaimSpec,
        deltas: &BTreeMap<String, f64>,
        path: &str,
    ) {
        if claim.statement.trim().is_empty() {
            let help = "say what is claimed in a sentence";
            self.fail(
                self.place(&format!("{path}.statement")),
                "the claim says nothing",
                help,
            );
        }
        if let Some(delta) = claim.delta {
            self.delta(delta, &format!("{path}.delta"));
        }
        let Some(kept) = self.selected(&mut claim.filter, path) else {
            return;
        };
        let valid = self.valid_metrics(&kept, false);
        let place = self.place(&format!("{path}.metric"));
        self.metric(&claim.metric, &valid, place);
        let known = claim.delta.or_else(|| deltas.get(&claim.metric).copied());
        if claim.direction == ClaimDirection::Equal
            && valid.contains(&claim.metric)
            && known.or(metric_spec(&claim.metric).delta).is_none()
        {
            let message =
                "a claim that two are equal needs `delta`, and this metric has none of its own";
            let help = "write the largest difference that would not matter";
            self.fail(self.place(path), message, help);
        }
        self.sides(claim, &kept, path);
    }

    /// Both sides are there, and each configuration of the one has a counterpart.
    fn sides(&mut self, claim: &mut ClaimSpec, kept: &[usize], path: &str) {
        let (ours_at, base_at) = (format!("{path}.ours"), format!("{path}.baseline"));
        if !self.assignments(&mut claim.ours, &ours_at)
            || !self.assignments(&mut claim.baseline, &base_at)
        {
            return;
        }
        let having = |wanted: &Assignments| -> Vec<&Assignments> {
            let trials = kept.iter().map(|index| &self.trials[*index]);
            let mut found: Vec<&Assignments> = Vec::new();
            for trial in trials.filter(|trial| matches(trial, wanted)) {
                if !found.contains(&&trial.assignments) {
                    found.push(&trial.assignments);
                }
            }
            found
        };
        let (ours, base) = (having(&claim.ours), having(&claim.baseline));
        let lone = base.len() == 1;
        let counterpart = |one: &Assignments| {
            let mut wanted = one.clone();
            wanted.extend(claim.baseline.clone());
            base.contains(&&wanted) || lone
        };
        let missing = ours.iter().any(|one| !counterpart(one));
        let same = ours.iter().any(|one| base.contains(one));
        let (none_ours, none_base) = (ours.is_empty(), base.is_empty());
        for (none, at) in [(none_ours, &ours_at), (none_base, &base_at)] {
            if none {
                let message = "no trial of the claim has all these values";
                self.fail(self.place(at), message, "remove one of them");
            }
        }
        if none_ours || none_base {
            return;
        }
        if same {
            let message = "a configuration is on both sides of the claim";
            self.fail(
                self.place(&base_at),
                message,
                "name an axis on which the sides differ",
            );
        } else if missing {
            let message = "some configurations of `ours` have no counterpart in `baseline`";
            let help = "name further axes, or leave configurations out with `where`";
            self.fail(self.place(&base_at), message, help);
        }
    }
}
