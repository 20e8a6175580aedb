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
        let mut ys = values.marks.iter().chain(&values.ends);
        if let Some(y) = ys.find(|y| !y.is_finite()) {
            return fault("y", *y);
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
        alike.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, r)| {
            (l.min(r.0), h.max(r.1))
        })
    };
    panels.iter().map(joined).collect()
}

/// The names of a figure's series, of the panel that has most; empty names are left out.
pub(crate) fn shared_names(figure: &Figure) -> Vec<String> {
    let longest = figure
        .panels
        .iter()
        .map(|p| p.chart.names())
        .max_by_key(Vec::len);
    longest
        .unwrap_or_default()
        .into_iter()
        .filter(|n| !n.is_empty())
        .collect()
}
