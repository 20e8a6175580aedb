//! Rules for `[report]`: every axis, value, point and metric that it names is there.

use crate::config::diagnose::{Diagnostic, Place, Problems, suggest};
use crate::config::file::{is_plain, made_plain, no_file_name, same_value, unshowable};
use crate::config::keys::{final_metric_keys, step_metric_keys};
use crate::config::published::{all_published, published};
use crate::config::sweep::{
    AxisInfo, AxisValue, ReportSpec, SamplesSpec, TableSpec, Trial, show_value,
};
use crate::config::tree::Node;
use std::collections::{BTreeMap, BTreeSet};

/// Checks a report against the trials, and spells its axis values as the axes do.
pub(crate) struct ReportChecker<'a> {
    /// The tree of `[report]`, for places.
    pub(crate) node: &'a Node,
    pub(crate) axes: &'a [AxisInfo],
    pub(crate) trials: &'a [Trial],
    pub(crate) problems: &'a mut Problems,
}

/// What a set of axis values must point at.
pub(super) struct Row<'a> {
    /// What it is called.
    pub(super) what: &'static str,
    /// Where it must be found.
    pub(super) of: &'static str,
    /// Axes for each of whose values there may be one.
    pub(super) within: &'a [String],
}

pub(super) type Assignments = BTreeMap<String, AxisValue>;

/// Whether the trial has all these values.
pub(super) fn matches(trial: &Trial, wanted: &Assignments) -> bool {
    wanted
        .iter()
        .all(|(axis, value)| trial.assignments.get(axis) == Some(value))
}

