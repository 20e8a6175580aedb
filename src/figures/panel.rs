//! One panel: how much room it needs, and drawing it.

use crate::figures::axes::{Axis, Rect, linear_axis, measured_axis, settings_axis};
use crate::figures::bars::{BarLook, category_lines, draw_bars, draw_reference_key};
use crate::figures::batch::{BATCH_LABELS, batch_height, draw_batch};
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::figure::{Chart, Panel, Scale};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{paragraph, regular, wrap};
use crate::figures::lines::{draw_lines, draw_training, label_ends};
use crate::figures::lying::{Lying, draw_lying, lying};
use crate::figures::measure::{names_of, values_of};
use crate::figures::scaling::draw_scaling;
use crate::figures::theme::{
    AXIS, DISTINCT_LOOKS, GRID, INK, LABEL_EM, LEGEND_EM, NOTE_EM, SOFT_INK, TICK_EM,
};
use crate::metrics::Better;

/// Everything about a panel that is known before it is drawn.
pub(crate) struct Layout {
    title: Vec<String>,
    y_label: Vec<String>,
    y_axis: Axis,
    x_axis: Option<Axis>,
    categories: Vec<Vec<String>>,
    /// The bars lie down.
    lying: Option<Lying>,
    left: f64,
    right: f64,
    x_label: Vec<String>,
    note: Vec<String>,
    /// A line above the plot names the reference.
    keyed: bool,
    /// Height of the plot.
    height: f64,
    /// Names stand beside the lines.
    pub(crate) direct: bool,
}

/// Measures a panel of `width`; names stand beside the lines if the panel is `alone` in its row
/// and they fit. `height` is that of its plot, unless the chart needs its own.
pub(crate) fn lay_out(
    panel: &Panel,
    (low, high): (f64, f64),
    (width, height): (f64, f64),
    alone: bool,
) -> Layout {
    let batch = matches!(panel.chart, Chart::Batch { .. });
    let pinned = matches!(
        panel.chart,
        Chart::Bars {
            from_zero: true,
            ..
        }
    );
    let y_axis = linear_axis(low, high, pinned, 5);
    let ticks = y_axis
        .ticks
        .iter()
        .map(|t| text_width(&t.text, TICK_EM, Weight::Regular));
    let left = if batch {
        BATCH_LABELS
    } else {
        ticks.fold(0.0, f64::max) + 8.0
    };
    let names = names_of(panel);
    let widest = names
        .iter()
        .map(|n| text_width(n, LEGEND_EM, Weight::Regular))
        .fold(0.0, f64::max);
    let line = matches!(
        panel.chart,
        Chart::Lines { .. } | Chart::Training { .. } | Chart::Scaling { .. }
    );
    let direct =
        alone && line && names.len() > 1 && names.len() <= DISTINCT_LOOKS && widest < width * 0.3;
    let right = if direct { widest + 33.0 } else { 6.0 };
    let lying = lying(panel, width, width - left - right);
    let (left, right) = lying.as_ref().map_or((left, right), |l| (l.left, l.right));
    let plot_width = width - left - right;
    let (xs, _, _) = values_of(panel);
    let x_axis = match &panel.chart {
        Chart::Bars { .. } => None,
        Chart::Lines { scale, .. } => Some(settings_axis(&xs, *scale, 10)),
        Chart::Training { .. } => Some(step_axis(&xs, plot_width)),
        Chart::Scaling { scale, .. } => Some(measured_axis(&xs, *scale)),
        Chart::Batch { width, .. } => {
            let ends = [0.0, (*width).max(1) as f64];
            Some(step_axis(&ends, plot_width))
        }
    };
    let categories = match &panel.chart {
        Chart::Bars { categories, .. } if lying.is_none() => {
            category_lines(categories, plot_width / categories.len().max(1) as f64)
        }
        _ => Vec::new(),
    };
    let good = match panel.better {
        Better::Higher => " — higher is better",
        Better::Lower => " — lower is better",
        Better::Neither => "",
    };
    let rows = match &lying {
        Some(_) if !panel.x_label.is_empty() => format!("; rows: {}", panel.x_label),
        _ => String::new(),
    };
    let x_label = if lying.is_some() { "" } else { &panel.x_label };
    Layout {
        title: wrap(&panel.title, width, LEGEND_EM, Weight::Semibold),
        y_label: wrap(
            &format!("{}{good}{rows}", panel.y_label),
            width,
            LABEL_EM,
            Weight::Regular,
        ),
        y_axis,
        x_axis,
        categories,
        left,
        right,
        x_label: wrap(x_label, plot_width, LABEL_EM, Weight::Regular),
        note: panel
            .note
            .lines()
            .flat_map(|line| wrap(line, width, NOTE_EM, Weight::Regular))
            .collect(),
        keyed: matches!(
            panel.chart,
            Chart::Bars {
                reference: Some(_),
                ..
            }
        ),
        height: match (&panel.chart, &lying) {
            (Chart::Batch { rows, .. }, _) => batch_height(rows.len()),
            (_, Some(lying)) => lying.height,
            _ => height,
        },
        lying,
        direct,
    }
}

