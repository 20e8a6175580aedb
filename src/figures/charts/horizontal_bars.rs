//! Bars that lie down: a row for each category, where the names are too long to stand below columns.

use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::chart::{Arrangement, Coordinates, Frame, Room};
use crate::figures::data::{Point, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{breaks_words, shorten, wrap};
use crate::figures::marks::{REFERENCE, REFERENCE_BAND, REFERENCE_DASH};
use crate::figures::theme::{INK, Look, PAPER, ROW_LINE, SOFT_INK, TICK_EM, series_look};
use crate::metrics::{Interval, fixed, signed};
use plotters::style::RGBColor;

/// Height of a bar's row, pixels: a value of one line beside it with air above and below.
const PITCH: f64 = 22.0;
/// Height between the rows of two categories, pixels.
const GAP: f64 = 6.0;
/// Share of a panel's width that names may take; the bars keep more than half of it.
const NAMES: f64 = 0.36;
/// Lines that a name may take below a column or before a row.
const MOST_LINES: usize = 3;
/// Width from which on a panel has room for intervals beside the values, pixels.
const ROOM_FOR_INTERVALS: f64 = 500.0;
/// Values beside the bars.
const VALUE: Weight = Weight::Semibold;

/// Whether bars lie down, because a name would break within a word or take more than three lines
/// below a column of `slot` pixels.
pub(crate) fn needed(categories: &[String], slot: f64) -> bool {
    categories.iter().any(|name| {
        breaks_words(name, slot, TICK_EM, Weight::Regular)
            || wrap(name, slot, TICK_EM, Weight::Regular).len() > MOST_LINES
    })
}

/// How rows are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowStyle {
    /// Their number.
    pub(crate) rows: usize,
    /// Bars from zero, instead of points.
    pub(crate) from_zero: bool,
    /// Values are differences, written with their sign and, where there is room, their intervals.
    pub(crate) forest: bool,
}

/// What is written of a row.
#[derive(Clone, Copy, PartialEq)]
enum Written {
    /// Its value.
    Value,
    /// A difference with its sign.
    Difference,
    /// That, and its interval.
    WithInterval,
}

impl Written {
    fn of(forest: bool, width: f64) -> Self {
        if !forest {
            Self::Value
        } else if width < ROOM_FOR_INTERVALS {
            Self::Difference
        } else {
            Self::WithInterval
        }
    }
}

/// A row for each category, with room for names to the left and for values to the right.
pub(crate) fn arrange(
    categories: &[String],
    series: &[Series],
    room: &Room,
    forest: bool,
) -> Arrangement {
    let lines = |name: &String| {
        let mut lines = wrap(name, room.width * NAMES, TICK_EM, Weight::Regular);
        if lines.len() > MOST_LINES {
            let rest = lines.split_off(MOST_LINES - 1).join(" ");
            lines.push(shorten(&rest, room.width * NAMES, TICK_EM));
        }
        lines
    };
    let names: Vec<Vec<String>> = categories.iter().map(lines).collect();
    let of_names = names.iter().flatten();
    let of_names = of_names.map(|n| text_width(n, TICK_EM, Weight::Regular));
    let points = series.iter().flat_map(|s| &s.points);
    let written = Written::of(forest, room.width);
    let of_values =
        points.map(|p| text_width(&value_of(p, room.decimals, written), TICK_EM, VALUE));
    let most_lines = names.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let row = (series.len().max(1) as f64 * PITCH).max(most_lines * ROW_LINE + 4.0) + GAP;
    Arrangement {
        left: of_names.fold(0.0, f64::max) + 10.0,
        right: of_values.fold(0.0, f64::max) + 12.0,
        height: names.len() as f64 * row,
        coordinates: Coordinates::Rows(names),
    }
}

/// What is written beside a bar.
fn value_of(point: &Point, decimals: usize, written: Written) -> String {
    let Some(estimate) = point.estimate else {
        return point.absent.clone();
    };
    let interval = point.interval.filter(|_| written == Written::WithInterval);
    match (written, interval) {
        (Written::Value, _) => fixed(estimate.value, decimals),
        (_, None) => signed(estimate.value, decimals),
        (_, Some(Interval { low, high })) => format!(
            "{} [{}, {}]",
            signed(estimate.value, decimals),
            fixed(low, decimals),
            fixed(high, decimals)
        ),
    }
}

