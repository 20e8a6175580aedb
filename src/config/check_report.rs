//! Rules for `[report]`: every axis, value, point and metric that it names is there.

use crate::config::diagnose::{Diagnostic, Place, suggest};
use crate::config::file::{Problems, same_value};
use crate::config::keys::{final_metric_keys, step_metric_keys};
use crate::config::sweep::{
    AxisInfo, AxisValue, FigureKind, FigureSpec, ReportSpec, TableSpec, Trial, show_value,
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

type Assignments = BTreeMap<String, AxisValue>;

/// Whether the trial has all these values.
fn matches(trial: &Trial, wanted: &Assignments) -> bool {
    wanted
        .iter()
        .all(|(axis, value)| trial.assignments.get(axis) == Some(value))
}

impl ReportChecker<'_> {
    fn fail(&mut self, place: Place, message: String, help: Option<String>) {
        let mut found = Diagnostic::new(place, message);
        found.help = help;
        self.problems.insert(found);
    }

    fn place(&self, path: &str) -> Place {
        self.node.nearest_place(path)
    }

    /// The place of a key, as opposed to its value's.
    fn key_place(&self, table: &str, name: &str) -> Place {
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
        let mut names = BTreeSet::new();
        for (index, table) in report.tables.iter_mut().enumerate() {
            let path = format!("table.{index}");
            self.name(&table.name, &path, &mut names);
            self.table(table, &path);
        }
        names.clear();
        for (index, figure) in report.figures.iter_mut().enumerate() {
            let path = format!("figure.{index}");
            self.name(&figure.name, &path, &mut names);
            self.figure(figure, &path);
        }
    }

    fn name(&mut self, name: &str, path: &str, names: &mut BTreeSet<String>) {
        let place = self.place(&format!("{path}.name"));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            let message =
                format!("the name `{name}` becomes a file name: letters, digits, `-` and `_` only");
            self.fail(place, message, None);
        }
        if !names.insert(name.to_owned()) {
            self.fail(place, format!("the name `{name}` stands here twice"), None);
        }
    }

    /// Spells values as the axes do (`1` for `1.0`); reports unknown axes and values.
    fn assignments(&mut self, wanted: &mut Assignments, path: &str) -> bool {
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
            let help = suggest(&wrong, shown.iter().map(String::as_str));
            let message = format!("axis `{name}` never has the value `{wrong}`");
            self.fail(self.place(&format!("{path}.{name}")), message, help);
        }
        fine
    }

    fn unknown_axis(&mut self, place: Place, name: &str) {
        let help = suggest(name, self.axes.iter().map(|axis| axis.name.as_str()));
        self.fail(place, format!("there is no axis `{name}`"), help);
    }

    /// The trials under `where`; reports a filter that leaves none.
    fn selected(&mut self, filter: &mut Assignments, path: &str) -> Option<Vec<usize>> {
        let at = format!("{path}.where");
        if !self.assignments(filter, &at) {
            return None;
        }
        let trials = self.trials;
        let kept: Vec<usize> = (0..trials.len())
            .filter(|index| matches(&trials[*index], filter))
            .collect();
        if kept.is_empty() {
            self.fail(
                self.place(&at),
                "no trial has all these values".to_owned(),
                None,
            );
            return None;
        }
        Some(kept)
    }

    fn metric(&mut self, key: &str, valid: &BTreeSet<String>, place: Place) {
        if !valid.contains(key) {
            let help = suggest(key, valid.iter().map(String::as_str));
            self.fail(place, format!("no trial here has the metric `{key}`"), help);
        }
    }

    fn valid_metrics(&self, kept: &[usize], training: bool) -> BTreeSet<String> {
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
        let Some(kept) = self.selected(&mut table.filter, path) else {
            return;
        };
        if table.metrics.is_empty() {
            self.fail(
                self.place(&format!("{path}.metrics")),
                "the table has no metrics".to_owned(),
                None,
            );
        }
        let valid = self.valid_metrics(&kept, false);
        for (index, key) in table.metrics.iter().enumerate() {
            let place = self.place(&format!("{path}.metrics.{index}"));
            self.metric(key, &valid, place);
            if table.metrics[..index].contains(key) {
                self.fail(place, format!("the metric `{key}` stands here twice"), None);
            }
        }
        let at = format!("{path}.baseline");
        if table.baseline.is_empty() || !self.assignments(&mut table.baseline, &at) {
            return;
        }
        let of_baseline = kept
            .iter()
            .filter(|index| matches(&self.trials[**index], &table.baseline));
        let mut rows: Vec<&Assignments> = of_baseline
            .map(|index| &self.trials[*index].assignments)
            .collect();
        rows.dedup();
        match rows.as_slice() {
            [] => {
                let message = "the baseline is not a point of the table".to_owned();
                self.fail(
                    self.place(&at),
                    message,
                    Some("no trial has all these values".to_owned()),
                );
            }
            [_] => {}
            [first, second, ..] => {
                let differs = first
                    .keys()
                    .find(|axis| first.get(*axis) != second.get(*axis));
                let help = differs.map(|axis| format!("say also which `{axis}`"));
                let message = format!(
                    "the baseline means one row, but {} rows have these values",
                    rows.len()
                );
                self.fail(self.place(&at), message, help);
            }
        }
    }

    fn figure(&mut self, figure: &mut FigureSpec, path: &str) {
        let Some(kept) = self.selected(&mut figure.filter, path) else {
            return;
        };
        let training = figure.kind == FigureKind::Training;
        let valid = self.valid_metrics(&kept, training);
        self.metric(
            &figure.metric,
            &valid,
            self.place(&format!("{path}.metric")),
        );
        for (name, role) in [(&figure.x, "x"), (&figure.series, "series")] {
            let Some(name) = name else { continue };
            let place = self.place(&format!("{path}.{role}"));
            if !self.axes.iter().any(|axis| axis.name == *name) {
                self.unknown_axis(place, name);
            } else if !kept
                .iter()
                .any(|index| self.trials[*index].assignments.contains_key(name))
            {
                self.fail(
                    place,
                    format!("axis `{name}` applies to no trial of this figure"),
                    None,
                );
            }
        }
        match (&figure.x, training) {
            (None, false) => {
                let message =
                    "key `x` is missing: the axis along which the figure is drawn".to_owned();
                self.fail(self.place(path), message, None);
            }
            (Some(_), true) => {
                let message = "a training figure has the step on x".to_owned();
                self.fail(
                    self.place(&format!("{path}.x")),
                    message,
                    Some("remove `x`".to_owned()),
                );
            }
            _ => {}
        }
        if figure.x.is_some() && figure.x == figure.series {
            let message = "`x` and `series` are the same axis".to_owned();
            self.fail(self.place(&format!("{path}.series")), message, None);
        }
        self.numbers(figure, path, &kept);
    }

    /// Lines need numbers on x, a logarithmic axis positive ones.
    fn numbers(&mut self, figure: &FigureSpec, path: &str, kept: &[usize]) {
        let Some(x) = figure
            .x
            .as_ref()
            .filter(|_| figure.kind == FigureKind::Lines)
        else {
            if figure.log_x && figure.kind == FigureKind::Bars {
                let message = "bars have no logarithmic axis".to_owned();
                self.fail(
                    self.place(&format!("{path}.log-x")),
                    message,
                    Some("use `kind = \"lines\"`".to_owned()),
                );
            }
            return;
        };
        let values = kept
            .iter()
            .filter_map(|index| self.trials[*index].assignments.get(x));
        let wrong = values.clone().find(|value| !value.is_number());
        let low = values
            .filter_map(AxisValue::as_f64)
            .find(|value| *value <= 0.0);
        let place = self.place(&format!("{path}.x"));
        if let Some(value) = wrong {
            let message = format!(
                "lines need numbers on x, but axis `{x}` has `{}`",
                show_value(value)
            );
            self.fail(place, message, Some("use `kind = \"bars\"`".to_owned()));
        } else if let (Some(low), true) = (low, figure.log_x) {
            let message =
                format!("a logarithmic axis needs values above 0, but axis `{x}` has {low}");
            self.fail(self.place(&format!("{path}.log-x")), message, None);
        }
    }
}
