//! One panel: how much room it needs, and drawing it.

use crate::figures::axes::{Axis, Rect, Tick, linear_axis};
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::chart::{Arrangement, Coordinates, Frame, Room};
use crate::figures::data::Level;
use crate::figures::figure::Panel;
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{paragraph, regular, wrap};
use crate::figures::marks::draw_reference_key;
use crate::figures::theme::{
    AXIS, DISTINCT_LOOKS, GRID, INK, LABEL_EM, LEGEND_EM, NOTE_EM, ROW_LINE, SOFT_INK, TICK_EM,
};
use crate::metrics::{Better, fixed};

/// About so many ticks of values: more would crowd the small panels.
const VALUE_TICKS: usize = 5;
/// Share of a panel's width that names beside lines may take; wider ones go into a legend.
const NAMES_BESIDE: f64 = 0.3;
/// Lead and marker between the end of a line and its name, pixels.
const LEAD: f64 = 33.0;
/// Height of the line that names a reference, in em of a legend.
const KEY_LINE: f64 = 1.5;
/// On and off lengths of the line of a known value, pixels.
const LEVEL_DASH: &[f64] = &[1.5, 3.0];

/// Everything about a panel that is known before it is drawn.
pub(crate) struct PanelLayout {
    title: Vec<String>,
    y_label: Vec<String>,
    /// What is said of known values.
    levels: Vec<String>,
    x_label: Vec<String>,
    note: Vec<String>,
    y_axis: Axis,
    plot: Arrangement,
    /// A line above the plot names the reference.
    keyed: bool,
    /// Names stand beside the ends of lines.
    pub(crate) names_at_ends: bool,
}

/// Measures a panel of `width`, which says what its values are if it is `labelled`; names stand `beside` the lines if
/// they may and fit. `height` is that of its plot, unless the chart needs its own.
pub(crate) fn lay_out(
    panel: &Panel,
    (low, high): (f64, f64),
    (width, height): (f64, f64),
    (labelled, beside): (bool, bool),
) -> PanelLayout {
    let y_axis = linear_axis(low, high, panel.chart.starts_at_zero(), VALUE_TICKS);
    let names = panel.chart.names();
    let widest = widest(&names, LEGEND_EM);
    let names_at_ends = beside
        && panel.chart.ends_in_lines()
        && (2..=DISTINCT_LOOKS).contains(&names.len())
        && widest < width * NAMES_BESIDE;
    let plot = panel.chart.arrange(&Room {
        width,
        height,
        left: self::widest(y_axis.ticks.iter().map(|t| &t.text), TICK_EM) + 8.0,
        right: if names_at_ends { widest + LEAD } else { 6.0 },
        decimals: panel.decimals,
    });
    let in_rows = matches!(plot.coordinates, Coordinates::Rows(_));
    let mut y_label = rows_label(panel, in_rows);
    if labelled {
        y_label = value_label(panel) + &y_label;
    }
    let levels = level_words(panel, &y_axis);
    let plot_width = width - plot.left - plot.right;
    let x_label = if in_rows { "" } else { &panel.x_label };
    let note = panel.note.lines();
    PanelLayout {
        title: wrap(&panel.title, width, LEGEND_EM, Weight::Semibold),
        y_label: wrap(
            y_label.trim_start_matches("; "),
            width,
            LABEL_EM,
            Weight::Regular,
        ),
        levels: wrap(&levels, width, LABEL_EM, Weight::Regular),
        x_label: wrap(x_label, plot_width, LABEL_EM, Weight::Regular),
        note: note
            .flat_map(|line| wrap(line, width, NOTE_EM, Weight::Regular))
            .collect(),
        y_axis,
        plot,
        keyed: panel.chart.reference().is_some(),
        names_at_ends,
    }
}

/// Width of the widest text, pixels.
fn widest<'a>(texts: impl IntoIterator<Item = &'a String>, em: f64) -> f64 {
    let widths = texts.into_iter();
    let widths = widths.map(|text| text_width(text, em, Weight::Regular));
    widths.fold(0.0, f64::max)
}

/// What the values are and which way they are better.
pub(crate) fn value_label(panel: &Panel) -> String {
    let good = match panel.better {
        Better::Higher => " — higher is better",
        Better::Lower => " — lower is better",
        Better::Neither => "",
    };
    format!("{}{good}", panel.y_label)
}

/// What the rows are, if there are any.
fn rows_label(panel: &Panel, in_rows: bool) -> String {
    if in_rows && !panel.x_label.is_empty() {
        format!("; rows: {}", panel.x_label)
    } else {
        String::new()
    }
}

