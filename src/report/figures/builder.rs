//! What the kinds of figures share: means of configurations, what is missing, which runs are shown.

use crate::base::counted;
use crate::config::sweep::{AxisValue, FigureHead, Measured, show_value};
use crate::figures::{Chart, Level, Panel, Point, ReferenceLine, Scale, SeedValue, looks_of};
use crate::metrics::{Analysis, Better, Column, Interval, metric_set, metric_spec};
use crate::plan::RunId;
use crate::report::column::ColumnReader;
use crate::report::compare::{better_of, label_of, summarise};
use crate::report::replication::{Replication, replication};
use crate::report::select::{
    Configuration, ReportError, StepRow, SweepResults, configuration_key, same_value, short_label,
};
use std::collections::{BTreeMap, BTreeSet};

/// The number of seeds where every mean is one seed's value.
pub(super) const ONE_SEED: &str = "1 seed";

/// `select = none, pairs = 933`.
pub(super) fn assignments_text(assignments: &BTreeMap<String, AxisValue>) -> String {
    let parts = assignments.iter();
    let parts = parts.map(|(axis, value)| format!("{axis} = {}", show_value(value)));
    parts.collect::<Vec<_>>().join(", ")
}

/// How a kind of figure that measures something is filled. Each is one file beside this one.
pub(super) trait KindOfFigure {
    /// The axis on x.
    fn x(&self) -> Option<&str> {
        None
    }

    /// Whether marks are whole configurations, so that axes that are placed nowhere make no panels.
    fn names_configurations(&self) -> bool;

    /// The configuration that is a line across the marks instead of a mark.
    fn reference(&self) -> Option<&BTreeMap<String, AxisValue>> {
        None
    }

    /// Whether its values are the metric's own, which known values such as that of guessing are lines for.
    fn has_levels(&self) -> bool {
        true
    }

