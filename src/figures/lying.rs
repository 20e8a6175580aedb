//! Bars that lie down: a row for each category, where the names are too long to stand below columns.

use crate::figures::axes::{Axis, Rect};
use crate::figures::bars::{BarLook, REFERENCE, REFERENCE_DASH};
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::figure::{Chart, Panel, Point, Reference, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{breaks_words, regular, shorten, wrap};
use crate::figures::theme::{AXIS, GRID, INK, Look, PAPER, SOFT_INK, TICK_EM, series_look};
use crate::metrics::{Interval, fixed};

/// Height of a bar's row.
const PITCH: f64 = 22.0;
/// Height between the rows of two categories.
const GAP: f64 = 6.0;
/// Share of a panel's width that names may take.
const NAMES: f64 = 0.36;

/// What a panel of lying bars needs beside its plot.
#[derive(Clone, Debug)]
pub(crate) struct Lying {
    /// Names of the categories, cut to the room there is.
    names: Vec<String>,
    /// Room for the names.
    pub(crate) left: f64,
    /// Room for the values.
    pub(crate) right: f64,
    /// Height of the plot.
    pub(crate) height: f64,
}

/// Whether the bars of a panel lie down, because a name would break within a word or take more than
/// three lines under a column; measures them if so. `columns` is the width of all columns.
pub(crate) fn lying(panel: &Panel, width: f64, columns: f64) -> Option<Lying> {
    let Chart::Bars {
        categories, series, ..
    } = &panel.chart
    else {
        return None;
    };
    let slot = columns / categories.len().max(1) as f64 - 8.0;
    let crowded = |name: &String| {
        breaks_words(name, slot, TICK_EM, Weight::Regular)
            || wrap(name, slot, TICK_EM, Weight::Regular).len() > 3
    };
    if !categories.iter().any(crowded) {
        return None;
    }
    let names: Vec<String> = categories
        .iter()
        .map(|name| shorten(name, width * NAMES, TICK_EM))
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max);
    let of_names = names
        .iter()
        .map(|n| text_width(n, TICK_EM, Weight::Regular));
    let left = widest(&mut of_names.into_iter()) + 10.0;
    let points = series.iter().flat_map(|s| &s.points);
    let of_values = points.map(|p| text_width(&value_of(p, panel.decimals), TICK_EM, VALUE));
    Some(Lying {
        left,
        right: widest(&mut of_values.into_iter()) + 12.0,
        height: names.len() as f64 * (series.len().max(1) as f64 * PITCH + GAP),
        names,
    })
}

const VALUE: Weight = Weight::Semibold;

/// What is written beside a bar.
fn value_of(point: &Point, decimals: usize) -> String {
    match point.estimate {
        Some(estimate) => fixed(estimate.value, decimals),
        None => point.absent.clone(),
    }
}

/// Draws all rows into `plot`, with names to the left and values to the right of it.
pub(crate) fn draw_lying(
    canvas: &mut Canvas<'_>,
    (plot, axis): (&Rect, &Axis),
    lying: &Lying,
    (series, reference): (&[Series], Option<&Reference>),
    look: BarLook,
) {
    draw_grid(canvas, plot, axis);
    let row = plot.height() / look.groups.max(1) as f64;
    for (index, name) in lying.names.iter().enumerate() {
        let y = plot.top + (index as f64 + 0.5) * row + TICK_EM * 0.36;
        let right = TextLook {
            align: Align::Right,
            ..regular(TICK_EM, INK)
        };
        canvas.text(name, plot.left - 8.0, y, right);
    }
    let point = reference.map(|r| &r.point);
    if let Some(Interval { low, high }) = point.and_then(|p| p.interval) {
        let inside = |x: f64| x.clamp(plot.left, plot.right);
        let (from, to) = (inside(axis.x(low, plot)), inside(axis.x(high, plot)));
        canvas.rect(from, plot.top, to, plot.bottom, INK, 0.09);
    }
    for (index, one) in series.iter().enumerate() {
        let offset = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * PITCH;
        for point in &one.points {
            let y = plot.top + (point.x + 0.5) * row + offset;
            draw_row(canvas, (plot, axis), point, y, &series_look(index), look);
        }
    }
    if let Some(estimate) = point.and_then(|p| p.estimate) {
        let x = axis.x(estimate.value, plot);
        canvas.dashed(
            &[(x, plot.top), (x, plot.bottom)],
            REFERENCE_DASH,
            REFERENCE,
        );
    }
}

