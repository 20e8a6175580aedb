//! Lays a figure out and draws it.

use crate::figures::canvas::{Canvas, TextBox, TextLook, seal};
use crate::figures::figure::{Figure, FigureError};
use crate::figures::font::Weight;
use crate::figures::labels::{flow, legend, paragraph, regular, wrap};
use crate::figures::measure::{check_values, common_ranges, named_panel, shared_names};
use crate::figures::panel::{PanelLayout, draw_panel, header_of, lay_out, row_tops, value_label};
use crate::figures::theme::{
    GUTTER, INK, LABEL_EM, MARGIN, NARROW_MARGIN, NARROW_WIDTH, NOTE_EM, PLOT_HEIGHT,
    SMALL_PLOT_HEIGHT, SOFT_INK, TITLE_EM, WIDTH,
};

/// Height of a line of the title, in em.
const TITLE_LINE: f64 = 1.3;
/// Height of a line that says what the values are, in em.
const LABEL_LINE: f64 = 1.35;

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
    draw_on(figure, WIDTH, MARGIN)
}

/// As [`draw`], for the screen of a telephone: as wide as that, with panels below each other.
///
/// # Errors
/// As [`draw`].
pub fn draw_narrow(figure: &Figure) -> Result<Drawing, FigureError> {
    draw_on(figure, NARROW_WIDTH, NARROW_MARGIN)
}

fn draw_on(figure: &Figure, width: f64, margin: f64) -> Result<Drawing, FigureError> {
    if figure.panels.is_empty() {
        return Err(FigureError::Empty {
            figure: figure.name.clone(),
        });
    }
    check_values(figure)?;
    let page = Page::of(figure, width, margin);
    let mut raw = String::new();
    let mut canvas = Canvas::new(&mut raw, width, page.height);
    page.draw(&mut canvas, figure);
    let texts = canvas.finish().map_err(|message| FigureError::Draw {
        figure: figure.name.clone(),
        message,
    })?;
    let (title, description) = (&figure.title, describe(figure));
    Ok(Drawing {
        svg: seal(&raw, width, page.height, title, &description, &figure.runs),
        size: (width, page.height),
        texts,
    })
}

/// Where everything of a figure stands.
struct Page {
    /// Width of everything, without the margins.
    inner: f64,
    margin: f64,
    title: Vec<String>,
    /// What the values of all panels are, if it is the same; then no panel says it.
    label: Vec<String>,
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
    fn of(figure: &Figure, width: f64, margin: f64) -> Self {
        let inner = width - 2.0 * margin;
        let count = figure.panels.len();
        let wide = width >= WIDTH;
        let columns = if wide {
            figure.columns.clamp(1, count)
        } else {
            1
        };
        let panel_width = (inner - GUTTER * (columns as f64 - 1.0)) / columns as f64;
        let shared = shared_label(figure);
        // Names beside the ends of lines would take half of a narrow plot.
        let beside = wide && columns == 1;
        let layouts = lay_out_panels(figure, panel_width, (shared.is_none(), beside));
        let label = shared.map_or_else(Vec::new, |label| {
            wrap(&label, inner, LABEL_EM, Weight::Regular)
        });
        let names = shared_names(figure);
        let legend = if names.len() < 2 || layouts.iter().all(|l| l.names_at_ends) {
            Vec::new()
        } else {
            names
        };
        let title = wrap(&figure.title, inner, TITLE_EM, Weight::Semibold);
        let (_, legend_height) = flow(&legend, inner);
        let mut top = margin + title.len() as f64 * TITLE_EM * TITLE_LINE;
        top += label.len() as f64 * LABEL_EM * LABEL_LINE;
        if legend_height > 0.0 {
            top += 4.0 + legend_height + if count > 1 { 6.0 } else { 0.0 };
        }
        let row_tops = row_tops(&layouts, columns, top + 6.0);
        let bottom = *row_tops.last().unwrap_or(&top);
        let notes = notes(figure, inner);
        let height = (bottom + notes.len() as f64 * NOTE_EM * 1.4 + margin * 0.8).ceil();
        Self {
            inner,
            margin,
            title,
            label,
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
        let mut y = self.margin;
        let look = TextLook {
            weight: Weight::Semibold,
            ..regular(TITLE_EM, INK)
        };
        for line in &self.title {
            y += TITLE_EM * TITLE_LINE;
            canvas.text(line, self.margin, y - TITLE_EM * 0.4, look);
        }
        for line in &self.label {
            y += LABEL_EM * LABEL_LINE;
            let soft = regular(LABEL_EM, SOFT_INK);
            canvas.text(line, self.margin, y - LABEL_EM * 0.35, soft);
        }
        let chart = &named_panel(figure).chart;
        let (origin, inner) = ((self.margin, y + 4.0), self.inner);
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
            let left = self.margin + column * (self.panel_width + GUTTER);
            let end = self.layouts.len().min((row + 1) * self.columns);
            let header = header_of(&self.layouts[row * self.columns..end]);
            let origin = (left, self.row_tops[row]);
            draw_panel(canvas, panel, layout, origin, self.panel_width, header);
        }
        let bottom = self.row_tops.last().copied().unwrap_or_default();
        paragraph(canvas, &self.notes, (self.margin, bottom), NOTE_EM);
    }
}

/// What the values of several panels are, if it is the same in all of them.
fn shared_label(figure: &Figure) -> Option<String> {
    let mut labels = figure.panels.iter().map(value_label);
    let first = labels.next()?;
    let same = figure.panels.len() > 1 && !first.is_empty() && labels.all(|label| label == first);
    same.then_some(first)
}

/// Measures all panels; each says what its values are if they are `labelled`, and names may stand `beside` lines.
fn lay_out_panels(
    figure: &Figure,
    width: f64,
    (labelled, beside): (bool, bool),
) -> Vec<PanelLayout> {
    let height = if figure.panels.len() > 1 {
        SMALL_PLOT_HEIGHT
    } else {
        PLOT_HEIGHT
    };
    let ranges = common_ranges(&figure.panels);
    let panels = figure.panels.iter().zip(ranges);
    panels
        .map(|(panel, range)| lay_out(panel, range, (width, height), (labelled, beside)))
        .collect()
}

/// Everything that stands below the panels, in lines of `width`.
fn notes(figure: &Figure, width: f64) -> Vec<String> {
    let missing = figure
        .missing
        .iter()
        .map(|entry| format!("Missing: {entry}"));
    std::iter::once(figure.note.clone())
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