/// Which known values are drawn, and which lie outside.
fn level_words(panel: &Panel, axis: &Axis) -> String {
    let inside = |value: f64| (axis.low..=axis.high).contains(&value);
    let text = |level: &Level| format!("{} {}", level.name, fixed(level.value, panel.decimals));
    let part = |lead: &str, shown: bool| {
        let these = panel.levels.iter().filter(|l| inside(l.value) == shown);
        let these: Vec<String> = these.map(text).collect();
        (!these.is_empty()).then(|| format!("{lead}: {}", these.join(", ")))
    };
    let parts = [part("Dotted", true), part("Outside the plot", false)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(". ")
}

impl PanelLayout {
    /// Room above the plot.
    fn header(&self) -> f64 {
        self.title.len() as f64 * LEGEND_EM * 1.4
            + (self.y_label.len() + self.levels.len()) as f64 * LABEL_EM * 1.35
            + if self.keyed {
                LEGEND_EM * KEY_LINE
            } else {
                0.0
            }
            + 14.0
    }

    /// Room for tick labels.
    fn ticks(&self) -> f64 {
        6.0 + self.plot.coordinates.tick_lines() as f64 * TICK_EM * 1.3
    }

    /// Room below the plot.
    fn footer(&self) -> f64 {
        let mut height = self.ticks();
        height += self.x_label.len() as f64 * LABEL_EM * 1.4 + 4.0;
        height + self.note.len() as f64 * NOTE_EM * 1.4 + 12.0
    }
}

/// The top of each row of panels, then the bottom of the last.
pub(crate) fn row_tops(layouts: &[PanelLayout], columns: usize, top: f64) -> Vec<f64> {
    let mut tops = vec![top];
    let mut y = top;
    for row in layouts.chunks(columns) {
        let height = row.iter().map(|l| l.plot.height).fold(0.0, f64::max);
        let footer = row.iter().map(PanelLayout::footer).fold(0.0, f64::max);
        y += header_of(row) + height + footer;
        tops.push(y);
    }
    tops
}

/// Room above the plots of a row of panels, the same for all, so that they stand in line.
pub(crate) fn header_of(row: &[PanelLayout]) -> f64 {
    row.iter().map(PanelLayout::header).fold(0.0, f64::max)
}

/// Draws a panel of `width` whose plot begins `header` below `origin`.
pub(crate) fn draw_panel(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    layout: &PanelLayout,
    origin: (f64, f64),
    width: f64,
    header: f64,
) {
    draw_header(canvas, panel, layout, origin, width);
    let (left, top) = (origin.0, origin.1 + header);
    let plot = Rect {
        left: left + layout.plot.left,
        top,
        right: left + width - layout.plot.right,
        bottom: top + layout.plot.height,
    };
    draw_coordinates(canvas, layout, &plot);
    draw_levels(canvas, panel, layout, &plot);
    let frame = Frame {
        width,
        plot: &plot,
        axis: &layout.y_axis,
        coordinates: &layout.plot.coordinates,
        names_at_ends: layout.names_at_ends,
        better: panel.better,
        decimals: panel.decimals,
    };
    panel.chart.draw(canvas, &frame);
    let mut y = plot.bottom + layout.ticks();
    let middle = TextLook {
        align: Align::Middle,
        ..regular(LABEL_EM, SOFT_INK)
    };
    for line in &layout.x_label {
        y += LABEL_EM * 1.4;
        let x = plot.left + plot.width() / 2.0;
        canvas.text(line, x, y - LABEL_EM * 0.2, middle);
    }
    paragraph(canvas, &layout.note, (left, y + 4.0), NOTE_EM);
}

/// Title, label of the values, and what the reference is.
fn draw_header(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    layout: &PanelLayout,
    (left, top): (f64, f64),
    width: f64,
) {
    let mut y = top;
    for line in &layout.title {
        y += LEGEND_EM * 1.4;
        let look = TextLook {
            weight: Weight::Semibold,
            ..regular(LEGEND_EM, INK)
        };
        canvas.text(line, left, y - LEGEND_EM * 0.4, look);
    }
    for line in layout.y_label.iter().chain(&layout.levels) {
        y += LABEL_EM * 1.35;
        canvas.text(line, left, y - LABEL_EM * 0.35, regular(LABEL_EM, SOFT_INK));
    }
    if let Some(reference) = panel.chart.reference() {
        y += LEGEND_EM * KEY_LINE;
        draw_reference_key(canvas, reference, (left, y), width, panel.decimals);
    }
}

fn draw_coordinates(canvas: &mut Canvas<'_>, layout: &PanelLayout, plot: &Rect) {
    match &layout.plot.coordinates {
        Coordinates::Numbers(x_axis) => {
            draw_y_axis(canvas, &layout.y_axis, plot);
            draw_x_ticks(canvas, x_axis, plot);
        }
        Coordinates::Columns(names) => {
            draw_y_axis(canvas, &layout.y_axis, plot);
            draw_columns(canvas, names, plot);
        }
        Coordinates::Rows(names) => {
            draw_value_grid(canvas, &layout.y_axis, plot);
            draw_rows(canvas, names, plot);
        }
        Coordinates::Positions(x_axis) => draw_x_ticks(canvas, x_axis, plot),
    }
}

/// Lines at the known values that lie in the plot.
fn draw_levels(canvas: &mut Canvas<'_>, panel: &Panel, layout: &PanelLayout, plot: &Rect) {
    let axis = &layout.y_axis;
    let stroke = Stroke {
        color: SOFT_INK,
        width: 1.3,
        alpha: 1.0,
    };
    for value in panel.levels.iter().map(|level| level.value) {
        if !(axis.low..=axis.high).contains(&value) {
            continue;
        }
        let line = match layout.plot.coordinates {
            Coordinates::Numbers(_) | Coordinates::Columns(_) => {
                let y = axis.y(value, plot);
                [(plot.left, y), (plot.right, y)]
            }
            Coordinates::Rows(_) => {
                let x = axis.x(value, plot);
                [(x, plot.top), (x, plot.bottom)]
            }
            Coordinates::Positions(_) => continue,
        };
        canvas.dashed(&line, LEVEL_DASH, stroke);
    }
}

const AXIS_LINE: Stroke = Stroke {
    color: AXIS,
    width: 1.0,
    alpha: 1.0,
};

/// Zero, where bars begin, is as dark as an axis.
fn grid_line(value: f64) -> Stroke {
    Stroke {
        color: if value == 0.0 { AXIS } else { GRID },
        ..AXIS_LINE
    }
}

fn draw_y_axis(canvas: &mut Canvas<'_>, axis: &Axis, plot: &Rect) {
    for tick in &axis.ticks {
        let y = axis.y(tick.value, plot);
        canvas.path(&[(plot.left, y), (plot.right, y)], grid_line(tick.value));
        let look = TextLook {
            align: Align::Right,
            ..regular(TICK_EM, SOFT_INK)
        };
        canvas.text(&tick.text, plot.left - 7.0, y + TICK_EM * 0.36, look);
    }
}

/// Values along the bottom with their grid; a label that would touch the one before it is left out.
fn draw_value_grid(canvas: &mut Canvas<'_>, axis: &Axis, plot: &Rect) {
    let mut free_from = f64::NEG_INFINITY;
    for tick in &axis.ticks {
        let x = axis.x(tick.value, plot);
        canvas.path(&[(x, plot.top), (x, plot.bottom)], grid_line(tick.value));
        draw_tick_label(canvas, tick, (x, plot.bottom), &mut free_from);
    }
}

/// Writes what a tick below the plot says, if it does not touch the one before it, which ends at `free_from`.
fn draw_tick_label(
    canvas: &mut Canvas<'_>,
    tick: &Tick,
    (x, bottom): (f64, f64),
    free_from: &mut f64,
) {
    let half = text_width(&tick.text, TICK_EM, Weight::Regular) / 2.0;
    if x - half < *free_from {
        return;
    }
    *free_from = x + half + 6.0;
    let look = TextLook {
        align: Align::Middle,
        ..regular(TICK_EM, SOFT_INK)
    };
    canvas.text(&tick.text, x, bottom + 6.0 + TICK_EM, look);
}

/// Ticks along the bottom; a label that would touch the one before it is left out.
fn draw_x_ticks(canvas: &mut Canvas<'_>, axis: &Axis, plot: &Rect) {
    let bottom = [(plot.left, plot.bottom), (plot.right, plot.bottom)];
    canvas.path(&bottom, AXIS_LINE);
    let mut free_from = f64::NEG_INFINITY;
    for tick in &axis.ticks {
        let x = axis.x(tick.value, plot);
        canvas.path(&[(x, plot.bottom), (x, plot.bottom + 4.0)], AXIS_LINE);
        draw_tick_label(canvas, tick, (x, plot.bottom), &mut free_from);
    }
}

/// The names of columns below their slots.
fn draw_columns(canvas: &mut Canvas<'_>, names: &[Vec<String>], plot: &Rect) {
    if names.is_empty() {
        return;
    }
    let bottom = [(plot.left, plot.bottom), (plot.right, plot.bottom)];
    canvas.path(&bottom, AXIS_LINE);
    let slot = plot.width() / names.len() as f64;
    for (index, lines) in names.iter().enumerate() {
        let x = plot.left + (index as f64 + 0.5) * slot;
        for (k, text) in lines.iter().enumerate() {
            let look = TextLook {
                align: Align::Middle,
                ..regular(TICK_EM, INK)
            };
            let y = plot.bottom + 6.0 + TICK_EM * (1.0 + 1.3 * k as f64);
            canvas.text(text, x, y, look);
        }
    }
}

/// The names of rows before them.
fn draw_rows(canvas: &mut Canvas<'_>, names: &[Vec<String>], plot: &Rect) {
    let row = plot.height() / names.len().max(1) as f64;
    for (index, lines) in names.iter().enumerate() {
        let middle = plot.top + (index as f64 + 0.5) * row + TICK_EM * 0.36;
        let first = middle - (lines.len() as f64 - 1.0) / 2.0 * ROW_LINE;
        let right = TextLook {
            align: Align::Right,
            ..regular(TICK_EM, INK)
        };
        for (k, line) in lines.iter().enumerate() {
            canvas.text(line, plot.left - 8.0, first + k as f64 * ROW_LINE, right);
        }
    }
}