/// An axis over training steps that begins and ends with the data.
fn step_axis(xs: &[f64], width: f64) -> Axis {
    let (low, high) = xs
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| {
            (l.min(*x), h.max(*x))
        });
    if low >= high {
        return settings_axis(xs, Scale::Linear, 1);
    }
    let count = if width > 400.0 { 7 } else { 4 };
    let mut axis = linear_axis(low, high, false, count);
    (axis.low, axis.high) = (low, high);
    axis.ticks.retain(|t| (low..=high).contains(&t.value));
    axis
}

impl Layout {
    fn header(&self) -> f64 {
        self.title.len() as f64 * LEGEND_EM * 1.4
            + self.y_label.len() as f64 * LABEL_EM * 1.35
            + if self.keyed { LEGEND_EM * 1.5 } else { 0.0 }
            + 14.0
    }

    fn footer(&self) -> f64 {
        let tick_lines = self
            .categories
            .iter()
            .map(Vec::len)
            .max()
            .unwrap_or(1)
            .max(1);
        let mut height = 6.0 + tick_lines as f64 * TICK_EM * 1.3;
        height += self.x_label.len() as f64 * LABEL_EM * 1.4 + 4.0;
        height + self.note.len() as f64 * NOTE_EM * 1.4 + 12.0
    }
}

/// The top of each row of panels, then the bottom of the last.
pub(crate) fn row_tops(layouts: &[Layout], columns: usize, top: f64) -> Vec<f64> {
    let mut tops = vec![top];
    let mut y = top;
    for row in layouts.chunks(columns) {
        let height = row.iter().map(|l| l.height).fold(0.0, f64::max);
        let footer = row.iter().map(Layout::footer).fold(0.0, f64::max);
        y += header_of(row) + height + footer;
        tops.push(y);
    }
    tops
}

/// Room above the plots of a row of panels, the same for all, so that they stand in line.
pub(crate) fn header_of(row: &[Layout]) -> f64 {
    row.iter().map(Layout::header).fold(0.0, f64::max)
}

/// Draws a panel of `width` whose plot begins `header` below `origin`.
pub(crate) fn draw_panel(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    layout: &Layout,
    origin: (f64, f64),
    width: f64,
    header: f64,
) {
    let (left, mut y) = origin;
    for line in &layout.title {
        y += LEGEND_EM * 1.4;
        let look = TextLook {
            em: LEGEND_EM,
            weight: Weight::Semibold,
            color: INK,
            align: Align::Left,
        };
        canvas.text(line, left, y - LEGEND_EM * 0.4, look);
    }
    for line in &layout.y_label {
        y += LABEL_EM * 1.35;
        canvas.text(line, left, y - LABEL_EM * 0.35, regular(LABEL_EM, SOFT_INK));
    }
    if let Chart::Bars {
        reference: Some(reference),
        ..
    } = &panel.chart
    {
        y += LEGEND_EM * 1.5;
        draw_reference_key(canvas, reference, (left, y), width, panel.decimals);
    }
    let top = origin.1 + header;
    let plot = Rect {
        left: left + layout.left,
        top,
        right: left + width - layout.right,
        bottom: top + layout.height,
    };
    if !matches!(panel.chart, Chart::Batch { .. }) && layout.lying.is_none() {
        draw_y_axis(canvas, &layout.y_axis, &plot);
    }
    if let Some(axis) = &layout.x_axis {
        draw_x_ticks(canvas, axis, &plot);
    }
    draw_categories(canvas, &layout.categories, &plot);
    draw_chart(canvas, panel, layout, &plot);
    let tick_lines = layout
        .categories
        .iter()
        .map(Vec::len)
        .max()
        .unwrap_or(1)
        .max(1);
    let mut y = plot.bottom + 6.0 + tick_lines as f64 * TICK_EM * 1.3;
    for line in &layout.x_label {
        y += LABEL_EM * 1.4;
        let look = TextLook {
            align: Align::Middle,
            ..regular(LABEL_EM, SOFT_INK)
        };
        canvas.text(
            line,
            plot.left + plot.width() / 2.0,
            y - LABEL_EM * 0.2,
            look,
        );
    }
    paragraph(canvas, &layout.note, (left, y + 4.0), NOTE_EM);
}

