//! What a panel's chart holds, measured: its values, its ranges, its names.

use crate::figures::figure::{
    Chart, Figure, FigureError, Panel, Part, Point, Scale, ScalingCurve, Series,
};

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
        let (xs, ys, log) = values_of(panel);
        if let Some(x) = xs
            .into_iter()
            .find(|x| !x.is_finite() || (log && *x <= 0.0))
        {
            return fault("x", x);
        }
        if let Some(y) = ys.into_iter().find(|y| !y.is_finite()) {
            return fault("y", y);
        }
    }
    Ok(())
}

/// The y values of a point: mean, ends of the interval, seeds.
fn ys(p: &Point) -> Vec<f64> {
    let mean = p.estimate.map(|e| e.value);
    let ends = p.interval.map(|i| [i.low, i.high]).into_iter().flatten();
    let seeds = p.seeds.iter().map(|s| s.value);
    mean.into_iter().chain(ends).chain(seeds).collect()
}

/// All x and y values of a panel, and whether x is logarithmic.
pub(crate) fn values_of(panel: &Panel) -> (Vec<f64>, Vec<f64>, bool) {
    let points = |series: &[Series]| -> (Vec<f64>, Vec<f64>) {
        let all = || series.iter().flat_map(|s| &s.points);
        (all().map(|p| p.x).collect(), all().flat_map(ys).collect())
    };
    match &panel.chart {
        Chart::Bars {
            series, reference, ..
        } => {
            let (x, mut y) = points(series);
            y.extend(reference.iter().flat_map(|r| ys(&r.point)));
            (x, y, false)
        }
        Chart::Lines { series, scale } => {
            let (x, y) = points(series);
            (x, y, *scale == Scale::Log)
        }
        Chart::Training { curves } => {
            let all = || curves.iter().flat_map(|c| &c.seeds).flat_map(|s| &s.points);
            (
                all().map(|p| p.0).collect(),
                all().map(|p| p.1).collect(),
                false,
            )
        }
        Chart::Scaling { scale, curves } => {
            let (mut xs, mut values) = (Vec::new(), Vec::new());
            for curve in curves {
                let (x, y) = points(std::slice::from_ref(&curve.series));
                values.extend(y);
                values.extend(fitted(curve).into_iter().map(|p| p.1));
                xs.extend(x);
            }
            (xs, values, *scale == Scale::Log)
        }
        Chart::Batch { .. } => (Vec::new(), Vec::new(), false),
    }
}

/// Points along the fit of a series between its first and last x, evenly spaced on its scale; none
/// without a fit.
pub(crate) fn fitted(curve: &ScalingCurve) -> Vec<(f64, f64)> {
    let Some(fit) = &curve.fit else {
        return Vec::new();
    };
    let points = &curve.series.points;
    let xs = || points.iter().filter(|p| p.estimate.is_some()).map(|p| p.x);
    let (low, high) = xs().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| {
        (l.min(x), h.max(x))
    });
    if low >= high {
        return Vec::new();
    }
    let at = |k: u32| {
        let t = f64::from(k) / 60.0;
        let x = match fit.scale {
            Scale::Linear => low + (high - low) * t,
            Scale::Log => low * (high / low).powf(t),
        };
        (x, fit.at(x))
    };
    (0..=60).map(at).collect()
}

/// The range of y that is shown: means and seeds always, intervals unless they dwarf the rest.
fn shown_range(panel: &Panel) -> (f64, f64) {
    let ends = |values: Vec<f64>| {
        values
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                (l.min(v), h.max(v))
            })
    };
    let (low, high) = ends(values_of(panel).1);
    if low > high {
        return (0.0, 1.0);
    }
    let mut marks: Vec<f64> = Vec::new();
    let points: Vec<&Point> = match &panel.chart {
        Chart::Bars {
            series, reference, ..
        } => {
            let own = series.iter().flat_map(|s| &s.points);
            own.chain(reference.iter().map(|r| &r.point)).collect()
        }
        Chart::Lines { series, .. } => series.iter().flat_map(|s| &s.points).collect(),
        Chart::Scaling { curves, .. } => {
            marks.extend(curves.iter().flat_map(fitted).map(|p| p.1));
            curves.iter().flat_map(|c| &c.series.points).collect()
        }
        Chart::Training { .. } | Chart::Batch { .. } => return (low, high),
    };
    for p in points {
        marks.extend(p.estimate.map(|e| e.value));
        marks.extend(p.seeds.iter().map(|s| s.value));
    }
    let (inner_low, inner_high) = ends(marks);
    let span = inner_high - inner_low;
    if span <= 0.0 || high - low <= 6.0 * span {
        return (low, high);
    }
    (
        low.max(inner_low - 2.5 * span),
        high.min(inner_high + 2.5 * span),
    )
}

/// The range of y of each panel: panels with the same y label share one, so that they compare.
pub(crate) fn common_ranges(panels: &[Panel]) -> Vec<(f64, f64)> {
    let own: Vec<(f64, f64)> = panels.iter().map(shown_range).collect();
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
    let longest = figure.panels.iter().map(names_of).max_by_key(Vec::len);
    longest
        .unwrap_or_default()
        .into_iter()
        .filter(|n| !n.is_empty())
        .collect()
}

pub(crate) fn names_of(panel: &Panel) -> Vec<String> {
    match &panel.chart {
        Chart::Bars { series, .. } | Chart::Lines { series, .. } => {
            series.iter().map(|s| s.name.clone()).collect()
        }
        Chart::Training { curves } => curves.iter().map(|c| c.name.clone()).collect(),
        Chart::Scaling { curves, .. } => curves.iter().map(|c| c.series.name.clone()).collect(),
        Chart::Batch { .. } => Part::ALL.map(|p| p.name().to_owned()).to_vec(),
    }
}
