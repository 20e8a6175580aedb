//! Lines over a numeric setting, the best point of each ringed.

use crate::figures::axes::settings_axis;
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::data::{Point, Scale, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::regular;
use crate::figures::marks::{draw_interval, label_ends, series_swatch};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{INK, TICK_EM, series_look};
use crate::metrics::{Better, fixed};

/// Pixels between the marks of neighbouring series at one x, so that their intervals do not hide
/// each other.
const SHIFT: f64 = 5.0;
/// Settings that are ticks themselves; more would touch in the narrowest panel.
const MOST_SETTINGS: usize = 10;

/// Lines over a numeric axis with intervals; the best point is ringed.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Scale of the x axis.
    pub scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
}

impl Chart for LineChart {
    fn values(&self) -> Values {
        Values {
            log_x: self.scale == Scale::Log,
            ..Values::of_series(&self.series)
        }
    }

    fn names(&self) -> Vec<String> {
        self.series.iter().map(|s| s.name.clone()).collect()
    }

    fn ends_in_lines(&self) -> bool {
        true
    }

    fn arrange(&self, room: &Room) -> Arrangement {
        let axis = settings_axis(&self.values().x, self.scale, MOST_SETTINGS);
        room.with(Coordinates::Numbers(axis))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        self.draw_intervals(canvas, at);
        let best = best_of(&self.series, at.better);
        let mut ends = Vec::new();
        for (index, one) in self.series.iter().enumerate() {
            let pixels = self.place(at, &one.points, index);
            draw_line(canvas, &pixels, index);
            if let Some(p) = best[index].filter(|_| one.points.len() > 1) {
                for (x, y) in self.place(at, std::slice::from_ref(p), index) {
                    canvas.ring(x, y, 9.0, RING);
                }
            }
            ends.push(pixels.last().map(|p| p.1));
        }
        self.name_best(canvas, at, &best);
        if at.names_at_ends {
            let points = self.series.iter().flat_map(|s| &s.points);
            let last = points.map(|p| at.x(p.x)).fold(at.plot.left, f64::max);
            let from = last + SHIFT / 2.0 * self.series.len() as f64;
            label_ends(canvas, at.plot, &self.names(), &ends, from);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        series_swatch(canvas, index, (left, middle));
    }

    fn write_rows(&self, rows: &mut FigureRows) {
        self.series.iter().for_each(|one| rows.series(one));
    }
}

const RING: Stroke = Stroke {
    color: INK,
    width: 1.5,
    alpha: 1.0,
};

impl LineChart {
    /// How far series `index` is moved sideways, pixels.
    fn shift(&self, index: usize) -> f64 {
        (index as f64 - (self.series.len() as f64 - 1.0) / 2.0) * SHIFT
    }

    /// Points of series `index` that have a value, in pixels.
    fn place(&self, at: &Frame<'_>, points: &[Point], index: usize) -> Vec<(f64, f64)> {
        let shift = self.shift(index);
        let place = |p: &Point| Some((at.x(p.x) + shift, at.y(p.estimate?.value)));
        points.iter().filter_map(place).collect()
    }

    /// Below all lines, so that no interval hides a mean.
    fn draw_intervals(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        for (index, one) in self.series.iter().enumerate() {
            let faint = Stroke {
                color: series_look(index).color,
                width: 1.3,
                alpha: 0.75,
            };
            for p in &one.points {
                let x = at.x(p.x) + self.shift(index);
                draw_interval(canvas, at.plot, at.axis, p.interval, x, faint);
            }
        }
    }

    /// Writes the value of the best point of all beside its ring, on the side with more room.
    fn name_best(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>, best: &[Option<&Point>]) {
        let lower = at.better == Better::Lower;
        let Some((index, point)) = winner(best, at.better) else {
            return;
        };
        // Beyond the interval's end on the good side nothing else is drawn.
        let end = point
            .interval
            .map_or(value(point), |i| if lower { i.low } else { i.high });
        let y = at.y(end).clamp(at.plot.top, at.plot.bottom);
        let ring = at.y(value(point));
        let y = if lower {
            y.max(ring + 9.0) + 15.0
        } else {
            y.min(ring - 9.0) - 7.0
        };
        let text = format!("best {}", fixed(value(point), at.decimals));
        let look = TextLook {
            weight: Weight::Semibold,
            align: Align::Middle,
            ..regular(TICK_EM, INK)
        };
        let half = text_width(&text, look.em, look.weight) / 2.0;
        let x = at.x(point.x) + self.shift(index);
        let x = x.clamp(
            at.plot.left + half + 2.0,
            (at.plot.right - half).max(at.plot.left + half + 2.0),
        );
        canvas.text(&text, x, y, look);
    }
}

fn draw_line(canvas: &mut Canvas<'_>, pixels: &[(f64, f64)], index: usize) {
    let look = series_look(index);
    let stroke = Stroke {
        color: look.color,
        width: 2.2,
        alpha: 1.0,
    };
    canvas.dashed(pixels, look.dash, stroke);
    for (x, y) in pixels {
        canvas.marker(*x, *y, 8.5, &look);
    }
}

fn value(point: &Point) -> f64 {
    point.estimate.map_or(f64::NAN, |e| e.value)
}

/// The best point of each series.
fn best_of(series: &[Series], better: Better) -> Vec<Option<&Point>> {
    let score = |p: &&Point| match (better, p.estimate) {
        (Better::Higher, Some(e)) => Some(e.value),
        (Better::Lower, Some(e)) => Some(-e.value),
        _ => None,
    };
    let best = |one: &'_ Series| -> Option<usize> {
        let scored = one
            .points
            .iter()
            .enumerate()
            .filter_map(|(i, p)| Some((i, score(&p)?)));
        // The first of equals, so that ties are decided by order.
        scored
            .fold(None, |best: Option<(usize, f64)>, (i, s)| match best {
                Some((_, b)) if b >= s => best,
                _ => Some((i, s)),
            })
            .map(|(i, _)| i)
    };
    series
        .iter()
        .map(|one| best(one).map(|i| &one.points[i]))
        .collect()
}

/// The best of the lines' best points, the first of equals, with its line.
fn winner<'a>(best: &[Option<&'a Point>], better: Better) -> Option<(usize, &'a Point)> {
    let mut winner: Option<(usize, &Point)> = None;
    for (index, point) in best.iter().enumerate() {
        let Some(point) = point else { continue };
        let wins = winner.is_none_or(|(_, w)| match better {
            Better::Lower => value(point) < value(w),
            _ => value(point) > value(w),
        });
        if wins {
            winner = Some((index, point));
        }
    }
    winner
}