fn draw_chart(canvas: &mut Canvas<'_>, panel: &Panel, layout: &Layout, plot: &Rect) {
    let names = names_of(panel);
    match (&panel.chart, &layout.x_axis) {
        (
            Chart::Bars {
                categories,
                from_zero,
                series,
                reference,
            },
            _,
        ) => {
            let look = BarLook {
                groups: categories.len(),
                from_zero: *from_zero,
                decimals: panel.decimals,
            };
            let (axis, reference) = (&layout.y_axis, reference.as_ref());
            if let Some(lying) = &layout.lying {
                draw_lying(canvas, (plot, axis), lying, (series, reference), look);
            } else {
                draw_bars(canvas, plot, axis, series, reference, look);
            }
        }
        (Chart::Lines { series, .. }, Some(x_axis)) => {
            let ends = draw_lines(
                canvas,
                plot,
                (x_axis, &layout.y_axis),
                series,
                panel.better,
                panel.decimals,
            );
            if layout.direct {
                let last = series
                    .iter()
                    .flat_map(|s| &s.points)
                    .map(|p| x_axis.x(p.x, plot))
                    .fold(plot.left, f64::max);
                label_ends(
                    canvas,
                    plot,
                    &names,
                    &ends,
                    last + 2.5 * series.len() as f64,
                );
            }
        }
        (Chart::Training { curves }, Some(x_axis)) => {
            let ends = draw_training(canvas, plot, (x_axis, &layout.y_axis), curves);
            if layout.direct {
                label_ends(canvas, plot, &names, &ends, plot.right);
            }
        }
        (Chart::Scaling { curves, .. }, Some(x_axis)) => {
            let ends = draw_scaling(canvas, plot, (x_axis, &layout.y_axis), curves);
            if layout.direct {
                let xs = curves.iter().flat_map(|c| &c.series.points);
                let last = xs.map(|p| x_axis.x(p.x, plot)).fold(plot.left, f64::max);
                label_ends(canvas, plot, &names, &ends, last);
            }
        }
        (Chart::Batch { rows, width }, _) => draw_batch(canvas, plot, rows, *width),
        (_, None) => {}
    }
}

fn draw_y_axis(canvas: &mut Canvas<'_>, axis: &Axis, plot: &Rect) {
    for tick in &axis.ticks {
        let y = axis.y(tick.value, plot);
        let zero = tick.value == 0.0;
        let color = if zero { AXIS } else { GRID };
        canvas.path(
            &[(plot.left, y), (plot.right, y)],
            Stroke {
                color,
                width: 1.0,
                alpha: 1.0,
            },
        );
        let look = TextLook {
            align: Align::Right,
            ..regular(TICK_EM, SOFT_INK)
        };
        canvas.text(&tick.text, plot.left - 7.0, y + TICK_EM * 0.36, look);
    }
}

/// Ticks along the bottom; a label that would touch the one before it is left out.
fn draw_x_ticks(canvas: &mut Canvas<'_>, axis: &Axis, plot: &Rect) {
    let line = Stroke {
        color: AXIS,
        width: 1.0,
        alpha: 1.0,
    };
    canvas.path(&[(plot.left, plot.bottom), (plot.right, plot.bottom)], line);
    let mut free_from = f64::NEG_INFINITY;
    for tick in &axis.ticks {
        let x = axis.x(tick.value, plot);
        canvas.path(&[(x, plot.bottom), (x, plot.bottom + 4.0)], line);
        let half = text_width(&tick.text, TICK_EM, Weight::Regular) / 2.0;
        if x - half < free_from {
            continue;
        }
        free_from = x + half + 6.0;
        let look = TextLook {
            align: Align::Middle,
            ..regular(TICK_EM, SOFT_INK)
        };
        canvas.text(&tick.text, x, plot.bottom + 6.0 + TICK_EM, look);
    }
}

fn draw_categories(canvas: &mut Canvas<'_>, categories: &[Vec<String>], plot: &Rect) {
    if categories.is_empty() {
        return;
    }
    let line = Stroke {
        color: AXIS,
        width: 1.0,
        alpha: 1.0,
    };
    canvas.path(&[(plot.left, plot.bottom), (plot.right, plot.bottom)], line);
    let slot = plot.width() / categories.len() as f64;
    for (index, lines) in categories.iter().enumerate() {
        let x = plot.left + (index as f64 + 0.5) * slot;
        for (k, text) in lines.iter().enumerate() {
            let look = TextLook {
                align: Align::Middle,
                ..regular(TICK_EM, INK)
            };
            canvas.text(
                text,
                x,
                plot.bottom + 6.0 + TICK_EM * (1.0 + 1.3 * k as f64),
                look,
            );
        }
    }
}
