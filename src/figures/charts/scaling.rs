//! Points over a measured quantity, parabolas through them, and where they saturate.

use crate::figures::axes::measured_axis;
use crate::figures::canvas::{Canvas, Stroke};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::data::{Scale, Series};
use crate::figures::labels::spread;
use crate::figures::marks::{
    APART, MARKER, draw_interval, draw_seed_lines, label_ends, line_swatch,
};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{FIT_DASH, INK, Look, series_look};
use crate::metrics::{Interval, Parabola};

/// Pieces of a drawn fit: none is longer than a dozen pixels, so that its corners are not seen.
const FIT_PIECES: u32 = 60;

/// Points over a measured quantity with a parabola through each series, dotted in its band, and where it
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
    /// The 95 % interval of the parabola at places along x: `(x, interval)`.
    pub band: Vec<(f64, Interval)>,
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
    /// Where it is the turn of the fit, the interval of its position; `None` at an observed point.
    pub turn: Option<Interval>,
}

impl Chart for ScalingChart {
    fn values(&self) -> Values {
        let mut values = Values {
            log_x: self.scale == Scale::Log,
            ..Values::of_series(self.curves.iter().map(|c| &c.series))
        };
        let fits = self.curves.iter().flat_map(fitted);
        values.marks.extend(fits.map(|p| p.1));
        let bands = self.curves.iter().flat_map(|c| &c.band);
        values.ends.extend(bands.flat_map(|(_, i)| [i.low, i.high]));
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
        for curve in &self.curves {
            draw_band(canvas, at, curve);
        }
        let places = self.places(at);
        for (curve, places) in self.curves.iter().zip(&places) {
            let points = curve.series.points.iter().zip(places);
            let xs = points.map(|(p, place)| place.map_or_else(|| at.x(p.x), |(x, _)| x));
            draw_seed_lines(canvas, at, &curve.series, &xs.collect::<Vec<_>>());
        }
        let mut ends = Vec::new();
        for (curve, places) in self.curves.iter().zip(&places) {
            let look = series_look(curve.series.look);
            let fit = fitted(curve).into_iter();
            let line: Vec<_> = fit.map(|(x, y)| (at.x(x), at.y(y))).collect();
            let dotted = Stroke {
                color: look.color,
                width: 2.2,
                alpha: 1.0,
            };
            canvas.dashed(&line, FIT_DASH, dotted);
            ends.push(
                line.last()
                    .copied()
                    .or(places.last().copied().flatten())
                    .map(|p| p.1),
            );
        }
        for (curve, places) in self.curves.iter().zip(&places) {
            draw_points(canvas, at, curve, places);
        }
        // Above all lines, so that no series hides another's.
        for (curve, places) in self.curves.iter().zip(&places) {
            if let Some(found) = curve.saturation {
                let mut points = curve.series.points.iter().zip(places);
                let own =
                    points.find(|(p, _)| found.turn.is_none() && p.x.total_cmp(&found.x).is_eq());
                let middle = own.and_then(|(_, place)| *place);
                draw_saturation(canvas, at, found, middle, &series_look(curve.series.look));
            }
        }
        if at.names_at_ends {
            let points = self.curves.iter().flat_map(|c| &c.series.points);
            let last = points.map(|p| at.x(p.x)).fold(at.plot.left, f64::max);
            let names = self.curves.iter();
            let names: Vec<_> = names
                .map(|c| (c.series.name.clone(), c.series.look))
                .collect();
            label_ends(canvas, at.plot, &names, &ends, last);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        let look = self.curves[index].series.look;
        line_swatch(canvas, (look, FIT_DASH), (left, middle), 8.0);
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

impl ScalingChart {
    /// Where each point of each series stands, in pixels; marks that would hide each other are moved apart sideways.
    fn places(&self, at: &Frame<'_>) -> Vec<Vec<Option<(f64, f64)>>> {
        let points = || self.curves.iter().flat_map(|c| &c.series.points);
        let wishes: Vec<f64> = points().map(|p| at.x(p.x)).collect();
        // Where there are too many for all to stand apart, they keep what distance there is.
        let gap = APART.min(at.plot.width() / wishes.len().max(1) as f64);
        let mut xs = spread(&wishes, gap, at.plot.left, at.plot.right).into_iter();
        let of_curve = |curve: &ScalingCurve| {
            let points = curve.series.points.iter();
            points
                .map(|p| xs.next().zip(p.estimate).map(|(x, e)| (x, at.y(e.value))))
                .collect()
        };
        self.curves.iter().map(of_curve).collect()
    }
}

/// The interval of a fit, below all marks.
fn draw_band(canvas: &mut Canvas<'_>, at: &Frame<'_>, curve: &ScalingCurve) {
    let inside = |y: f64| at.y(y).clamp(at.plot.top, at.plot.bottom);
    let upper = curve.band.iter().map(|(x, i)| (at.x(*x), inside(i.high)));
    let lower = curve
        .band
        .iter()
        .rev()
        .map(|(x, i)| (at.x(*x), inside(i.low)));
    let outline: Vec<_> = upper.chain(lower).collect();
    if outline.len() > 2 {
        canvas.polygon(&outline, series_look(curve.series.look).color, 0.11);
    }
}

/// Draws the measured points of a series at their places.
fn draw_points(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    curve: &ScalingCurve,
    places: &[Option<(f64, f64)>],
) {
    let look = series_look(curve.series.look);
    let whisker = Stroke {
        color: look.color,
        width: 1.3,
        alpha: 0.75,
    };
    for (p, place) in curve.series.points.iter().zip(places) {
        let Some((x, y)) = *place else { continue };
        draw_interval(canvas, at.plot, at.axis, p.interval, x, whisker);
        canvas.marker(x, y, MARKER, &look);
    }
}

/// A ring where a series saturates, around the mark of a point, or on a fit with the interval of its turn.
fn draw_saturation(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    found: Saturation,
    mark: Option<(f64, f64)>,
    look: &Look,
) {
    let (x, y) = mark.unwrap_or((at.x(found.x), at.y(found.y)));
    if let Some(Interval { low, high }) = found.turn {
        let bracket = Stroke {
            color: look.color,
            width: 2.0,
            alpha: 1.0,
        };
        let inside = |x: f64| at.x(x).clamp(at.plot.left, at.plot.right);
        let ends = [inside(low), inside(high)];
        canvas.path(&[(ends[0], y), (ends[1], y)], bracket);
        for end in ends {
            canvas.path(&[(end, y - 5.0), (end, y + 5.0)], bracket);
        }
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
        let how = match s.turn {
            Some(_) => "turn of the fit",
            None => "first point not clearly worse than the best",
        };
        serde_json::json!({"x": s.x, "y": s.y, "how": how, "interval": s.turn})
    });
    serde_json::json!({"panel": panel, "series": curve.series.name, "fit": fit, "saturation": saturation})
}
