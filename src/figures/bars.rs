//! Groups of bars, or of points where zero is no natural start.

use crate::figures::axes::{Axis, Rect};
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::figure::{Point, Reference, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{regular, shorten, wrap};
use crate::figures::theme::{INK, LEGEND_EM, Look, PAPER, SOFT_INK, TICK_EM, series_look};
use crate::metrics::{Interval, fixed};

/// Lines of text under each category; where they would be too many, the bars lie down.
pub(crate) fn category_lines(categories: &[String], slot: f64) -> Vec<Vec<String>> {
    let wrapped = |name: &String| wrap(name, slot - 8.0, TICK_EM, Weight::Regular);
    categories.iter().map(wrapped).collect()
}

/// How a chart of bars is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BarLook {
    /// Number of groups.
    pub(crate) groups: usize,
    /// Bars from zero; else points.
    pub(crate) from_zero: bool,
    /// Decimals of the written values.
    pub(crate) decimals: usize,
}

/// A value to be written: its text, the middle of its baseline, whether it fits.
type Label = (String, f64, f64, bool);

/// Draws all groups into `plot`, and the reference across them.
pub(crate) fn draw_bars(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: &Axis,
    series: &[Series],
    reference: Option<&Reference>,
    look: BarLook,
) {
    let slot = plot.width() / look.groups.max(1) as f64;
    let pitch = (slot * 0.8 / series.len().max(1) as f64).min(64.0);
    let reference = reference.filter(|r| r.point.estimate.is_some());
    if let Some(Interval { low, high }) = reference.and_then(|r| r.point.interval) {
        let inside = |y: f64| y.clamp(plot.top, plot.bottom);
        let (top, bottom) = (inside(axis.y(high, plot)), inside(axis.y(low, plot)));
        canvas.rect(plot.left, top, plot.right, bottom, INK, 0.09);
    }
    let mut labels: Vec<Label> = Vec::new();
    for (index, one) in series.iter().enumerate() {
        let own = series_look(index);
        let offset = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * pitch;
        for point in &one.points {
            let at = Slot {
                x: plot.left + (point.x + 0.5) * slot + offset,
                pitch,
            };
            labels.extend(draw_mark(canvas, (plot, axis), point, at, &own, look));
        }
    }
    if let Some(estimate) = reference.and_then(|r| r.point.estimate) {
        let y = axis.y(estimate.value, plot);
        canvas.dashed(
            &[(plot.left, y), (plot.right, y)],
            REFERENCE_DASH,
            REFERENCE,
        );
    }
    // All values or none: one alone would look like a mark of its own.
    let all = labels.iter().all(|label| label.3);
    for (text, x, y, _) in labels.into_iter().filter(|_| all) {
        let style = TextLook {
            em: TICK_EM - 0.5,
            weight: Weight::Semibold,
            color: INK,
            align: Align::Middle,
        };
        if reference.is_some() {
            let half = text_width(&text, style.em, style.weight) / 2.0 + 1.5;
            canvas.rect(
                x - half,
                y - style.em * 0.82,
                x + half,
                y + 2.0,
                PAPER,
                0.88,
            );
        }
        canvas.text(&text, x, y, style);
    }
}

pub(crate) const REFERENCE: Stroke = Stroke {
    color: INK,
    width: 1.5,
    alpha: 0.9,
};
pub(crate) const REFERENCE_DASH: &[f64] = &[7.0, 4.0];

/// The line that names the reference: its stroke, what it is, its value and interval.
pub(crate) fn draw_reference_key(
    canvas: &mut Canvas<'_>,
    reference: &Reference,
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
        canvas.rect(from, middle - 5.0, to, middle + 5.0, INK, 0.09);
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

/// Where a mark stands and how much room it has.
#[derive(Clone, Copy)]
struct Slot {
    x: f64,
    pitch: f64,
}

/// Draws one mark; returns its value as a text.
fn draw_mark(
    canvas: &mut Canvas<'_>,
    (plot, axis): (&Rect, &Axis),
    point: &Point,
    Slot { x, pitch }: Slot,
    look: &Look,
    chart: BarLook,
) -> Option<Label> {
    let Some(estimate) = point.estimate else {
        draw_absent(canvas, plot, &point.absent, x, pitch);
        return None;
    };
    let y = axis.y(estimate.value, plot);
    let half = pitch * 0.42;
    let ink = if chart.from_zero { INK } else { look.color };
    if chart.from_zero {
        let zero = axis.y(0.0, plot);
        canvas.bar(x - half, y.min(zero), x + half, y.max(zero), look);
    }
    let whisker = Stroke {
        color: ink,
        width: 1.6,
        alpha: 1.0,
    };
    let top = draw_interval(canvas, plot, axis, point.interval, x, whisker);
    if !chart.from_zero {
        canvas.marker(x, y, 10.0, look);
    }
    let room = pitch >= 30.0;
    let highest = if room {
        draw_seeds(
            canvas,
            plot,
            axis,
            point,
            x + (half * 0.55).max(10.0),
            half * 0.45,
        )
    } else {
        plot.bottom
    };
    let text = fixed(estimate.value, chart.decimals);
    let fits = text_width(&text, TICK_EM - 0.5, Weight::Semibold) <= pitch * 0.98;
    Some((text, x, y.min(top).min(highest) - 7.0, fits))
}

fn draw_absent(canvas: &mut Canvas<'_>, plot: &Rect, why: &str, x: f64, pitch: f64) {
    let fits = text_width(why, TICK_EM - 1.0, Weight::Regular) <= pitch;
    let look = TextLook {
        em: TICK_EM - 1.0,
        weight: Weight::Regular,
        color: SOFT_INK,
        align: Align::Middle,
    };
    canvas.text(if fits { why } else { "×" }, x, plot.bottom - 7.0, look);
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
