//! Rules for `[[report.figure]]`: every axis, value and metric that a figure names is there.

use crate::config::check_report::{Assignments, ReportChecker, Row};
use crate::config::diagnose::suggest;
use crate::config::figure_file::misplaced_keys;
use crate::config::spec::PipelineStage;
use crate::config::sweep::{
    AxisRole, AxisValue, ChartSpec, FigureSpec, MetricRole, Numbers, Trial, show_value,
};
use std::collections::BTreeSet;

/// Whether a label is `Figure 1` or `Figure A1`.
fn is_paper_label(label: &str) -> bool {
    let number = label.strip_prefix("Figure ").unwrap_or_default();
    let digits = number.strip_prefix('A').unwrap_or(number);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

impl ReportChecker<'_> {
    pub(super) fn figure(&mut self, figure: &mut FigureSpec, path: &str) {
        let head = &mut figure.head;
        self.published(head.published.as_ref(), path);
        if let Some(label) = head.paper.as_ref().filter(|l| !is_paper_label(l)) {
            let message = format!("`{label}` is no figure of the paper");
            let help = "write it as `Figure 1` or `Figure A1`";
            self.fail(self.place(&format!("{path}.paper")), message, help);
        }
        let Some(kept) = self.selected(&mut head.filter, path) else {
            return;
        };
        let misplaced = self.node.at(path).map(misplaced_keys);
        self.problems.extend(misplaced.unwrap_or_default());
        self.metrics(&figure.chart, path, &kept);
        self.axes(&figure.chart, path, &kept);
        if let Some((key, required, values)) = figure.chart.one_configuration() {
            if required && values.is_empty() {
                let message = format!("key `{key}` is missing: what the others are compared with");
                let axis = self.axes.first();
                let help = axis.and_then(|axis| Some((&axis.name, axis.values.first()?)));
                let help = help.map_or_else(String::new, |(axis, value)| {
                    format!("for example `{key} = {{ {axis} = {value} }}`")
                });
                self.fail(self.place(path), message, help);
            }
            self.one_configuration(key, values, path);
        }
        if let Some((stage, what)) = figure.chart.needed_stage() {
            self.needed_stage(stage, what, path, &kept);
        }
        for role in figure.chart.axes() {
            self.numbers(&role, path, &kept);
        }
    }

    fn metrics(&mut self, chart: &ChartSpec, path: &str, kept: &[usize]) {
        let metrics = chart.metrics();
        for (index, role) in metrics.iter().enumerate() {
            let key = &role.key;
            if let (true, Some((what, help))) = (role.metric.is_empty(), role.missing) {
                let message = format!("key `{key}` is missing: {what}");
                let valid = self.metrics_of(role, kept);
                let listed = || suggest("", valid.iter().map(String::as_str));
                let help = help.map(str::to_owned).or_else(listed);
                self.fail(self.place(path), message, help.unwrap_or_default());
                continue;
            }
            let place = self.place(&format!("{path}.{key}"));
            self.metric(role.metric, &self.metrics_of(role, kept), place);
            let same = |other: &&MetricRole<'_>| other.metric == role.metric;
            // Those of a list may repeat what the figure shows.
            let first = metrics[..index].iter().find(same);
            if let Some(first) = first.filter(|_| role.missing.is_some()) {
                let message = format!("`{}` and `{key}` are the same", first.key);
                self.fail(place, message, "name another metric in one of them");
            }
        }
    }

    /// The metrics that may stand there.
    fn metrics_of(&self, role: &MetricRole<'_>, kept: &[usize]) -> BTreeSet<String> {
        let wanted = [(role.finals, false), (role.steps, true)];
        let wanted = wanted.into_iter().filter(|(asked, _)| *asked);
        wanted
            .flat_map(|(_, training)| self.valid_metrics(kept, training))
            .collect()
    }

    fn axes(&mut self, chart: &ChartSpec, path: &str, kept: &[usize]) {
        let roles = chart.axes();
        for (index, role) in roles.iter().enumerate() {
            let key = role.key;
            let Some(name) = role.axis else {
                if role.required {
                    let message =
                        format!("key `{key}` is missing: the axis along which the figure is drawn");
                    let names = self.axes.iter().map(|axis| axis.name.as_str());
                    let help = suggest("", names).unwrap_or_default();
                    self.fail(self.place(path), message, help);
                }
                continue;
            };
            let place = self.place(&format!("{path}.{key}"));
            if !self.axes.iter().any(|axis| axis.name == name) {
                self.unknown_axis(place, name);
            } else if !kept
                .iter()
                .any(|index| self.trials[*index].assignments.contains_key(name))
            {
                let message = format!("axis `{name}` applies to no trial of this figure");
                self.fail(place, message, "change `where`, or name another axis");
            }
            let same = |other: &&AxisRole<'_>| other.axis == Some(name);
            if let Some(other) = roles[..index].iter().find(same) {
                let message = format!("`{}` and `{key}` are the same axis", other.key);
                self.fail(place, message, "name another axis in one of them");
            }
        }
    }

    /// One configuration of the sweep, whatever `where` says.
    fn one_configuration(&mut self, key: &'static str, values: &mut Assignments, path: &str) {
        let at = format!("{path}.{key}");
        if values.is_empty() || !self.assignments(values, &at) {
            return;
        }
        let trials: Vec<&Trial> = self.trials.iter().collect();
        let row = Row {
            what: key,
            of: "the sweep",
            within: &[],
        };
        self.one_row(values, &trials, &row, &at);
    }

    fn needed_stage(&mut self, stage: PipelineStage, what: &str, path: &str, kept: &[usize]) {
        let has = |index: &usize| self.trials[*index].config.pipeline.contains(&stage);
        if !kept.iter().any(has) {
            let name = stage.name();
            let message = format!("no trial here has a `{name}` stage, {what}");
            self.fail(
                self.place(path),
                message,
                "change `where`, or remove the figure",
            );
        }
    }

    /// Lines need numbers on x, a logarithmic axis positive ones.
    fn numbers(&mut self, role: &AxisRole<'_>, path: &str, kept: &[usize]) {
        let (Some(numbers), Some(x)) = (role.numbers, role.axis) else {
            return;
        };
        let values = kept
            .iter()
            .filter_map(|index| self.trials[*index].assignments.get(x));
        let wrong = values.clone().find(|value| !value.is_number());
        let low = values
            .filter_map(AxisValue::as_f64)
            .find(|value| *value <= 0.0);
        let place = self.place(&format!("{path}.{}", role.key));
        if let Some(value) = wrong {
            let message = format!(
                "lines need numbers on x, but axis `{x}` has `{}`",
                show_value(value)
            );
            self.fail(place, message, "use `kind = \"bars\"`");
        } else if let (Some(low), Numbers::Logarithmic) = (low, numbers) {
            let message =
                format!("a logarithmic axis needs values above 0, but axis `{x}` has {low}");
            let help = "remove `log-x`, or leave these trials out with `where`";
            self.fail(self.place(&format!("{path}.log-x")), message, help);
        }
    }
}