/// Draws the rows with their values, and the reference across them.
pub(crate) fn draw(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    (series, reference): (&[Series], Option<&Point>),
    style: RowStyle,
) {
    let plot = at.plot;
    let row = plot.height() / style.rows.max(1) as f64;
    if let Some(Interval { low, high }) = reference.and_then(|p| p.interval) {
        let inside = |x: f64| x.clamp(plot.left, plot.right);
        let (from, to) = (inside(at.axis.x(low, plot)), inside(at.axis.x(high, plot)));
        canvas.rect(from, plot.top, to, plot.bottom, INK, REFERENCE_BAND);
    }
    // Below the marks, which it must not hide.
    if let Some(estimate) = reference.and_then(|p| p.estimate) {
        let x = at.axis.x(estimate.value, plot);
        let line = [(x, plot.top), (x, plot.bottom)];
        canvas.dashed(&line, REFERENCE_DASH, REFERENCE);
    }
    let written = Written::of(style.forest, at.width);
    for (index, one) in series.iter().enumerate() {
        let offset = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * PITCH;
        for point in &one.points {
            let y = plot.top + (point.x + 0.5) * row + offset;
            write_value(canvas, at, (point, written), y);
            draw_mark(
                canvas,
                at,
                point,
                y,
                &series_look(one.look),
                style.from_zero,
            );
        }
    }
}

/// Writes the value of a row right of the plot, or why there is none.
fn write_value(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    (point, written): (&Point, Written),
    y: f64,
) {
    let look = TextLook {
        em: TICK_EM,
        weight: VALUE,
        color: if point.estimate.is_some() {
            INK
        } else {
            SOFT_INK
        },
        align: Align::Right,
    };
    let text = value_of(point, at.decimals, written);
    let end = at.plot.right + text_width(&text, TICK_EM, VALUE) + 10.0;
    canvas.text(&text, end, y + TICK_EM * 0.36, look);
}

/// One bar or point with its interval and seeds.
fn draw_mark(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    point: &Point,
    y: f64,
    own: &Look,
    from_zero: bool,
) {
    let Some(estimate) = point.estimate else {
        return;
    };
    let (x, half) = (at.axis.x(estimate.value, at.plot), PITCH * 0.36);
    if from_zero {
        let zero = at.axis.x(0.0, at.plot);
        canvas.bar(zero.min(x), y - half, zero.max(x), y + half, own);
    }
    let ink = if from_zero { INK } else { own.color };
    draw_whisker(canvas, at, point.interval, y, ink);
    if !from_zero {
        canvas.marker(x, y, 10.0, own);
    }
    if point.seeds.len() > 1 {
        let middle = (point.seeds.len() - 1) as f64 / 2.0;
        for (k, seed) in point.seeds.iter().enumerate() {
            let x = at.axis.x(seed.value, at.plot);
            // Apart, so that equal values do not hide each other.
            let aside = (k as f64 - middle) * (5.0 / middle.max(1.0)).min(2.5);
            let y = y + half * 0.75 + aside;
            canvas.disc(x, y, 2.4, PAPER, 1.0);
            canvas.disc(x, y, 1.7, INK, 0.75);
        }
    }
}

/// A whisker with caps; an end outside the plot is cut and drawn as an arrow.
fn draw_whisker(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    interval: Option<Interval>,
    y: f64,
    ink: RGBColor,
) {
    let Some(Interval { low, high }) = interval else {
        return;
    };
    let plot = at.plot;
    let ends = [(at.axis.x(low, plot), 1.0), (at.axis.x(high, plot), -1.0)];
    let cut = ends.map(|(x, _)| x.clamp(plot.left, plot.right));
    let edge = Stroke {
        alpha: 0.8,
        ..line(PAPER, 3.2)
    };
    // A white edge keeps the whisker visible on its own bar.
    canvas.path(&[(cut[0], y), (cut[1], y)], edge);
    canvas.path(&[(cut[0], y), (cut[1], y)], line(ink, 1.6));
    for ((end, way), x) in ends.into_iter().zip(cut) {
        if (end - x).abs() < 0.01 {
            canvas.path(&[(x, y - 4.0), (x, y + 4.0)], line(ink, 1.6));
        } else {
            let back = x + way * 7.0;
            canvas.polygon(&[(x, y), (back, y - 4.0), (back, y + 4.0)], ink, 1.0);
        }
    }
}

fn line(color: RGBColor, width: f64) -> Stroke {
    Stroke {
        color,
        width,
        alpha: 1.0,
    }
}
