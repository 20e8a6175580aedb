//! Marks that several kinds of charts share.

use crate::figures::axes::{Axis, Rect};
use crate::figures::canvas::{Canvas, Stroke};
use crate::figures::chart::Frame;
use crate::figures::data::{Point, ReferenceLine, Series};
use crate::figures::labels::{SWATCH, regular, shorten, spread};
use crate::figures::theme::{AXIS, INK, LEGEND_EM, PAPER, series_look};
use crate::metrics::{Interval, fixed};

/// The stroke of a reference line.
pub(crate) const REFERENCE: Stroke = Stroke {
    color: INK,
    width: 1.5,
    alpha: 0.9,
};
/// On and off lengths of a reference line, pixels.
pub(crate) const REFERENCE_DASH: &[f64] = &[7.0, 4.0];
/// How dark the interval of a reference is: bars and whiskers on it must stay readable.
pub(crate) const REFERENCE_BAND: f64 = 0.09;
/// Pixels across the marker of a point.
pub(crate) const MARKER: f64 = 8.5;
/// Pixels between marks that would else hide each other: a marker with its white edge.
pub(crate) const APART: f64 = 11.0;

/// The line that names the reference: its stroke, what it is, its value and interval.
pub(crate) fn draw_reference_key(
    canvas: &mut Canvas<'_>,
    reference: &ReferenceLine,
    (left, y): (f64, f64),
    width: f64,
    decimals: usize,
) {
    let value = match (reference.point.estimate, reference.point.interval) {
        (Some(e), Some(i)) => format!(
            "{} [{}, {}]",
            fixed(e.value, decimals),
            fixed(i.low, decimals),
            fixed(i.high, decimals)
        ),
        (Some(e), None) => fixed(e.value, decimals),
        (None, _) => reference.point.absent.clone(),
    };
    let (from, to) = (left, left + 26.0);
    let middle = y - LEGEND_EM * 0.75;
    if reference.point.interval.is_some() {
        canvas.rect(from, middle - 5.0, to, middle + 5.0, INK, REFERENCE_BAND);
    }
    canvas.dashed(&[(from, middle), (to, middle)], REFERENCE_DASH, REFERENCE);
    let text = format!("{}: {value}", reference.name);
    let text = shorten(&text, width - 34.0, LEGEND_EM);
    canvas.text(
        &text,
        to + 6.0,
        y - LEGEND_EM * 0.4,
        regular(LEGEND_EM, INK),
    );
}

/// A whisker with caps; an end outside the plot is cut and drawn as an arrow. Returns its top pixel.
pub(crate) fn draw_interval(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: &Axis,
    interval: Option<Interval>,
    x: f64,
    stroke: Stroke,
) -> f64 {
    let Some(Interval { low, high }) = interval else {
        return plot.bottom;
    };
    let (top, bottom) = (axis.y(high, plot), axis.y(low, plot));
    let (cut_top, cut_bottom) = (top.max(plot.top), bottom.min(plot.bottom));
    // A white edge keeps the whisker visible on its own bar.
    canvas.path(
        &[(x, cut_top), (x, cut_bottom)],
        Stroke {
            color: PAPER,
            width: stroke.width + 1.6,
            alpha: 0.8,
        },
    );
    canvas.path(&[(x, cut_top), (x, cut_bottom)], stroke);
    let cap = 4.0;
    for (end, cut, way) in [(top, cut_top, 1.0), (bottom, cut_bottom, -1.0)] {
        if (end - cut).abs() < 0.01 {
            canvas.path(&[(x - cap, cut), (x + cap, cut)], stroke);
        } else {
            canvas.polygon(
                &[
                    (x, cut),
                    (x - cap, cut + way * 7.0),
                    (x + cap, cut + way * 7.0),
                ],
                stroke.color,
                1.0,
            );
        }
    }
    cut_top
}

/// The seeds' values as small dots around `x`, at most `reach` to each side. Returns the top pixel.
pub(crate) fn draw_seeds(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: &Axis,
    point: &Point,
    x: f64,
    reach: f64,
) -> f64 {
    let n = point.seeds.len();
    if n < 2 {
        return plot.bottom;
    }
    let mut highest = plot.bottom;
    for (k, seed) in point.seeds.iter().enumerate() {
        let dx = (k as f64 / (n - 1) as f64 - 0.5) * 2.0 * reach.min(3.0 * n as f64) * 0.8;
        let y = axis.y(seed.value, plot);
        canvas.disc(x + dx, y, 2.6, PAPER, 1.0);
        canvas.disc(x + dx, y, 1.9, INK, 0.75);
        highest = highest.min(y - 2.6);
    }
    highest
}

/// A thin pale line through the values of each seed of a series, to be drawn below its means; `xs` are the pixels
/// of its points.
pub(crate) fn draw_seed_lines(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    series: &Series,
    xs: &[f64],
) {
    let thin = Stroke {
        color: series_look(series.look).color,
        width: 0.8,
        alpha: 0.3,
    };
    for line in series.seed_lines() {
        let line: Vec<_> = line
            .into_iter()
            .map(|(index, value)| (xs[index], at.y(value)))
            .collect();
        canvas.path(&line, thin);
    }
}

/// Writes each line's name beside its end, pushed apart, with a thin lead where it moved.
pub(crate) fn label_ends(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    names: &[(String, usize)],
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
        let (name, look) = (&names[index].0, series_look(names[index].1));
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
        let style = regular(LEGEND_EM, INK);
        canvas.text(name, plot.right + 31.0, y + 4.4, style);
    }
}

/// What stands for the line of a series of this look in a legend, dashed as it is.
pub(crate) fn series_swatch(canvas: &mut Canvas<'_>, look: usize, at: (f64, f64)) {
    line_swatch(canvas, (look, series_look(look).dash), at, 7.0);
}

/// Draws the line of the reference, if it has a value, and its interval across a plot of values that go up.
pub(crate) fn draw_reference_across(
    canvas: &mut Canvas<'_>,
    at: &Frame<'_>,
    reference: Option<&ReferenceLine>,
) {
    let Some(point) = reference.map(|r| &r.point) else {
        return;
    };
    let plot = at.plot;
    if let Some(Interval { low, high }) = point.interval {
        let inside = |y: f64| y.clamp(plot.top, plot.bottom);
        let (top, bottom) = (inside(at.y(high)), inside(at.y(low)));
        canvas.rect(plot.left, top, plot.right, bottom, INK, REFERENCE_BAND);
    }
    if let Some(estimate) = point.estimate {
        let y = at.y(estimate.value);
        let line = [(plot.left, y), (plot.right, y)];
        canvas.dashed(&line, REFERENCE_DASH, REFERENCE);
    }
}

/// What stands for a line in a legend: a piece of it with a marker of `size` pixels.
pub(crate) fn line_swatch(
    canvas: &mut Canvas<'_>,
    (look, dash): (usize, &[f64]),
    (left, middle): (f64, f64),
    size: f64,
) {
    let look = series_look(look);
    let stroke = Stroke {
        color: look.color,
        width: 2.0,
        alpha: 1.0,
    };
    canvas.dashed(&[(left, middle), (left + SWATCH, middle)], dash, stroke);
    canvas.marker(left + SWATCH / 2.0, middle, size, &look);
}
