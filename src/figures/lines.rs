//! Lines over settings and curves along training.

use crate::figures::axes::{Axis, Rect};
use crate::figures::bars::draw_interval;
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::figure::{Curve, Point, Series};
use crate::figures::font::Weight;
use crate::figures::labels::spread;
use crate::figures::theme::{AXIS, INK, LEGEND_EM, Look, PAPER, TICK_EM, series_look};
use crate::metrics::{Better, fixed};

/// Points of one series in pixels, moved a little sideways so that intervals of several series do
/// not hide each other.
fn place(axis: (&Axis, &Axis), plot: &Rect, points: &[Point], shift: f64) -> Vec<(f64, f64)> {
    let at = |p: &Point| {
        Some((
            axis.0.x(p.x, plot) + shift,
            axis.1.y(p.estimate?.value, plot),
        ))
    };
    points.iter().filter_map(at).collect()
}

/// Draws lines with intervals and rings each line's best point; returns where each line ends.
pub(crate) fn draw_lines(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: (&Axis, &Axis),
    series: &[Series],
    better: Better,
    decimals: usize,
) -> Vec<Option<f64>> {
    let shift = |i: usize| (i as f64 - (series.len() as f64 - 1.0) / 2.0) * 5.0;
    for (index, one) in series.iter().enumerate() {
        let look = series_look(index);
        let faint = Stroke {
            color: look.color,
            width: 1.3,
            alpha: 0.75,
        };
        for p in &one.points {
            draw_interval(
                canvas,
                plot,
                axis.1,
                p.interval,
                axis.0.x(p.x, plot) + shift(index),
                faint,
            );
        }
    }
    let best = best_of(series, better);
    let mut ends = Vec::new();
    for (index, one) in series.iter().enumerate() {
        let look = series_look(index);
        let pixels = place(axis, plot, &one.points, shift(index));
        canvas.dashed(
            &pixels,
            look.dash,
            Stroke {
                color: look.color,
                width: 2.2,
                alpha: 1.0,
            },
        );
        for (x, y) in &pixels {
            canvas.marker(*x, *y, 8.5, &look);
        }
        if let Some(p) = best[index].filter(|_| one.points.len() > 1) {
            let at = place(axis, plot, std::slice::from_ref(p), shift(index));
            for (x, y) in at {
                canvas.ring(
                    x,
                    y,
                    9.0,
                    Stroke {
                        color: INK,
                        width: 1.5,
                        alpha: 1.0,
                    },
                );
            }
        }
        ends.push(pixels.last().map(|p| p.1));
    }
    name_best(canvas, plot, axis, &best, better, decimals, shift);
    ends
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

/// Writes the value of the best point of all beside its ring, on the side with more room.
fn name_best(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: (&Axis, &Axis),
    best: &[Option<&Point>],
    better: Better,
    decimals: usize,
    shift: impl Fn(usize) -> f64,
) {
    let value = |p: &Point| p.estimate.map_or(f64::NAN, |e| e.value);
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
    let Some((index, point)) = winner else { return };
    let x = axis.0.x(point.x, plot) + shift(index);
    // Beyond the interval's end on the good side nothing else is drawn.
    let end = point.interval.map_or(value(point), |i| {
        if better == Better::Lower {
            i.low
        } else {
            i.high
        }
    });
    let y = axis.1.y(end, plot).clamp(plot.top, plot.bottom);
    let ring = axis.1.y(value(point), plot);
    let y = if better == Better::Lower {
        y.max(ring + 9.0) + 15.0
    } else {
        y.min(ring - 9.0) - 7.0
    };
    let text = format!("best {}", fixed(value(point), decimals));
    let half = crate::figures::font::text_width(&text, TICK_EM, Weight::Semibold) / 2.0;
    let x = x.clamp(
        plot.left + half + 2.0,
        (plot.right - half).max(plot.left + half + 2.0),
    );
    canvas.text(
        &text,
        x,
        y,
        TextLook {
            em: TICK_EM,
            weight: Weight::Semibold,
            color: INK,
            align: Align::Middle,
        },
    );
}

/// Draws mean, range and seeds of each curve; returns where each mean ends.
pub(crate) fn draw_training(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: (&Axis, &Axis),
    curves: &[Curve],
) -> Vec<Option<f64>> {
    let at = |x: f64, y: f64| (axis.0.x(x, plot), axis.1.y(y, plot));
    let bands: Vec<_> = curves.iter().map(Curve::band).collect();
    for (index, (curve, band)) in curves.iter().zip(&bands).enumerate() {
        let look = series_look(index);
        if curve.seeds.len() > 1 && band.len() > 1 {
            let mut outline: Vec<_> = band.iter().map(|b| at(b.0, b.3)).collect();
            outline.extend(band.iter().rev().map(|b| at(b.0, b.2)));
            canvas.polygon(&outline, look.color, 0.13);
        }
        for seed in curve.seeds.iter().filter(|_| curve.seeds.len() > 1) {
            let line: Vec<_> = seed.points.iter().map(|p| at(p.0, p.1)).collect();
            canvas.path(
                &line,
                Stroke {
                    color: look.color,
                    width: 0.8,
                    alpha: 0.35,
                },
            );
        }
    }
    let mut ends = Vec::new();
    for (index, band) in bands.iter().enumerate() {
        let look = series_look(index);
        let line: Vec<_> = band.iter().map(|b| at(b.0, b.1)).collect();
        canvas.dashed(
            &line,
            look.dash,
            Stroke {
                color: look.color,
                width: 2.2,
                alpha: 1.0,
            },
        );
        mark_curve(canvas, &line, &look, index);
        ends.push(line.last().map(|p| p.1));
    }
    ends
}

/// A handful of markers along a curve, at different places for neighbouring curves.
fn mark_curve(canvas: &mut Canvas<'_>, line: &[(f64, f64)], look: &Look, index: usize) {
    if line.len() <= 12 {
        for (x, y) in line {
            canvas.marker(*x, *y, 7.0, look);
        }
        return;
    }
    let stride = line.len() / 5;
    for (x, y) in line
        .iter()
        .skip(stride / 2 + index * stride / 8)
        .step_by(stride.max(1))
    {
        canvas.marker(*x, *y, 7.0, look);
    }
}

/// Writes each line's name beside its end, pushed apart, with a thin lead where it moved.
pub(crate) fn label_ends(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    names: &[String],
    ends: &[Option<f64>],
    from_x: f64,
) {
    let shown: Vec<(usize, f64)> = ends
        .iter()
        .enumerate()
        .filter_map(|(i, y)| Some((i, (*y)?)))
        .collect();
    let wishes: Vec<f64> = shown.iter().map(|s| s.1).collect();
    let placed = spread(&wishes, LEGEND_EM * 1.3, plot.top, plot.bottom);
    for ((index, wish), y) in shown.into_iter().zip(placed) {
        let look = series_look(index);
        let lead = Stroke {
            color: AXIS,
            width: 0.8,
            alpha: 0.9,
        };
        canvas.path(&[(from_x + 7.0, wish), (plot.right + 14.0, y)], lead);
        canvas.rect(
            plot.right + 14.0,
            y - 5.0,
            plot.right + 26.0,
            y + 5.0,
            PAPER,
            1.0,
        );
        canvas.marker(plot.right + 21.0, y, 7.5, &look);
        let style = TextLook {
            em: LEGEND_EM,
            weight: Weight::Regular,
            color: INK,
            align: Align::Left,
        };
        canvas.text(&names[index], plot.right + 31.0, y + 4.4, style);
    }
}