    /// Label of the x axis.
    fn x_label(&self, builder: &Builder<'_>) -> String;

    /// Label of the values, given that of the metric.
    fn y_label(&self, metric: String) -> String {
        metric
    }

    /// The chart of one panel.
    fn chart(
        &self,
        builder: &mut Builder<'_>,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError>;

    /// What is written under a panel.
    fn under(
        &self,
        _builder: &mut Builder<'_>,
        _members: &[Configuration<'_>],
    ) -> Result<String, ReportError> {
        Ok(String::new())
    }

    /// What is drawn and over what the uncertainty is taken; `seeds` is their number in words.
    fn note(&self, builder: &Builder<'_>, seeds: &str, panels: &[Panel]) -> String;
}

/// A figure while it is filled.
pub(super) struct Builder<'a> {
    pub(super) results: &'a SweepResults,
    pub(super) head: &'a FigureHead,
    pub(super) measured: &'a Measured,
    /// The configuration that is a line across the marks.
    pub(super) reference: Option<Configuration<'a>>,
    /// The metric of all configurations, the reference behind them.
    column: Column,
    /// Where a configuration stands in it.
    arms: BTreeMap<String, usize>,
    /// The interval of each.
    intervals: Vec<Option<Interval>>,
    /// What a seed repeats, and on which rows, in words.
    pub(super) replication: String,
    /// Axes that differ between the configurations.
    pub(super) varying: Vec<String>,
    /// What is missing and why.
    pub(super) gaps: Vec<String>,
    /// What the marks say.
    pub(super) findings: Vec<String>,
    /// Runs that are shown.
    pub(super) runs: BTreeSet<RunId>,
    /// Whether seeds are thin lines.
    pub(super) seed_lines: bool,
    /// Distinct numbers of seeds behind a mean.
    pub(super) seeds: BTreeSet<usize>,
    /// Metrics along training, read once a run.
    pub(super) steps: BTreeMap<RunId, Vec<StepRow>>,
    /// Intervals of final metrics under panels by metric and configuration, read once a metric.
    pub(super) finals: BTreeMap<String, BTreeMap<String, Interval>>,
}

/// What a seed repeats, and which rows it was measured on where those differ.
fn replication_words(column: &Column, replication: Replication) -> String {
    let parts = column.parts().map(|parts| parts.words());
    let words = std::iter::once(replication.words()).chain(parts);
    words.collect::<Vec<_>>().join(" ")
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        results: &'a SweepResults,
        head: &'a FigureHead,
        measured: &'a Measured,
        configurations: &[Configuration<'_>],
        reference: Option<Configuration<'a>>,
    ) -> Result<Self, ReportError> {
        let shown: Vec<Configuration<'_>> =
            configurations.iter().chain(&reference).cloned().collect();
        let column = ColumnReader::new(results).column(&shown, &measured.metric)?;
        let arms = shown.iter().enumerate();
        let arms = arms
            .map(|(arm, c)| (configuration_key(c.assignments), arm))
            .collect();
        let analysis = Analysis::of(&column);
        let intervals = (0..shown.len())
            .map(|arm| analysis.cell_interval(arm))
            .collect();
        Ok(Self {
            results,
            head,
            measured,
            reference,
            arms,
            intervals,
            replication: replication_words(&column, replication(results, &shown)),
            column,
            varying: results.varying_axes(configurations),
            gaps: Vec::new(),
            findings: Vec::new(),
            runs: BTreeSet::new(),
            seed_lines: false,
            seeds: BTreeSet::new(),
            steps: BTreeMap::new(),
            finals: BTreeMap::new(),
        })
    }

    /// Where a configuration stands among those of [`Builder::analysis`].
    pub(super) fn arm(&self, configuration: &Configuration<'_>) -> Option<usize> {
        self.arms
            .get(&configuration_key(configuration.assignments))
            .copied()
    }

    /// The noise of the figure's metric, pooled over what it shows.
    pub(super) fn analysis(&self) -> Analysis<'_> {
        Analysis::of(&self.column)
    }

    /// The places on x of arms that are not clearly worse than the best of them, in order; `None` where some
    /// cannot be compared.
    pub(super) fn not_clearly_worse(&self, places: &[(usize, f64)]) -> Option<Vec<f64>> {
        let arms: Vec<usize> = places.iter().map(|p| p.0).collect();
        let set = self.analysis().best_set(&arms, self.better());
        let set: Vec<bool> = set.into_iter().collect::<Option<_>>()?;
        let may = places.iter().zip(set).filter(|(_, may)| *may);
        let mut found: Vec<f64> = may.map(|(place, _)| place.1).collect();
        found.sort_by(f64::total_cmp);
        Some(found)
    }

    /// An axis with what its values count.
    pub(super) fn axis_label(&self, name: &str) -> String {
        label_of(self.results, name)
    }

    /// What stands behind a value of an axis: ` tokens`, or nothing.
    pub(super) fn unit_behind(&self, name: &str) -> String {
        let mut axes = self.results.sweep.axes.iter();
        let axis = axes.find(|axis| axis.name == name);
        let unit = axis.map_or("", |axis| &axis.unit);
        if unit.is_empty() {
            return String::new();
        }
        format!(" {unit}")
    }

    /// What thin lines are, if there are some.
    pub(super) fn seed_lines_words(&self) -> &'static str {
        if self.seed_lines {
            " Thin lines: seeds."
        } else {
            ""
        }
    }

    /// What marks of configurations and their whiskers are; `seeds` is their number in words.
    pub(super) fn marks_words(&self, marks: &str, seeds: &str) -> String {
        let words = self.whiskers_words(marks, seeds);
        // Rows that are hard for one are hard for all: whiskers may overlap where differences are clear.
        let paired = if self.column.row_sets.is_empty() {
            ""
        } else {
            ", which is not that of a paired difference"
        };
        words + paired
    }

    /// `Points: mean over 3 seeds; whiskers: 95 % interval for …`.
    pub(super) fn whiskers_words(&self, marks: &str, seeds: &str) -> String {
        let with_rows = !self.column.row_sets.is_empty();
        match (seeds == ONE_SEED, with_rows) {
            (true, true) => {
                format!("{marks}: one seed each; whiskers: 95 % interval for new rows")
            }
            (true, false) => format!("{marks}: one seed each, so no interval"),
            (false, true) => format!(
                "{marks}: mean over {seeds}; whiskers: 95 % interval for new seeds and new rows"
            ),
            (false, false) => format!(
                "{marks}: mean over {seeds}; whiskers: 95 % interval for new seeds on the same rows"
            ),
        }
    }

    /// Which way the metric is better here.
    pub(super) fn better(&self) -> Better {
        better_of(&self.measured.metric, self.measured.direction)
    }

    /// The metric with its set and unit.
    pub(super) fn metric_label(&self) -> String {
        metric_spec(&self.measured.metric).full_label(&self.measured.metric)
    }

    /// Decimals of the metric.
    pub(super) fn decimals(&self) -> usize {
        metric_spec(&self.measured.metric).decimals
    }

    /// `3 seeds`, `2 to 3 seeds`; none if nothing was drawn.
    pub(super) fn seed_counts(&self) -> Option<String> {
        let (low, high) = (self.seeds.first()?, self.seeds.last()?);
        Some(match (low, high) {
            (1, 1) => ONE_SEED.to_owned(),
            (low, high) if low == high => counted(*low, "seed"),
            (low, high) => format!("{low} to {high} seeds"),
        })
    }

    /// Values of an axis that these configurations have, in the sweep's order.
    pub(super) fn values(
        &self,
        axis: Option<&str>,
        members: &[Configuration<'_>],
    ) -> Vec<Option<AxisValue>> {
        let Some(axis) = axis else { return vec![None] };
        let of = |c: &Configuration<'_>| c.assignments.get(axis).cloned();
        let mut values: Vec<Option<AxisValue>> = Vec::new();
        let order = self
            .results
            .sweep
            .axes
            .iter()
            .find(|a| a.name == axis)
            .map(|a| a.values.clone())
            .unwrap_or_default();
        for value in order {
            if members
                .iter()
                .any(|c| of(c).is_some_and(|v| same_value(&v, &value)))
            {
                values.push(Some(value));
            }
        }
        if members.iter().any(|c| of(c).is_none()) {
            values.push(None);
        }
        values
    }

    /// Values of the axis that makes series; one that is none without such an axis.
    pub(super) fn series_values(&self, members: &[Configuration<'_>]) -> Vec<Option<AxisValue>> {
        self.values(self.measured.series.as_deref(), members)
    }

    /// The members of the series of `value`.
    pub(super) fn of_series<'m, 'c>(
        &self,
        members: &'m [Configuration<'c>],
        value: Option<&AxisValue>,
    ) -> impl Iterator<Item = &'m Configuration<'c>> {
        let axis = self.measured.series.as_deref();
        members.iter().filter(move |c| has(c, axis, value))
    }

    /// `beta = 0.1`; empty without an axis that makes series.
    pub(super) fn series_name(&self, value: Option<&AxisValue>) -> String {
        let axis = self.measured.series.as_ref();
        axis.map_or_else(String::new, |axis| axis_is(axis, value))
    }

    /// The look of the series of `value`: that of the value among all that its axis has in the sweep, in every figure.
    pub(super) fn series_look(&self, value: Option<&AxisValue>) -> usize {
        let (Some(axis), Some(value)) = (&self.measured.series, value) else {
            return 0;
        };
        let axes = &self.results.sweep.axes;
        let values = axes.iter().find(|a| a.name == *axis).map(|a| &a.values);
        let names = values.into_iter().flatten().map(|v| axis_is(axis, Some(v)));
        let names: Vec<String> = names.collect();
        let own = axis_is(axis, Some(value));
        let place = names.iter().position(|name| *name == own);
        place.map_or(0, |place| looks_of(&names)[place])
    }

    /// What the marks are seen against: guessing, and what length alone gives on the same pairs.
    pub(super) fn levels(&self) -> Vec<Level> {
        let key = &self.measured.metric;
        let level = |name: &str, value: f64| Level {
            name: name.to_owned(),
            value,
        };
        let chance = metric_spec(key).chance.map(|value| level("chance", value));
        let set = metric_set(key);
        let of_length = |end| self.results.length_baseline(set, end).map(|m| m.value);
        let (longer, shorter) = (of_length("longer"), of_length("shorter"));
        let best = match (longer, shorter) {
            (Some(longer), Some(shorter)) if shorter > longer => Some(("shorter", shorter)),
            (Some(longer), _) => Some(("longer", longer)),
            _ => None,
        };
        let best = best.filter(|_| chance.is_some());
        let length = best.map(|(end, value)| level(&format!("always the {end} reply"), value));
        chance.into_iter().chain(length).collect()
    }

    /// The line of the reference with its name, and its runs among those that are shown.
    pub(super) fn reference_line(
        &mut self,
        wanted: &BTreeMap<String, AxisValue>,
    ) -> Option<ReferenceLine> {
        let configuration = self.reference.clone()?;
        Some(ReferenceLine {
            name: assignments_text(wanted),
            point: self.point(&configuration, 0.0),
        })
    }

    /// Notes why seeds of a configuration have no value, once for all panels.
    pub(super) fn note_gaps(&mut self, label: &str, missing: &[(u64, &'static str, String)]) {
        for (seed, _, text) in missing {
            let gap = format!("{label}, seed {seed}: {text}");
            if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
    }

    /// The mean of one configuration at `x`; what is missing is noted.
    pub(super) fn point(&mut self, configuration: &Configuration<'_>, x: f64) -> Point {
        let cell = summarise(self.results, configuration, &self.measured.metric);
        let label = short_label(configuration.assignments, &self.varying);
        self.note_gaps(&label, &cell.missing);
        let absent = cell
            .missing
            .first()
            .map_or(String::new(), |m| m.1.to_owned());
        self.runs.extend(cell.seeds.iter().map(|s| s.2.clone()));
        self.seeds
            .extend((!cell.seeds.is_empty()).then_some(cell.seeds.len()));
        Point {
            x,
            estimate: cell.estimate,
            interval: self.arm(configuration).and_then(|arm| self.intervals[arm]),
            seeds: cell
                .seeds
                .into_iter()
                .map(|(seed, value, run)| SeedValue {
                    seed,
                    value,
                    x: None,
                    run: run.to_string(),
                })
                .collect(),
            absent,
        }
    }
}

/// `beta = 0.1`, or `without beta`.
pub(super) fn axis_is(axis: &str, value: Option<&AxisValue>) -> String {
    match value {
        Some(value) => format!("{axis} = {}", show_value(value)),
        None => format!("without {axis}"),
    }
}

/// Whether a configuration has this value (or none) on an axis; any does without an axis.
pub(super) fn has(c: &Configuration<'_>, axis: Option<&str>, value: Option<&AxisValue>) -> bool {
    let Some(axis) = axis else { return true };
    match (c.assignments.get(axis), value) {
        (Some(a), Some(b)) => same_value(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// The scale of an x axis.
pub(super) fn scale_of(log_x: bool) -> Scale {
    if log_x { Scale::Log } else { Scale::Linear }
}
