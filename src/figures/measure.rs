//! What a figure holds, measured: whether it can be drawn, its ranges, its names.

use crate::figures::chart::Values;
use crate::figures::figure::{Figure, FigureError, Panel};

/// Above so many times the span of means and seeds, intervals are cut off, so that the marks are not
/// pressed into a line.
const DWARFED: f64 = 6.0;
/// So many spans of the marks beyond them are shown where intervals are cut off.
const KEPT_SPANS: f64 = 2.5;

/// Every number must be finite, and positive on a logarithmic axis.
pub(crate) fn check_values(figure: &Figure) -> Result<(), FigureError> {
    let fault = |axis, value| {
        Err(FigureError::Value {
            figure: figure.name.clone(),
            axis,
            value,
        })
    };
    for panel in &figure.panels {
        let values = panel.chart.values();
        let wrong = |x: &&f64| !x.is_finite() || (values.log_x && **x <= 0.0);
        if let Some(x) = values.x.iter().find(wrong) {
            return fault("x", *x);
        }
        let ys = values.marks.iter().chain(&values.ends).copied();
        let mut ys = ys.chain(panel.levels.iter().map(|l| l.value));
        if let Some(y) = ys.find(|y| !y.is_finite()) {
            return fault("y", y);
        }
    }
    Ok(())
}

/// Lowest and highest of all; the wrong way round if there is none.
fn range<'a>(values: impl IntoIterator<Item = &'a f64>) -> (f64, f64) {
    let wider = |(low, high): (f64, f64), v: &f64| (low.min(*v), high.max(*v));
    values
        .into_iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), wider)
}

/// The range of y that is shown: means and seeds always, intervals unless they dwarf the rest.
fn shown_range(values: &Values) -> (f64, f64) {
    let (low, high) = range(values.marks.iter().chain(&values.ends));
    if low > high {
        return (0.0, 1.0);
    }
    let (inner_low, inner_high) = range(&values.marks);
    let span = inner_high - inner_low;
    if span <= 0.0 || high - low <= DWARFED * span {
        return (low, high);
    }
    (
        low.max(inner_low - KEPT_SPANS * span),
        high.min(inner_high + KEPT_SPANS * span),
    )
}

/// Known values are shown where that makes the range at most so many times as wide; elsewhere they are only said.
const WIDER_FOR_LEVELS: f64 = 2.0;

/// The range of y of each panel: panels with the same y label share one, so that they compare.
pub(crate) fn common_ranges(panels: &[Panel]) -> Vec<(f64, f64)> {
    let own: Vec<(f64, f64)> = panels
        .iter()
        .map(|p| shown_range(&p.chart.values()))
        .collect();
    let joined = |panel: &Panel| {
        let alike = panels
            .iter()
            .zip(&own)
            .filter(|(p, _)| p.y_label == panel.y_label);
        let shared = alike.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, r)| {
            (l.min(r.0), h.max(r.1))
        });
        with_levels(panel, shared)
    };
    panels.iter().map(joined).collect()
}

/// The range with the known values that are to be seen in it.
fn with_levels(panel: &Panel, (low, high): (f64, f64)) -> (f64, f64) {
    let wider = |(l, h): (f64, f64), value: f64| (l.min(value), h.max(value));
    let values = panel.levels.iter().map(|level| level.value);
    values.fold((low, high), |range, value| {
        let (l, h) = wider(range, value);
        if panel.chart.shows_levels() || h - l <= WIDER_FOR_LEVELS * (high - low) {
            (l, h)
        } else {
            range
        }
    })
}

/// The panel that has most names, whose marks the legend shows: all panels of a figure are of one kind.
pub(crate) fn named_panel(figure: &Figure) -> &Panel {
    let names = |panel: &Panel| panel.chart.names().len();
    let first = &figure.panels[0];
    figure.panels.iter().fold(first, |most, panel| {
        if names(panel) > names(most) {
            panel
        } else {
            most
        }
    })
}

/// The names of a figure's series; empty names are left out.
pub(crate) fn shared_names(figure: &Figure) -> Vec<String> {
    let mut names = named_panel(figure).chart.names();
    names.retain(|name| !name.is_empty());
    names
}