impl ReportChecker<'_> {
    pub(super) fn fail(
        &mut self,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems
            .insert(Diagnostic::new(place, message).help(help));
    }

    pub(super) fn place(&self, path: &str) -> Place {
        self.node.nearest_place(path)
    }

    /// The place of a key, as opposed to its value's.
    pub(super) fn key_place(&self, table: &str, name: &str) -> Place {
        let entries = self
            .node
            .at(table)
            .and_then(Node::table)
            .unwrap_or_default();
        let key = entries.iter().find(|(key, _)| &*key.name == name);
        key.map_or_else(|| self.place(table), |(key, _)| key.place)
    }

    /// The whole report.
    pub(crate) fn report(&mut self, report: &mut ReportSpec) {
        self.deltas(&report.delta);
        for (index, claim) in report.claims.iter_mut().enumerate() {
            self.claim(claim, &report.delta, &format!("claim.{index}"));
        }
        let mut names = BTreeSet::new();
        for (index, table) in report.tables.iter_mut().enumerate() {
            let path = format!("table.{index}");
            self.name(&table.name, &path, &mut names);
            self.prose("title", &table.title, &path);
            self.table(table, &path);
        }
        names.clear();
        for (index, figure) in report.figures.iter_mut().enumerate() {
            let path = format!("figure.{index}");
            self.name(&figure.head.name, &path, &mut names);
            self.prose("title", &figure.head.title, &path);
            self.prose("caption", &figure.head.caption, &path);
            self.figure(figure, &path);
        }
        names.clear();
        for (index, samples) in report.samples.iter_mut().enumerate() {
            let path = format!("samples.{index}");
            self.name(&samples.name, &path, &mut names);
            self.prose("title", &samples.title, &path);
            self.samples(samples, &path);
        }
    }

    /// Both sides must mean one configuration each that samples the set.
    fn samples(&mut self, samples: &mut SamplesSpec, path: &str) {
        let all = self.trials;
        for (key, wanted) in [("left", &mut samples.left), ("right", &mut samples.right)] {
            let at = format!("{path}.{key}");
            if !self.assignments(wanted, &at) {
                continue;
            }
            let row = Row {
                what: key,
                of: "the sweep",
                within: &[],
            };
            self.one_row(wanted, &all.iter().collect::<Vec<_>>(), &row, &at);
            let own = all.iter().filter(|trial| matches(trial, wanted));
            let sets: BTreeSet<&str> = own
                .flat_map(|trial| trial.config.eval.recipe.stories.keys())
                .map(String::as_str)
                .collect();
            if !sets.contains(samples.set.as_str()) {
                let help = suggest(&samples.set, sets);
                let none = || "add `[base.eval.recipe.stories.NAME]`".to_owned();
                let message = format!("the {key} side samples no stories `{}`", samples.set);
                let place = self.place(&format!("{path}.set"));
                return self.fail(place, message, help.unwrap_or_else(none));
            }
        }
    }

    fn name(&mut self, name: &str, path: &str, names: &mut BTreeSet<String>) {
        let place = self.place(&format!("{path}.name"));
        if name.is_empty() {
            self.fail(place, "the name is empty", "write a text");
        } else if !is_plain(name, "-_") {
            let message =
                format!("the name `{name}` becomes a file name: letters, digits, `-` and `_` only");
            let help = format!("for example `{}`", made_plain(name));
            self.fail(place, message, help);
        } else if let Some((message, help)) = no_file_name("the name", name) {
            self.fail(place, message, help);
        }
        if !names.insert(name.to_owned()) {
            let message = format!("the name `{name}` is listed twice");
            self.fail(place, message, "rename one of the two");
        }
    }

    /// Refuses a text that cannot be shown.
    fn prose(&mut self, key: &str, text: &str, path: &str) {
        if let Some((message, help)) = unshowable(&format!("the {key}"), text) {
            self.fail(self.place(&format!("{path}.{key}")), message, help);
        }
    }

    /// Spells values as the axes do (`1` for `1.0`); reports unknown axes and values.
    pub(super) fn assignments(&mut self, wanted: &mut Assignments, path: &str) -> bool {
        let mut fine = true;
        for (name, value) in wanted {
            let Some(axis) = self.axes.iter().find(|axis| axis.name == *name) else {
                fine = false;
                self.unknown_axis(self.key_place(path, name), name);
                continue;
            };
            if let Some(known) = axis.values.iter().find(|known| same_value(known, value)) {
                *value = known.clone();
                continue;
            }
            fine = false;
            let shown: Vec<String> = axis.values.iter().map(show_value).collect();
            let wrong = show_value(value);
            let help = suggest(&wrong, shown.iter().map(String::as_str)).unwrap_or_default();
            let message = format!("axis `{name}` never has the value `{wrong}`");
            self.fail(self.place(&format!("{path}.{name}")), message, help);
        }
        fine
    }

    pub(super) fn unknown_axis(&mut self, place: Place, name: &str) {
        let help = suggest(name, self.axes.iter().map(|axis| axis.name.as_str()));
        let help = help.unwrap_or_else(|| "this sweep has no axis; add an `[[axis]]`".to_owned());
        self.fail(place, format!("there is no axis `{name}`"), help);
    }

    /// The trials under `where`; reports a filter that leaves none.
    pub(super) fn selected(&mut self, filter: &mut Assignments, path: &str) -> Option<Vec<usize>> {
        let at = format!("{path}.where");
        if !self.assignments(filter, &at) {
            return None;
        }
        let trials = self.trials;
        let kept: Vec<usize> = (0..trials.len())
            .filter(|index| matches(&trials[*index], filter))
            .collect();
        if kept.is_empty() {
            let message = "no trial has all these values";
            self.fail(self.place(&at), message, "remove one of them");
            return None;
        }
        Some(kept)
    }

    pub(super) fn metric(&mut self, key: &str, valid: &BTreeSet<String>, place: Place) {
        if !valid.contains(key) {
            let help = suggest(key, valid.iter().map(String::as_str));
            let help =
                help.unwrap_or_else(|| "these trials measure nothing of the kind".to_owned());
            self.fail(place, format!("no trial here has the metric `{key}`"), help);
        }
    }

    pub(super) fn valid_metrics(&self, kept: &[usize], training: bool) -> BTreeSet<String> {
        let keys = if training {
            step_metric_keys
        } else {
            final_metric_keys
        };
        // Seeds share a configuration; one of each is enough.
        let first_of_seeds = kept.iter().filter(|index| {
            **index == 0 || self.trials[**index].assignments != self.trials[**index - 1].assignments
        });
        first_of_seeds
            .flat_map(|index| keys(&self.trials[*index].config))
            .collect()
    }

    fn table(&mut self, table: &mut TableSpec, path: &str) {
        self.published(table.published.as_ref(), path);
        let Some(kept) = self.selected(&mut table.filter, path) else {
            return;
        };
        let valid = self.valid_metrics(&kept, false);
        if table.metrics.is_empty() {
            let place = self.place(&format!("{path}.metrics"));
            let help = suggest("", valid.iter().map(String::as_str)).unwrap_or_default();
            self.fail(place, "the table has no metrics", help);
        }
        for (index, key) in table.metrics.iter().enumerate() {
            let place = self.place(&format!("{path}.metrics.{index}"));
            self.metric(key, &valid, place);
            if table.metrics[..index].contains(key) {
                let message = format!("the metric `{key}` is listed twice");
                self.fail(place, message, "remove one of the two");
            }
        }
        let at = format!("{path}.baseline");
        if table.baseline.is_empty() || !self.assignments(&mut table.baseline, &at) {
            return;
        }
        let place = self.place(&format!("{path}.within"));
        for axis in &table.within {
            if !self.axes.iter().any(|known| known.name == *axis) {
                return self.unknown_axis(place, axis);
            }
            if table.baseline.contains_key(axis) {
                let message =
                    format!("the baseline says which `{axis}`, so rows of others have none");
                let help = format!("name `{axis}` in `baseline` or in `within`");
                return self.fail(place, message, help);
            }
        }
        let all = self.trials;
        let trials: Vec<&Trial> = kept.iter().map(|index| &all[*index]).collect();
        let row = Row {
            what: "baseline",
            of: "the table",
            within: &table.within,
        };
        self.one_row(&table.baseline, &trials, &row, &at);
    }

    /// These values must mean one configuration among `trials`, or one for each value of the axes
    /// on which like is compared with like.
    pub(super) fn one_row(
        &mut self,
        wanted: &Assignments,
        trials: &[&Trial],
        row: &Row<'_>,
        at: &str,
    ) {
        let mut rows: Vec<&Assignments> = Vec::new();
        for trial in trials.iter().filter(|trial| matches(trial, wanted)) {
            if !rows.contains(&&trial.assignments) {
                rows.push(&trial.assignments);
            }
        }
        let what = row.what;
        if rows.is_empty() {
            let message = format!("the {what} is not a point of {}", row.of);
            return self.fail(self.place(at), message, "no trial has all these values");
        }
        let place_of = |one: &Assignments| -> Vec<Option<AxisValue>> {
            row.within
                .iter()
                .map(|axis| one.get(axis).cloned())
                .collect()
        };
        for (index, first) in rows.iter().enumerate() {
            let second = rows[index + 1..]
                .iter()
                .find(|second| place_of(second) == place_of(first));
            let Some(second) = second else { continue };
            let differs = first
                .keys()
                .chain(second.keys())
                .find(|axis| first.get(*axis) != second.get(*axis));
            let help = differs.map(|axis| format!("say also which `{axis}`"));
            let count = rows.len();
            let message = format!("the {what} means one row, but {count} rows have these values");
            return self.fail(self.place(at), message, help.unwrap_or_default());
        }
    }

    /// A name of published results must be known.
    pub(super) fn published(&mut self, id: Option<&String>, path: &str) {
        let Some(id) = id.filter(|id| published(id).is_none()) else {
            return;
        };
        let known = all_published().iter().map(|entry| entry.id.as_str());
        let help = suggest(id, known).unwrap_or_default();
        let message = format!("there are no published results `{id}`");
        self.fail(self.place(&format!("{path}.published")), message, help);
    }
}
