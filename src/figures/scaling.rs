//! Points over a measured quantity, parabolas through them, and where they saturate.

use crate::figures::axes::{Axis, Rect};
use crate::figures::bars::draw_interval;
use crate::figures::canvas::{Canvas, Stroke};
use crate::figures::figure::ScalingCurve;
use crate::figures::measure::fitted;
use crate::figures::theme::{FIT_DASH, INK, Look, series_look};

/// Draws each series' points with their intervals, its fit, dotted, and a ring where it saturates,
/// with a line down to the axis if that is the turn of the fit; returns where each series ends.
pub(crate) fn draw_scaling(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: (&Axis, &Axis),
    curves: &[ScalingCurve],
) -> Vec<Option<f64>> {
    let at = |x: f64, y: f64| (axis.0.x(x, plot), axis.1.y(y, plot));
    let mut ends = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let look = series_look(index);
        let line: Vec<_> = fitted(curve).into_iter().map(|(x, y)| at(x, y)).collect();
        let dotted = Stroke {
            color: look.color,
            width: 2.2,
            alpha: 1.0,
        };
        canvas.dashed(&line, FIT_DASH, dotted);
        let last = draw_points(canvas, plot, axis, curve, &look);
        ends.push(line.last().copied().or(last).map(|p| p.1));
    }
    // Above all lines, so that no series hides another's.
    for (index, curve) in curves.iter().enumerate() {
        let Some(found) = curve.saturation else {
            continue;
        };
        let (x, y) = at(found.x, found.y);
        if found.on_fit {
            let drop = Stroke {
                color: series_look(index).color,
                width: 1.1,
                alpha: 0.8,
            };
            canvas.dashed(&[(x, y + 8.0), (x, plot.bottom)], &[5.0, 3.0], drop);
        }
        let ring = Stroke {
            color: INK,
            width: 1.5,
            alpha: 1.0,
        };
        canvas.ring(x, y, 8.0, ring);
    }
    ends
}

/// Draws the measured points; returns where the last one is.
fn draw_points(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: (&Axis, &Axis),
    curve: &ScalingCurve,
    look: &Look,
) -> Option<(f64, f64)> {
    let mut last = None;
    for p in &curve.series.points {
        let Some(estimate) = p.estimate else { continue };
        let (x, y) = (axis.0.x(p.x, plot), axis.1.y(estimate.value, plot));
        let whisker = Stroke {
            color: look.color,
            width: 1.3,
            alpha: 0.75,
        };
        draw_interval(canvas, plot, axis.1, p.interval, x, whisker);
        canvas.marker(x, y, 8.5, look);
        last = Some((x, y));
    }
    last
}
