//! Points over a measured quantity, parabolas through them, and where they saturate.

use crate::figures::axes::measured_axis;
use crate::figures::canvas::{Canvas, Stroke};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::data::{Scale, Series};
use crate::figures::marks::{draw_interval, label_ends, line_swatch};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{FIT_DASH, INK, Look, series_look};
use crate::metrics::Parabola;

/// Pieces of a drawn fit: none is longer than a dozen pixels, so that its corners are not seen.
const FIT_PIECES: u32 = 60;

/// Points over a measured quantity with a parabola through each series, dotted, and where it
/// saturates, ringed.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingChart {
    /// Scale of the x axis.
    pub scale: Scale,
    /// The series with their fits.
    pub curves: Vec<ScalingCurve>,
}

/// A series with its parabola.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingCurve {
    /// The measured points, in x order.
    pub series: Series,
    /// The least-squares parabola through their means; absent with fewer than three distinct x.
    pub fit: Option<Fit>,
    /// Where the series stops gaining.
    pub saturation: Option<Saturation>,
}

/// A parabola over x, or over log₁₀ x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The parabola.
    pub parabola: Parabola,
    /// [`Scale::Log`]: over log₁₀ x.
    pub scale: Scale,
}

impl Fit {
    /// The fitted value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.parabola.at(match self.scale {
            Scale::Linear => x,
            Scale::Log => x.log10(),
        })
    }

    /// The x at which it turns.
    pub fn turn(&self) -> Option<f64> {
        let turn = self.parabola.turn()?;
        let x = match self.scale {
            Scale::Linear => turn,
            Scale::Log => 10f64.powf(turn),
        };
        x.is_finite().then_some(x)
    }
}

/// Where a series stops gaining.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saturation {
    /// Position.
    pub x: f64,
    /// Fitted value, or the mean of the best point.
    pub y: f64,
    /// Whether it is the turn of the fit; else the best observed point.
    pub on_fit: bool,
}

impl Chart for ScalingChart {
    fn values(&self) -> Values {
        let mut values = Values {
            log_x: self.scale == Scale::Log,
            ..Values::of_series(self.curves.iter().map(|c| &c.series))
        };
        let fits = self.curves.iter().flat_map(fitted);
        values.marks.extend(fits.map(|p| p.1));
        values
    }

    fn names(&self) -> Vec<String> {
        self.curves.iter().map(|c| c.series.name.clone()).collect()
    }

    fn ends_in_lines(&self) -> bool {
        true
    }

    fn arrange(&self, room: &Room) -> Arrangement {
        let axis = measured_axis(&self.values().x, self.scale);
        room.with(Coordinates::Numbers(axis))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        let mut ends = Vec::new();
        for (index, curve) in self.curves.iter().enumerate() {
            let look = series_look(index);
            let fit = fitted(curve).into_iter();
            let line: Vec<_> = fit.map(|(x, y)| (at.x(x), at.y(y))).collect();
            let dotted = Stroke {
                color: look.color,
                width: 2.2,
                alpha: 1.0,
            };
            canvas.dashed(&line, FIT_DASH, dotted);
            let last = draw_points(canvas, at, curve, &look);
            ends.push(line.last().copied().or(last).map(|p| p.1));
        }
        // Above all lines, so that no series hides another's.
        for (index, curve) in self.curves.iter().enumerate() {
            if let Some(found) = curve.saturation {
                draw_saturation(canvas, at, found, &series_look(index));
            }
        }
        if at.names_at_ends {
            let points = self.curves.iter().flat_map(|c| &c.series.points);
            let last = points.map(|p| at.x(p.x)).fold(at.plot.left, f64::max);
            label_ends(canvas, at.plot, &self.names(), &ends, last);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        line_swatch(canvas, (index, FIT_DASH), (left, middle), 8.0);
    }

    fn write_rows(&self, rows: &mut FigureRows) {
        let series = self.curves.iter().map(|c| &c.series);
        series.for_each(|one| rows.series(one));
    }

    fn fits(&self, panel: &str) -> Vec<serde_json::Value> {
        self.curves.iter().map(|c| fit_json(panel, c)).collect()
    }
}

/// Points along the fit of a series between its first and last x, evenly spaced on its scale; none
/// without a fit.
fn fitted(curve: &ScalingCurve) -> Vec<(f64, f64)> {
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
        let t = f64::from(k) / f64::from(FIT_PIECES);
        let x = match fit.scale {
            Scale::Linear => low + (high - low) * t,
            Scale::Log => low * (high / low).powf(t),
        };
        (x, fit.at(x))
    };
    (0..=FIT_PIECES).map(at).collect()
}

/// Draws the measured points; returns where the last one is.
fn draw_points(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    curve: &ScalingCurve,
    look: &Look,
) -> Option<(f64, f64)> {
    let mut last = None;
    for p in &curve.series.points {
        let Some(estimate) = p.estimate else { continue };
        let (x, y) = (at.x(p.x), at.y(estimate.value));
        let whisker = Stroke {
            color: look.color,
            width: 1.3,
            alpha: 0.75,
        };
        draw_interval(canvas, at.plot, at.axis, p.interval, x, whisker);
        canvas.marker(x, y, 8.5, look);
        last = Some((x, y));
    }
    last
}

/// A ring where a series saturates, with a line down to the axis if that is the turn of its fit.
fn draw_saturation(canvas: &mut Canvas<'_>, at: &Frame<'_>, found: Saturation, look: &Look) {
    let (x, y) = (at.x(found.x), at.y(found.y));
    if found.on_fit {
        let drop = Stroke {
            color: look.color,
            width: 1.1,
            alpha: 0.8,
        };
        canvas.dashed(&[(x, y + 8.0), (x, at.plot.bottom)], &[5.0, 3.0], drop);
    }
    let ring = Stroke {
        color: INK,
        width: 1.5,
        alpha: 1.0,
    };
    canvas.ring(x, y, 8.0, ring);
}

/// The parabola of a series, `y = a + b·u + c·u²`, and where it saturates.
fn fit_json(panel: &str, curve: &ScalingCurve) -> serde_json::Value {
    let fit = curve.fit.map(|f| {
        let over = match f.scale {
            Scale::Linear => "x",
            Scale::Log => "log10 x",
        };
        serde_json::json!({"u": over, "a": f.parabola.a, "b": f.parabola.b, "c": f.parabola.c})
    });
    let saturation = curve.saturation.map(|s| {
        let how = if s.on_fit {
            "turn of the fit"
        } else {
            "best observed point"
        };
        serde_json::json!({"x": s.x, "y": s.y, "how": how})
    });
    serde_json::json!({"panel": panel, "series": curve.series.name, "fit": fit, "saturation": saturation})
}
