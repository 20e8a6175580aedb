//! Lines over a numeric setting, the best point of each ringed.

use crate::figures::axes::settings_axis;
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::clear::Taken;
use crate::figures::data::{Point, ReferenceLine, Scale, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::regular;
use crate::figures::marks::{
    APART, MARKER, draw_interval, draw_reference_across, draw_seed_lines, label_ends, series_swatch,
};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{INK, TICK_EM, series_look};
use crate::metrics::{Better, Interval, fixed};

/// Share of the way to the next x that the marks of all series at one x may take.
const MOST_SHIFTED: f64 = 0.6;
/// Settings that are ticks themselves; more would touch in the narrowest panel.
const MOST_SETTINGS: usize = 10;
/// Radius of the ring around a best point, pixels.
const RADIUS: f64 = 9.0;

/// Lines over a numeric axis with intervals; the best point of each is ringed.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Scale of the x axis.
    pub scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
    /// A configuration that is a line across the plot.
    pub reference: Option<ReferenceLine>,
}

impl Chart for LineChart {
    fn values(&self) -> Values {
        let mut values = Values {
            log_x: self.scale == Scale::Log,
            ..Values::of_series(&self.series)
        };
        if let Some(reference) = &self.reference {
            values.add(&reference.point);
        }
        values
    }

    fn names(&self) -> Vec<String> {
        self.series.iter().map(|s| s.name.clone()).collect()
    }

    fn ends_in_lines(&self) -> bool {
        true
    }

    fn reference(&self) -> Option<&ReferenceLine> {
        self.reference.as_ref()
    }

