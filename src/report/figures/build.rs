//! From a figure of the sweep file to a figure that can be drawn.

use crate::config::sweep::{AxisValue, ChartSpec, FigureSpec, Measured};
use crate::figures::{BarChart, Figure, Panel};
use crate::metrics::metric_spec;
use crate::report::figures::batch;
use crate::report::figures::builder::{Builder, KindOfFigure, axis_is};
use crate::report::said::Said;
use crate::report::select::{
    Configuration, ReportError, SweepResults, configuration_key, short_label,
};
use std::collections::BTreeMap;

/// At most so many gaps are named under a figure; the CSV and the tables have them all.
const NAMED_GAPS: usize = 6;

/// Builds the figure of `spec`: axes that are neither on x nor a series become panels, and results
/// that are not there are named.
///
/// # Errors
/// The figure names an axis that the sweep does not have or that is not numeric where it must be,
/// or a results file cannot be read.
pub fn build_figure(results: &SweepResults, spec: &FigureSpec) -> Result<Figure, ReportError> {
    let axes = spec.chart.axes();
    for axis in axes.iter().filter_map(|role| role.axis) {
        must_be_axis(results, spec, axis)?;
    }
    match &spec.chart {
        ChartSpec::Bars(own) => fill(results, spec, &own.measured, own),
        ChartSpec::Lines(own) => fill(results, spec, &own.measured, own),
        ChartSpec::Training(own) => fill(results, spec, &own.measured, own),
        ChartSpec::Scaling(own) => fill(results, spec, &own.measured, own),
        ChartSpec::Differences(own) => fill(results, spec, &own.measured, own),
        ChartSpec::Layout => batch::build(results, spec),
    }
}

fn must_be_axis(results: &SweepResults, spec: &FigureSpec, axis: &str) -> Result<(), ReportError> {
    if results.sweep.axes.iter().any(|a| a.name == axis) {
        return Ok(());
    }
    Err(ReportError::UnknownAxis {
        figure: spec.head.name.clone(),
        axis: axis.to_owned(),
    })
}

/// Fills a figure whose panels show a metric of configurations.
fn fill(
    results: &SweepResults,
    spec: &FigureSpec,
    measured: &Measured,
    kind: &dyn KindOfFigure,
) -> Result<Figure, ReportError> {
    let mut configurations = results.configurations(&spec.head.filter);
    let mut reference = None;
    if let Some(wanted) = kind.reference() {
        for axis in wanted.keys() {
            must_be_axis(results, spec, axis)?;
        }
        reference = results.configurations(wanted).into_iter().next();
    }
    // What is a line across the bars is no bar.
    let drawn = |c: &Configuration<'_>| {
        let line = reference.as_ref();
        line.is_none_or(|r| c.assignments != r.assignments)
    };
    configurations.retain(drawn);
    let mut builder = Builder::new(results, &spec.head, measured, &configurations, reference)?;
    let mut panels = Vec::new();
    for (title, members) in in_panels(&builder, kind, &configurations) {
        let chart = kind.chart(&mut builder, &title, &members)?;
        let note = kind.under(&mut builder, &members)?;
        panels.push(Panel {
            title,
            x_label: kind.x_label(&builder),
            y_label: kind.y_label(builder.metric_label()),
            better: builder.better(),
            decimals: builder.decimals(),
            note,
            levels: if kind.has_levels() {
                builder.levels()
            } else {
                Vec::new()
            },
            chart,
        });
    }
    if panels.is_empty() {
        panels.push(empty_panel(&builder, kind));
        builder
            .gaps
            .push("no trial of the sweep fits this figure".to_owned());
    }
    let note = match builder.seed_counts() {
        Some(seeds) => kind.note(&builder, &seeds, &panels),
        None => "Nothing to draw yet.".to_owned(),
    };
    shorten_gaps(&mut builder.gaps);
    Ok(Figure {
        name: spec.head.name.clone(),
        title: spec.head.title.clone(),
        note,
        findings: builder.findings,
        missing: builder.gaps,
        caption: caption(&spec.head.caption, &measured.metric, &builder.replication),
        columns: columns(panels.len(), measured.panels.is_some()),
        panels,
        runs: builder.runs.iter().map(ToString::to_string).collect(),
    })
}

/// Panels in a row: those of an axis side by side as far as they can be read, others in twos.
fn columns(panels: usize, of_an_axis: bool) -> usize {
    match (panels, of_an_axis) {
        (n @ 1..=4, true) => n,
        (_, true) => 3,
        (1, false) => 1,
        (_, false) => 2,
    }
}

fn empty_panel(builder: &Builder<'_>, kind: &dyn KindOfFigure) -> Panel {
    Panel {
        title: String::new(),
        x_label: kind.x_label(builder),
        y_label: kind.y_label(builder.metric_label()),
        better: builder.better(),
        decimals: builder.decimals(),
        note: String::new(),
        levels: Vec::new(),
        chart: Box::new(BarChart {
            categories: Vec::new(),
            from_zero: false,
            series: Vec::new(),
            reference: None,
            forest: false,
        }),
    }
}

/// Configurations by the values of the axes that are neither on x nor series, with a title each.
fn in_panels<'a>(
    builder: &Builder<'a>,
    kind: &dyn KindOfFigure,
    configurations: &[Configuration<'a>],
) -> Vec<(String, Vec<Configuration<'a>>)> {
    let measured = builder.measured;
    let placed = |axis: &str| kind.x() == Some(axis) || measured.series.as_deref() == Some(axis);
    let named = measured.panels.as_ref();
    let rest: Vec<String> = builder
        .varying
        .iter()
        .filter(|a| named == Some(*a) || (!kind.names_configurations() && !placed(a)))
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

/// Names the first few gaps and counts the others.
fn shorten_gaps(gaps: &mut Vec<String>) {
    let more = gaps.len().saturating_sub(NAMED_GAPS);
    gaps.truncate(NAMED_GAPS);
    if more > 0 {
        gaps.push(format!("and {more} more (see the tables)"));
    }
}

/// The sweep file's caption, the metric's definition, and what a seed repeats.
fn caption(own: &str, metric: &str, replication: &str) -> String {
    let own = own.trim();
    let end = if own.is_empty() || own.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    let known = metric_spec(metric);
    let definition = if known.suffix.is_empty() {
        ""
    } else {
        known.description
    };
    // A caption that defines the metric itself does not do it twice.
    let text = format!("{own}{end} {definition} {replication}");
    Said::default().rest(&text)
}
