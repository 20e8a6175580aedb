//! Groups of bars, or of points where zero is no natural start.

use crate::figures::axes::{Axis, Rect};
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::figure::{Point, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{shorten, wrap};
use crate::figures::theme::{INK, Look, PAPER, SOFT_INK, TICK_EM, series_look};
use crate::metrics::{Interval, fixed};

/// Lines of text under each category.
pub(crate) fn category_lines(categories: &[String], slot: f64) -> Vec<Vec<String>> {
    let wrapped = |name: &String| {
        let mut lines = wrap(name, slot - 8.0, TICK_EM, Weight::Regular);
        if lines.len() > 3 {
            let rest = lines.split_off(2).concat();
            lines.push(shorten(&rest, slot - 8.0, TICK_EM));
        }
        lines
    };
    categories.iter().map(wrapped).collect()
}

/// Draws all groups into `plot`.
pub(crate) fn draw_bars(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: &Axis,
    categories: &[String],
    series: &[Series],
    from_zero: bool,
    decimals: usize,
) {
    let slot = plot.width() / categories.len().max(1) as f64;
    let pitch = (slot * 0.8 / series.len().max(1) as f64).min(64.0);
    for (index, one) in series.iter().enumerate() {
        let look = series_look(index);
        let offset = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * pitch;
        for point in &one.points {
            let x = plot.left + (point.x + 0.5) * slot + offset;
            draw_mark(
                canvas, plot, axis, point, x, pitch, &look, from_zero, decimals,
            );
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one mark needs its place, scale and look"
)]
fn draw_mark(
    canvas: &mut Canvas<'_>,
    plot: &Rect,
    axis: &Axis,
    point: &Point,
    x: f64,
    pitch: f64,
    look: &Look,
    from_zero: bool,
    decimals: usize,
) {
    let Some(estimate) = point.estimate else {
        return draw_absent(canvas, plot, &point.absent, x, pitch);
    };
    let y = axis.y(estimate.value, plot);
    let half = pitch * 0.42;
    let ink = if from_zero { INK } else { look.color };
    if from_zero {
        let zero = axis.y(0.0, plot);
        canvas.bar(x - half, y.min(zero), x + half, y.max(zero), look);
    }
    let top = draw_interval(
        canvas,
        plot,
        axis,
        point.interval,
        x,
        Stroke {
            color: ink,
            width: 1.6,
            alpha: 1.0,
        },
    );
    if !from_zero {
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
    let text = fixed(estimate.value, decimals);
    let look = TextLook {
        em: TICK_EM - 0.5,
        weight: Weight::Semibold,
        color: INK,
        align: Align::Middle,
    };
    if text_width(&text, look.em, look.weight) <= pitch * 0.98 {
        canvas.text(&text, x, y.min(top).min(highest) - 7.0, look);
    }
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
