//! Lays a figure out and draws it.

use crate::figures::axes::{Axis, Rect, linear_axis, settings_axis};
use crate::figures::bars::{category_lines, draw_bars};
use crate::figures::canvas::{Align, Canvas, Stroke, TextBox, TextLook, seal};
use crate::figures::figure::{Chart, Figure, FigureError, Panel, Point, Scale, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{Swatch, flow, legend, paragraph, regular, wrap};
use crate::figures::lines::{draw_lines, draw_training, label_ends};
use crate::figures::theme::{
    AXIS, DISTINCT_LOOKS, GRID, GUTTER, INK, LABEL_EM, LEGEND_EM, Look, MARGIN, NOTE_EM,
    PLOT_HEIGHT, SMALL_PLOT_HEIGHT, SOFT_INK, TICK_EM, TITLE_EM, WIDTH, series_look,
};
use crate::metrics::Better;

/// A drawn figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The SVG document.
    pub svg: String,
    /// Size in pixels.
    pub size: (f64, f64),
    /// Where every text stands, as measured with the embedded font.
    pub texts: Vec<TextBox>,
}

/// Everything about a panel that is known before it is drawn.
struct Layout {
    title: Vec<String>,
    y_label: Vec<String>,
    y_axis: Axis,
    x_axis: Option<Axis>,
    categories: Vec<Vec<String>>,
    left: f64,
    right: f64,
    x_label: Vec<String>,
    note: Vec<String>,
    direct: bool,
}

/// Draws `figure`: the same figure gives the same bytes.
///
/// # Errors
/// A number is not finite (or not positive on a logarithmic axis), there is no panel, or the
/// drawing library refused.
pub fn draw(figure: &Figure) -> Result<Drawing, FigureError> {
    if figure.panels.is_empty() {
        return Err(FigureError::Empty {
            figure: figure.name.clone(),
        });
    }
    check_values(figure)?;
    let inner = WIDTH - 2.0 * MARGIN;
    let columns = figure.columns.clamp(1, figure.panels.len());
    let panel_width = (inner - GUTTER * (columns as f64 - 1.0)) / columns as f64;
    let plot_height = if figure.panels.len() > 1 {
        SMALL_PLOT_HEIGHT
    } else {
        PLOT_HEIGHT
    };
    let names = shared_names(figure);
    let ranges = common_ranges(&figure.panels);
    let panels = || figure.panels.iter().zip(&ranges);
    let layouts: Vec<Layout> = panels()
        .map(|(p, r)| lay_out(p, *r, panel_width, columns == 1))
        .collect();
    let direct = layouts.iter().all(|l| l.direct);
    let entries = if direct || names.len() < 2 {
        Vec::new()
    } else {
        names
    };

    let title = wrap(&figure.title, inner, TITLE_EM, Weight::Semibold);
    let (_, legend_height) = flow(&entries, inner);
    let mut top = MARGIN + title.len() as f64 * TITLE_EM * 1.3;
    if legend_height > 0.0 {
        top += 4.0 + legend_height + if figure.panels.len() > 1 { 6.0 } else { 0.0 };
    }
    let row_tops = row_tops(&layouts, columns, top + 6.0, plot_height);
    let bottom = *row_tops.last().unwrap_or(&top);
    let mut notes = wrap(&figure.note, inner, NOTE_EM, Weight::Regular);
    for entry in &figure.missing {
        notes.extend(wrap(
            &format!("Missing: {entry}"),
            inner,
            NOTE_EM,
            Weight::Regular,
        ));
    }
    let height = (bottom + notes.len() as f64 * NOTE_EM * 1.4 + MARGIN * 0.8).ceil();

    let mut raw = String::new();
    let mut canvas = Canvas::new(&mut raw, WIDTH, height);
    let mut y = MARGIN;
    for line in &title {
        y += TITLE_EM * 1.3;
        let look = TextLook {
            em: TITLE_EM,
            weight: Weight::Semibold,
            color: INK,
            align: Align::Left,
        };
        canvas.text(line, MARGIN, y - TITLE_EM * 0.4, look);
    }
    let looks: Vec<Look> = (0..entries.len()).map(series_look).collect();
    legend(
        &mut canvas,
        &entries,
        &looks,
        swatch(&figure.panels[0]),
        (MARGIN, y + 4.0),
        inner,
    );
    for (index, (panel, layout)) in figure.panels.iter().zip(&layouts).enumerate() {
        let left = MARGIN + (index % columns) as f64 * (panel_width + GUTTER);
        let origin = (left, row_tops[index / columns]);
        draw_panel(&mut canvas, panel, layout, origin, panel_width, plot_height);
    }
    paragraph(&mut canvas, &notes, (MARGIN, bottom), NOTE_EM);
    let texts = canvas.finish().map_err(|message| FigureError::Draw {
        figure: figure.name.clone(),
        message,
    })?;
    let description = describe(figure);
    let svg = seal(
        &raw,
        WIDTH,
        height,
        &figure.title,
        &description,
        &figure.runs,
    );
    Ok(Drawing {
        svg,
        size: (WIDTH, height),
        texts,
    })
}