fn line(color: plotters::style::RGBColor, width: f64) -> Stroke {
    Stroke {
        color,
        width,
        alpha: 1.0,
    }
}

/// Ticks along the bottom with their grid, and the line where the bars begin.
fn draw_grid(canvas: &mut Canvas<'_>, plot: &Rect, axis: &Axis) {
    for tick in &axis.ticks {
        let x = axis.x(tick.value, plot);
        let color = if tick.value == 0.0 { AXIS } else { GRID };
        canvas.path(&[(x, plot.top), (x, plot.bottom)], line(color, 1.0));
        let middle = TextLook {
            align: Align::Middle,
            ..regular(TICK_EM, SOFT_INK)
        };
        canvas.text(&tick.text, x, plot.bottom + 6.0 + TICK_EM, middle);
    }
}

/// One bar or point with its interval, seeds and value.
fn draw_row(
    canvas: &mut Canvas<'_>,
    (plot, axis): (&Rect, &Axis),
    point: &Point,
    y: f64,
    own: &Look,
    look: BarLook,
) {
    let text = TextLook {
        em: TICK_EM,
        weight: VALUE,
        color: if point.estimate.is_some() {
            INK
        } else {
            SOFT_INK
        },
        align: Align::Right,
    };
    let end = plot.right + text_width(&value_of(point, look.decimals), TICK_EM, VALUE) + 10.0;
    canvas.text(
        &value_of(point, look.decimals),
        end,
        y + TICK_EM * 0.36,
        text,
    );
    let Some(estimate) = point.estimate else {
        return;
    };
    let (x, half) = (axis.x(estimate.value, plot), PITCH * 0.36);
    if look.from_zero {
        let zero = axis.x(0.0, plot);
        canvas.bar(zero.min(x), y - half, zero.max(x), y + half, own);
    }
    let ink = if look.from_zero { INK } else { own.color };
    draw_whisker(canvas, (plot, axis), point.interval, y, ink);
    if !look.from_zero {
        canvas.marker(x, y, 10.0, own);
    }
    if point.seeds.len() > 1 {
        for seed in &point.seeds {
            let x = axis.x(seed.value, plot);
            canvas.disc(x, y + half * 0.62, 2.4, PAPER, 1.0);
            canvas.disc(x, y + half * 0.62, 1.7, INK, 0.75);
        }
    }
}

/// A whisker with caps; an end outside the plot is cut and drawn as an arrow.
fn draw_whisker(
    canvas: &mut Canvas<'_>,
    (plot, axis): (&Rect, &Axis),
    interval: Option<Interval>,
    y: f64,
    ink: plotters::style::RGBColor,
) {
    let Some(Interval { low, high }) = interval else {
        return;
    };
    let ends = [(axis.x(low, plot), 1.0), (axis.x(high, plot), -1.0)];
    let cut = ends.map(|(x, _)| x.clamp(plot.left, plot.right));
    let edge = Stroke {
        alpha: 0.8,
        ..line(PAPER, 3.2)
    };
    // A white edge keeps the whisker visible on its own bar.
    canvas.path(&[(cut[0], y), (cut[1], y)], edge);
    canvas.path(&[(cut[0], y), (cut[1], y)], line(ink, 1.6));
    for ((end, way), at) in ends.into_iter().zip(cut) {
        if (end - at).abs() < 0.01 {
            canvas.path(&[(at, y - 4.0), (at, y + 4.0)], line(ink, 1.6));
        } else {
            let back = at + way * 7.0;
            canvas.polygon(&[(at, y), (back, y - 4.0), (back, y + 4.0)], ink, 1.0);
        }
    }
}
