//! Fills a figure of the sweep file with results.

mod bars;
mod batch;
mod lines;
mod note;
mod scaling;
mod training;

use crate::config::sweep::{AxisValue, FigureKind, FigureSpec, show_value};
use crate::figures::{Chart, Figure, Panel, Point, Scale, SeedValue};
use crate::metrics::{Better, metric_spec};
use crate::plan::RunId;
use crate::report::compare::{better_of, summarise};
use crate::report::select::{
    Configuration, ReportError, StepRow, SweepResults, configuration_key, same_value, short_label,
};
use std::collections::{BTreeMap, BTreeSet};

/// At most so many gaps are named under a figure; the CSV and the tables have them all.
const NAMED_GAPS: usize = 6;

/// Builds the figure of `spec`: axes that are neither on x nor a series become panels, and results
/// that are not there are named.
///
/// # Errors
/// The figure names an axis that the sweep does not have or that is not numeric where it must be,
/// or a results file cannot be read.
pub fn build_figure(results: &SweepResults, spec: &FigureSpec) -> Result<Figure, ReportError> {
    let axes = spec.x.iter().chain(&spec.series).chain(&spec.panels);
    for axis in axes.chain(spec.reference.keys()) {
        if !results.sweep.axes.iter().any(|a| a.name == *axis) {
            return Err(ReportError::UnknownAxis {
                figure: spec.name.clone(),
                axis: axis.clone(),
            });
        }
    }
    if spec.kind == FigureKind::Layout {
        return batch::build(results, spec);
    }
    let of_reference =
        (!spec.reference.is_empty()).then(|| results.configurations(&spec.reference));
    let reference = of_reference.and_then(|found| found.into_iter().next());
    let mut configurations = results.configurations(&spec.filter);
    // What is a line across the bars is no bar.
    configurations.retain(|c| {
        reference
            .as_ref()
            .is_none_or(|r| c.assignments != r.assignments)
    });
    let varying = results.varying_axes(&configurations);
    let mut builder = Builder {
        results,
        spec,
        varying,
        gaps: Vec::new(),
        findings: Vec::new(),
        runs: BTreeSet::new(),
        seeds: BTreeSet::new(),
        steps: BTreeMap::new(),
    };
    let mut panels = Vec::new();
    for (title, members) in builder.panels(&configurations) {
        let chart = match spec.kind {
            FigureKind::Bars => builder.bars(&members, reference.as_ref()),
            FigureKind::Lines => builder.lines(&title, &members)?,
            FigureKind::Scaling => builder.scaling(&title, &members)?,
            FigureKind::Training | FigureKind::Layout => builder.training(&title, &members)?,
        };
        let note = builder.under(&members)?;
        panels.push(builder.panel(title, chart, note));
    }
    if panels.is_empty() {
        let chart = Chart::Bars {
            categories: Vec::new(),
            from_zero: false,
            series: Vec::new(),
            reference: None,
        };
        panels.push(builder.panel(String::new(), chart, String::new()));
        builder
            .gaps
            .push("no trial of the sweep fits this figure".to_owned());
    }
    let columns = match (panels.len(), &spec.panels) {
        (n @ 1..=4, Some(_)) => n,
        (_, Some(_)) => 3,
        (1, None) => 1,
        (_, None) => 2,
    };
    let from_zero = panels.iter().any(|p: &Panel| {
        matches!(
            p.chart,
            Chart::Bars {
                from_zero: true,
                ..
            }
        )
    });
    let note = builder.note(from_zero);
    shorten_gaps(&mut builder.gaps);
    Ok(Figure {
        name: spec.name.clone(),
        title: spec.title.clone(),
        note,
        findings: builder.findings,
        missing: builder.gaps,
        caption: caption(spec),
        panels,
        columns,
        runs: builder.runs.iter().map(ToString::to_string).collect(),
    })
}

/// Names the first few gaps and counts the others.
fn shorten_gaps(gaps: &mut Vec<String>) {
    let more = gaps.len().saturating_sub(NAMED_GAPS);
    gaps.truncate(NAMED_GAPS);
    if more > 0 {
        gaps.push(format!("and {more} more (see the tables)"));
    }
}

/// The sweep file's caption and the metric's definition.
fn caption(spec: &FigureSpec) -> String {
    let known = metric_spec(&spec.metric);
    if known.suffix.is_empty() {
        return spec.caption.clone();
    }
    let definition = known.description;
    format!("{} {definition}", spec.caption)
        .trim_start()
        .to_owned()
}