/// What a reader who cannot see the figure should know.
fn describe(figure: &Figure) -> String {
    let mut text = format!("{} {}", figure.caption, figure.note);
    if !figure.missing.is_empty() {
        text += &format!(" Missing: {}.", figure.missing.join("; "));
    }
    if !figure.runs.is_empty() {
        text += &format!(" Runs: {}.", figure.runs.join(" "));
    }
    text.trim().to_owned()
}

/// Every number must be finite, and positive on a logarithmic axis.
fn check_values(figure: &Figure) -> Result<(), FigureError> {
    let fault = |axis, value| {
        Err(FigureError::Value {
            figure: figure.name.clone(),
            axis,
            value,
        })
    };
    for panel in &figure.panels {
        let (xs, ys, log) = values_of(panel);
        if let Some(x) = xs
            .into_iter()
            .find(|x| !x.is_finite() || (log && *x <= 0.0))
        {
            return fault("x", x);
        }
        if let Some(y) = ys.into_iter().find(|y| !y.is_finite()) {
            return fault("y", y);
        }
    }
    Ok(())
}

/// All x and y values of a panel, and whether x is logarithmic.
fn values_of(panel: &Panel) -> (Vec<f64>, Vec<f64>, bool) {
    let points = |series: &[Series]| -> (Vec<f64>, Vec<f64>) {
        let all = || series.iter().flat_map(|s| &s.points);
        let ys = |p: &Point| {
            let mean = p.estimate.map(|e| e.value);
            let ends = p.interval.map(|i| [i.low, i.high]).into_iter().flatten();
            let seeds = p.seeds.iter().map(|s| s.value);
            mean.into_iter()
                .chain(ends)
                .chain(seeds)
                .collect::<Vec<_>>()
        };
        (all().map(|p| p.x).collect(), all().flat_map(ys).collect())
    };
    match &panel.chart {
        Chart::Bars { series, .. } => {
            let (x, y) = points(series);
            (x, y, false)
        }
        Chart::Lines { series, scale } => {
            let (x, y) = points(series);
            (x, y, *scale == Scale::Log)
        }
        Chart::Training { curves } => {
            let all = || curves.iter().flat_map(|c| &c.seeds).flat_map(|s| &s.points);
            (
                all().map(|p| p.0).collect(),
                all().map(|p| p.1).collect(),
                false,
            )
        }
    }
}

/// The range of y that is shown: means and seeds always, intervals unless they dwarf the rest.
fn shown_range(panel: &Panel) -> (f64, f64) {
    let ends = |values: Vec<f64>| {
        values
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                (l.min(v), h.max(v))
            })
    };
    let (low, high) = ends(values_of(panel).1);
    if low > high {
        return (0.0, 1.0);
    }
    let (Chart::Bars { series, .. } | Chart::Lines { series, .. }) = &panel.chart else {
        return (low, high);
    };
    let points = series.iter().flat_map(|s| &s.points);
    let marks = points.flat_map(|p| {
        p.estimate
            .map(|e| e.value)
            .into_iter()
            .chain(p.seeds.iter().map(|s| s.value))
    });
    let (inner_low, inner_high) = ends(marks.collect());
    let span = inner_high - inner_low;
    if span <= 0.0 || high - low <= 6.0 * span {
        return (low, high);
    }
    (
        low.max(inner_low - 2.5 * span),
        high.min(inner_high + 2.5 * span),
    )
}

