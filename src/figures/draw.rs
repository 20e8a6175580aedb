//! Lays a figure out and draws it.

use crate::figures::canvas::{Canvas, TextBox, TextLook, seal};
use crate::figures::figure::{Figure, FigureError};
use crate::figures::font::Weight;
use crate::figures::labels::{flow, legend, paragraph, regular, wrap};
use crate::figures::measure::{check_values, common_ranges, shared_names};
use crate::figures::panel::{PanelLayout, draw_panel, header_of, lay_out, row_tops};
use crate::figures::theme::{
    GUTTER, INK, MARGIN, NOTE_EM, PLOT_HEIGHT, SMALL_PLOT_HEIGHT, TITLE_EM, WIDTH,
};

/// Height of a line of the title, in em.
const TITLE_LINE: f64 = 1.3;

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
    let page = Page::of(figure);
    let mut raw = String::new();
    let mut canvas = Canvas::new(&mut raw, WIDTH, page.height);
    page.draw(&mut canvas, figure);
    let texts = canvas.finish().map_err(|message| FigureError::Draw {
        figure: figure.name.clone(),
        message,
    })?;
    let (title, description) = (&figure.title, describe(figure));
    Ok(Drawing {
        svg: seal(&raw, WIDTH, page.height, title, &description, &figure.runs),
        size: (WIDTH, page.height),
        texts,
    })
}

/// Where everything of a figure stands.
struct Page {
    title: Vec<String>,
    /// Names of the legend; none if names stand beside their lines.
    legend: Vec<String>,
    /// Panels in a row.
    columns: usize,
    panel_width: f64,
    layouts: Vec<PanelLayout>,
    /// The top of each row of panels, then the bottom of the last.
    row_tops: Vec<f64>,
    notes: Vec<String>,
    height: f64,
}

impl Page {
    fn of(figure: &Figure) -> Self {
        let inner = WIDTH - 2.0 * MARGIN;
        let count = figure.panels.len();
        let columns = figure.columns.clamp(1, count);
        let panel_width = (inner - GUTTER * (columns as f64 - 1.0)) / columns as f64;
        let layouts = lay_out_panels(figure, panel_width, columns);
        let names = shared_names(figure);
        let legend = if names.len() < 2 || layouts.iter().all(|l| l.names_at_ends) {
            Vec::new()
        } else {
            names
        };
        let title = wrap(&figure.title, inner, TITLE_EM, Weight::Semibold);
        let (_, legend_height) = flow(&legend, inner);
        let mut top = MARGIN + title.len() as f64 * TITLE_EM * TITLE_LINE;
        if legend_height > 0.0 {
            top += 4.0 + legend_height + if count > 1 { 6.0 } else { 0.0 };
        }
        let row_tops = row_tops(&layouts, columns, top + 6.0);
        let bottom = *row_tops.last().unwrap_or(&top);
        let notes = notes(figure, inner);
        let height = (bottom + notes.len() as f64 * NOTE_EM * 1.4 + MARGIN * 0.8).ceil();
        Self {
            title,
            legend,
            columns,
            panel_width,
            layouts,
            row_tops,
            notes,
            height,
        }
    }

    fn draw(&self, canvas: &mut Canvas<'_>, figure: &Figure) {
        let mut y = MARGIN;
        let look = TextLook {
            weight: Weight::Semibold,
            ..regular(TITLE_EM, INK)
        };
        for line in &self.title {
            y += TITLE_EM * TITLE_LINE;
            canvas.text(line, MARGIN, y - TITLE_EM * 0.4, look);
        }
        // All panels of a figure are of one kind.
        let chart = &figure.panels[0].chart;
        let (origin, inner) = ((MARGIN, y + 4.0), WIDTH - 2.0 * MARGIN);
        legend(
            canvas,
            &self.legend,
            origin,
            inner,
            |canvas, index, x, y| {
                chart.draw_swatch(canvas, index, x, y);
            },
        );
        for (index, (panel, layout)) in figure.panels.iter().zip(&self.layouts).enumerate() {
            let row = index / self.columns;
            let column = (index % self.columns) as f64;
            let left = MARGIN + column * (self.panel_width + GUTTER);
            let end = self.layouts.len().min((row + 1) * self.columns);
            let header = header_of(&self.layouts[row * self.columns..end]);
            let origin = (left, self.row_tops[row]);
            draw_panel(canvas, panel, layout, origin, self.panel_width, header);
        }
        let bottom = self.row_tops.last().copied().unwrap_or_default();
        paragraph(canvas, &self.notes, (MARGIN, bottom), NOTE_EM);
    }
}

fn lay_out_panels(figure: &Figure, width: f64, columns: usize) -> Vec<PanelLayout> {
    let height = if figure.panels.len() > 1 {
        SMALL_PLOT_HEIGHT
    } else {
        PLOT_HEIGHT
    };
    let ranges = common_ranges(&figure.panels);
    let panels = figure.panels.iter().zip(ranges);
    panels
        .map(|(panel, range)| lay_out(panel, range, (width, height), columns == 1))
        .collect()
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