struct Builder<'a> {
    results: &'a SweepResults,
    spec: &'a FigureSpec,
    varying: Vec<String>,
    gaps: Vec<String>,
    findings: Vec<String>,
    runs: BTreeSet<RunId>,
    seeds: BTreeSet<usize>,
    steps: BTreeMap<RunId, Vec<StepRow>>,
}

impl<'a> Builder<'a> {
    /// Configurations by the values of the axes that are neither on x nor series, with a title each.
    fn panels(
        &self,
        configurations: &[Configuration<'a>],
    ) -> Vec<(String, Vec<Configuration<'a>>)> {
        let placed = |axis: &String| {
            self.spec.x.as_ref() == Some(axis) || self.spec.series.as_ref() == Some(axis)
        };
        // Without x, bars name whole configurations; without series, so do training curves.
        let free = match self.spec.kind {
            FigureKind::Bars => self.spec.x.is_none(),
            FigureKind::Training => self.spec.series.is_none(),
            // Its points are whole configurations.
            FigureKind::Scaling => true,
            FigureKind::Lines | FigureKind::Layout => false,
        };
        let named = self.spec.panels.as_ref();
        let rest: Vec<String> = self
            .varying
            .iter()
            .filter(|a| named == Some(*a) || (!free && !placed(a)))
            .cloned()
            .collect();
        let mut panels: Vec<(String, Vec<Configuration<'a>>)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for c in configurations {
            let own: BTreeMap<String, AxisValue> = rest
                .iter()
                .filter_map(|a| Some((a.clone(), c.assignments.get(a)?.clone())))
                .collect();
            let place = *places
                .entry(configuration_key(&own))
                .or_insert(panels.len());
            if place == panels.len() {
                let title = match (rest.as_slice(), named) {
                    ([], _) => String::new(),
                    ([axis], Some(_)) => axis_is(axis, own.get(axis)),
                    _ => short_label(&own, &rest),
                };
                panels.push((title, Vec::new()));
            }
            panels[place].1.push(c.clone());
        }
        panels
    }

    fn panel(&self, title: String, chart: Chart, note: String) -> Panel {
        let known = metric_spec(&self.spec.metric);
        let x_label = match (self.spec.kind, self.spec.x.as_ref()) {
            (FigureKind::Training, _) => "optimiser step".to_owned(),
            (FigureKind::Scaling, _) => {
                let key = self.spec.x_metric.as_deref().unwrap_or_default();
                let log = if self.spec.log_x { ", log scale" } else { "" };
                format!("{}{log}", metric_spec(key).full_label(key))
            }
            (_, Some(x)) if self.spec.log_x => format!("{x} (log scale)"),
            (_, Some(x)) => x.clone(),
            (_, None) => "configuration".to_owned(),
        };
        Panel {
            title,
            x_label,
            y_label: known.full_label(&self.spec.metric),
            better: self.better(),
            decimals: known.decimals,
            note,
            chart,
        }
    }

    /// Which way the metric is better here.
    fn better(&self) -> Better {
        better_of(&self.spec.metric, self.spec.direction)
    }

    fn scale(&self) -> Scale {
        if self.spec.log_x {
            Scale::Log
        } else {
            Scale::Linear
        }
    }

    /// Values of an axis that these configurations have, in the sweep's order.
    fn values(
        &self,
        axis: Option<&String>,
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
            .find(|a| a.name == *axis)
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

    fn series_name(&self, value: Option<&AxisValue>) -> String {
        let axis = self.spec.series.as_ref();
        axis.map_or_else(String::new, |axis| axis_is(axis, value))
    }

    /// The mean of one configuration at `x`; what is missing is noted.
    fn point(&mut self, configuration: &Configuration<'_>, x: f64) -> Point {
        let cell = summarise(self.results, configuration, &self.spec.metric);
        let label = short_label(configuration.assignments, &self.varying);
        for (seed, _, text) in &cell.missing {
            self.gaps.push(format!("{label}, seed {seed}: {text}"));
        }
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
            interval: cell.interval,
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
fn axis_is(axis: &str, value: Option<&AxisValue>) -> String {
    match value {
        Some(value) => format!("{axis} = {}", show_value(value)),
        None => format!("without {axis}"),
    }
}

/// Whether a configuration has this value (or none) on an axis; any does without an axis.
fn has(c: &Configuration<'_>, axis: Option<&String>, value: Option<&AxisValue>) -> bool {
    let Some(axis) = axis else { return true };
    match (c.assignments.get(axis), value) {
        (Some(a), Some(b)) => same_value(a, b),
        (None, None) => true,
        _ => false,
    }
}