    fn arrange(&self, room: &Room) -> Arrangement {
        let axis = settings_axis(&self.values().x, self.scale, MOST_SETTINGS);
        room.with(Coordinates::Numbers(axis))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        draw_reference_across(canvas, at, self.reference.as_ref());
        let shifts = self.shifts(at);
        let mut taken = Taken::default();
        for (one, shift) in self.series.iter().zip(&shifts) {
            let xs = one.points.iter().map(|p| at.x(p.x) + shift);
            draw_seed_lines(canvas, at, one, &xs.collect::<Vec<_>>());
        }
        // Below all lines, so that no interval hides a mean.
        for (one, shift) in self.series.iter().zip(&shifts) {
            draw_intervals(canvas, at, (one, *shift), &mut taken);
        }
        let best = best_of(&self.series, at.better);
        let (mut ends, mut rings) = (Vec::new(), Vec::new());
        for ((one, shift), best) in self.series.iter().zip(&shifts).zip(best) {
            let pixels = place(at, &one.points, *shift);
            draw_line(canvas, &pixels, one.look);
            taken.line(&pixels);
            for (x, y) in &pixels {
                let half = MARKER / 2.0 + 1.0;
                taken.fill(((x - half, y - half), (x + half, y + half)));
            }
            if let Some(point) = best.filter(|_| one.points.len() > 1) {
                let ringed = place(at, std::slice::from_ref(point), *shift);
                rings.extend(ringed.into_iter().map(|middle| (middle, point)));
            }
            ends.push(pixels.last().map(|p| p.1));
        }
        for ((x, y), _) in &rings {
            canvas.ring(*x, *y, RADIUS, RING);
            let (near, far) = ((x - RADIUS, y - RADIUS), (x + RADIUS, y + RADIUS));
            taken.fill((near, far));
        }
        for (middle, point) in rings {
            name_value(canvas, at, middle, point, &mut taken);
        }
        if at.names_at_ends {
            let points = self.series.iter().flat_map(|s| &s.points);
            let last = points.map(|p| at.x(p.x)).fold(at.plot.left, f64::max);
            let from = last + shifts.last().copied().unwrap_or_default().max(0.0);
            let names = self.series.iter().map(|s| (s.name.clone(), s.look));
            label_ends(canvas, at.plot, &names.collect::<Vec<_>>(), &ends, from);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        series_swatch(canvas, self.series[index].look, (left, middle));
    }

    fn write_rows(&self, rows: &mut FigureRows) {
        self.series.iter().for_each(|one| rows.series(one));
        if let Some(one) = &self.reference {
            rows.point("reference", &one.name, &one.point);
        }
    }
}

const RING: Stroke = Stroke {
    color: INK,
    width: 1.5,
    alpha: 1.0,
};

impl LineChart {
    /// How far each series is moved sideways, pixels.
    fn shifts(&self, at: &Frame<'_>) -> Vec<f64> {
        let mut places: Vec<f64> = self.values().x.iter().map(|x| at.x(*x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let gaps = places.windows(2).map(|pair| pair[1] - pair[0]);
        let gap = gaps.fold(f64::INFINITY, f64::min);
        let n = self.series.len() as f64;
        let step = APART.min(MOST_SHIFTED * gap / n);
        let shift = |index: usize| (index as f64 - (n - 1.0) / 2.0) * step;
        (0..self.series.len()).map(shift).collect()
    }
}

/// Points that have a value, in pixels.
fn place(at: &Frame<'_>, points: &[Point], shift: f64) -> Vec<(f64, f64)> {
    let place = |p: &Point| Some((at.x(p.x) + shift, at.y(p.estimate?.value)));
    points.iter().filter_map(place).collect()
}

fn draw_intervals(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    (one, shift): (&Series, f64),
    taken: &mut Taken,
) {
    let faint = Stroke {
        color: series_look(one.look).color,
        width: 1.3,
        alpha: 0.75,
    };
    for p in &one.points {
        let x = at.x(p.x) + shift;
        draw_interval(canvas, at.plot, at.axis, p.interval, x, faint);
        if let Some(i) = p.interval {
            // As wide as its caps.
            taken.fill(((x - 4.0, at.y(i.high) - 2.0), (x + 4.0, at.y(i.low) + 2.0)));
        }
    }
}

/// Writes a value beside its ring or behind the end of its whisker, where it covers nothing, first on the good side;
/// nowhere if there is no such place, since further away it would be taken for that of another mark.
fn name_value(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    (x, ring): (f64, f64),
    point: &Point,
    taken: &mut Taken,
) {
    let text = fixed(value(point), at.decimals);
    let look = TextLook {
        weight: Weight::Semibold,
        align: Align::Middle,
        ..regular(TICK_EM, INK)
    };
    let half = text_width(&text, look.em, look.weight) / 2.0 + 2.0;
    let most = (at.plot.right - half).max(at.plot.left + half);
    let x = x.clamp(at.plot.left + half, most);
    // What a text of its baseline covers; the space above a plot is free, ticks stand below it.
    let covers = |y: f64| ((x - half, y - 0.8 * look.em), (x + half, y + 3.0));
    let (highest, lowest) = (at.plot.top - 3.0, at.plot.bottom - 5.0);
    let end = |value: fn(Interval) -> f64| point.interval.map_or(ring, |i| at.y(value(i)));
    let (top, bottom) = (end(|i| i.high), end(|i| i.low));
    let highest = highest.max(top.min(ring - RADIUS) - 10.0);
    let lowest = lowest.min(bottom.max(ring + RADIUS) + 18.0);
    let steps = || (0..60).map(|step| f64::from(step) * 3.0);
    let above = || {
        steps()
            .map(|d| ring - RADIUS - 5.0 - d)
            .take_while(|y| *y >= highest)
    };
    let below = || {
        steps()
            .map(|d| ring + RADIUS + 12.0 + d)
            .take_while(|y| *y <= lowest)
    };
    let free = |y: &f64| taken.is_free(covers(*y));
    let found = if at.better == Better::Lower {
        below().find(free).or_else(|| above().find(free))
    } else {
        above().find(free).or_else(|| below().find(free))
    };
    if let Some(y) = found {
        canvas.text(&text, x, y, look);
        taken.fill(covers(y));
    }
}

fn draw_line(canvas: &mut Canvas<'_>, pixels: &[(f64, f64)], look: usize) {
    let look = series_look(look);
    let stroke = Stroke {
        color: look.color,
        width: 2.2,
        alpha: 1.0,
    };
    canvas.dashed(pixels, look.dash, stroke);
    for (x, y) in pixels {
        canvas.marker(*x, *y, MARKER, &look);
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