/// The range of y of each panel: panels with the same y label share one, so that they compare.
fn common_ranges(panels: &[Panel]) -> Vec<(f64, f64)> {
    let own: Vec<(f64, f64)> = panels.iter().map(shown_range).collect();
    let joined = |panel: &Panel| {
        let alike = panels
            .iter()
            .zip(&own)
            .filter(|(p, _)| p.y_label == panel.y_label);
        alike.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, r)| {
            (l.min(r.0), h.max(r.1))
        })
    };
    panels.iter().map(joined).collect()
}

/// The names of a figure's series, of the panel that has most; empty names are left out.
fn shared_names(figure: &Figure) -> Vec<String> {
    let longest = figure.panels.iter().map(names_of).max_by_key(Vec::len);
    longest
        .unwrap_or_default()
        .into_iter()
        .filter(|n| !n.is_empty())
        .collect()
}

fn names_of(panel: &Panel) -> Vec<String> {
    match &panel.chart {
        Chart::Bars { series, .. } | Chart::Lines { series, .. } => {
            series.iter().map(|s| s.name.clone()).collect()
        }
        Chart::Training { curves } => curves.iter().map(|c| c.name.clone()).collect(),
    }
}

fn swatch(panel: &Panel) -> Swatch {
    match &panel.chart {
        Chart::Bars {
            from_zero: true, ..
        } => Swatch::Bar,
        Chart::Bars {
            from_zero: false, ..
        } => Swatch::Point,
        Chart::Lines { .. } | Chart::Training { .. } => Swatch::Line,
    }
}

/// Measures a panel of `width`; names stand beside the lines if the panel is `alone` in its row
/// and they fit.
fn lay_out(panel: &Panel, (low, high): (f64, f64), width: f64, alone: bool) -> Layout {
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
    let left = ticks.fold(0.0, f64::max) + 8.0;
    let names = names_of(panel);
    let widest = names
        .iter()
        .map(|n| text_width(n, LEGEND_EM, Weight::Regular))
        .fold(0.0, f64::max);
    let line = matches!(panel.chart, Chart::Lines { .. } | Chart::Training { .. });
    let direct =
        alone && line && names.len() > 1 && names.len() <= DISTINCT_LOOKS && widest < width * 0.3;
    let right = if direct { widest + 33.0 } else { 6.0 };
    let plot_width = width - left - right;
    let (xs, _, _) = values_of(panel);
    let x_axis = match &panel.chart {
        Chart::Bars { .. } => None,
        Chart::Lines { scale, .. } => Some(settings_axis(&xs, *scale, 10)),
        Chart::Training { .. } => Some(step_axis(&xs, plot_width)),
    };
    let categories = match &panel.chart {
        Chart::Bars { categories, .. } => {
            category_lines(categories, plot_width / categories.len().max(1) as f64)
        }
        _ => Vec::new(),
    };
    let good = match panel.better {
        Better::Higher => " — higher is better",
        Better::Lower => " — lower is better",
        Better::Neither => "",
    };
    Layout {
        title: wrap(&panel.title, width, LEGEND_EM, Weight::Semibold),
        y_label: wrap(
            &format!("{}{good}", panel.y_label),
            width,
            LABEL_EM,
            Weight::Regular,
        ),
        y_axis,
        x_axis,
        categories,
        left,
        right,
        x_label: wrap(&panel.x_label, plot_width, LABEL_EM, Weight::Regular),
        note: wrap(&panel.note, width, NOTE_EM, Weight::Regular),
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
fn row_tops(layouts: &[Layout], columns: usize, top: f64, plot_height: f64) -> Vec<f64> {
    let mut tops = vec![top];
    let mut y = top;
    for row in layouts.chunks(columns) {
        let header = row.iter().map(Layout::header).fold(0.0, f64::max);
        let footer = row.iter().map(Layout::footer).fold(0.0, f64::max);
        y += header + plot_height + footer;
        tops.push(y);
    }
    tops
}

fn draw_panel(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    layout: &Layout,
    origin: (f64, f64),
    width: f64,
    plot_height: f64,
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
    let top = origin.1 + layout.header();
    let plot = Rect {
        left: left + layout.left,
        top,
        right: left + width - layout.right,
        bottom: top + plot_height,
    };
    draw_y_axis(canvas, &layout.y_axis, &plot);
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
            },
            _,
        ) => {
            draw_bars(
                canvas,
                plot,
                &layout.y_axis,
                categories,
                series,
                *from_zero,
                panel.decimals,
            );
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
        (Chart::Lines { .. } | Chart::Training { .. }, None) => {}
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
