//! Lays a figure out and draws it.

use crate::figures::canvas::{Align, Canvas, TextBox, TextLook, seal};
use crate::figures::figure::{Chart, Figure, FigureError, Panel};
use crate::figures::font::Weight;
use crate::figures::labels::{Swatch, flow, legend, paragraph, wrap};
use crate::figures::measure::{check_values, common_ranges, shared_names};
use crate::figures::panel::{Layout, draw_panel, header_of, lay_out, row_tops};
use crate::figures::theme::{
    GUTTER, INK, Look, MARGIN, NOTE_EM, PLOT_HEIGHT, SMALL_PLOT_HEIGHT, TITLE_EM, WIDTH,
    series_look,
};

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
        .map(|(p, r)| lay_out(p, *r, (panel_width, plot_height), columns == 1))
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
    let row_tops = row_tops(&layouts, columns, top + 6.0);
    let bottom = *row_tops.last().unwrap_or(&top);
    let notes = notes(figure, inner);
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
        let row = index / columns;
        let origin = (left, row_tops[row]);
        let end = layouts.len().min((row + 1) * columns);
        let header = header_of(&layouts[row * columns..end]);
        draw_panel(&mut canvas, panel, layout, origin, panel_width, header);
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

/// Everything that stands below the panels, in lines of `width`.
fn notes(figure: &Figure, width: f64) -> Vec<String> {
    let missing = figure
        .missing
        .iter()
        .map(|entry| format!("Missing: {entry}"));
    std::iter::once(figure.note.clone())
        .chain(figure.findings.iter().cloned())
        .chain(missing)
        .flat_map(|text| wrap(&text, width, NOTE_EM, Weight::Regular))
        .collect()
}

/// What a reader who cannot see the figure should know.
fn describe(figure: &Figure) -> String {
    let mut text = format!("{} {}", figure.caption, figure.note);
    for finding in &figure.findings {
        text += &format!(" {finding}");
    }
    if !figure.missing.is_empty() {
        text += &format!(" Missing: {}.", figure.missing.join("; "));
    }
    if !figure.runs.is_empty() {
        text += &format!(" Runs: {}.", figure.runs.join(" "));
    }
    text.trim().to_owned()
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
        Chart::Scaling { .. } => Swatch::Fit,
        Chart::Batch { .. } => Swatch::Part,
    }
}
