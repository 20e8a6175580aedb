//! A figure's files: SVG, PNG, the drawn numbers as CSV, and what it shows as JSON.

use crate::base::write_atomic;
use crate::figures::draw::draw;
use crate::figures::figure::{Figure, FigureError};
use crate::figures::font::{FAMILY, FONT_REGULAR, FONT_SEMIBOLD};
use crate::figures::rows::FigureRows;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pixels of the PNG for each pixel of the SVG: sharp on screens of twice the usual density.
pub(crate) const PNG_SCALE: f32 = 2.0;

/// Renders an SVG of [`draw`] to PNG at `scale`, with the embedded font only, so that the bytes are
/// the same on every machine.
///
/// # Errors
/// The SVG cannot be parsed or the picture is too large.
pub(super) fn rasterize(name: &str, svg: &str, scale: f32) -> Result<Vec<u8>, FigureError> {
    let fault = |message: String| FigureError::Draw {
        figure: name.to_owned(),
        message,
    };
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(FONT_REGULAR.to_vec());
    fonts.load_font_data(FONT_SEMIBOLD.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    let options = usvg::Options {
        fontdb: Arc::new(fonts),
        font_family: FAMILY.to_owned(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| fault(e.to_string()))?;
    let size = tree.size().to_int_size();
    let pixels = |side: u32| (side as f32 * scale).round() as u32;
    let mut picture = Pixmap::new(pixels(size.width()), pixels(size.height()))
        .ok_or_else(|| fault("the picture has no or too many pixels".to_owned()))?;
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut picture.as_mut(),
    );
    picture.encode_png().map_err(|e| fault(e.to_string()))
}

/// Every drawn number: a line per mean (`seed` is `mean`) and per seed, with the runs.
///
/// Columns: panel, series, x, seed, n, value, low, high, runs. Numbers are exact; an absent mean
/// has an empty value and says why in `runs`.
pub(super) fn figure_csv(figure: &Figure) -> String {
    let mut rows = FigureRows::new();
    for panel in &figure.panels {
        rows.panel(&panel.title);
        panel.chart.write_rows(&mut rows);
    }
    rows.into_text()
}

/// Title, note, findings, caption, what is missing, fits and the run ids, as JSON.
pub(super) fn figure_sidecar(figure: &Figure) -> String {
    let fits = figure.panels.iter().flat_map(|p| p.chart.fits(&p.title));
    let fits: Vec<serde_json::Value> = fits.collect();
    let mut value = serde_json::json!({
        "name": figure.name,
        "title": figure.title,
        "note": figure.note,
        "caption": figure.caption,
        "missing": figure.missing,
        "runs": figure.runs,
    });
    if !figure.findings.is_empty() {
        value["findings"] = figure.findings.clone().into();
    }
    if !fits.is_empty() {
        value["fits"] = fits.into();
    }
    format!("{value:#}\n")
}

/// Writes `<name>.svg`, `<name>.png`, `<name>.csv` and `<name>.json` into `folder`; returns their
/// paths in that order.
///
/// # Errors
/// The figure cannot be drawn or a file cannot be written.
pub fn write_figure(folder: &Path, figure: &Figure) -> Result<Vec<PathBuf>, FigureError> {
    let drawing = draw(figure)?;
    let png = rasterize(&figure.name, &drawing.svg, PNG_SCALE)?;
    let files = [
        ("svg", drawing.svg.into_bytes()),
        ("png", png),
        ("csv", figure_csv(figure).into_bytes()),
        ("json", figure_sidecar(figure).into_bytes()),
    ];
    let mut paths = Vec::new();
    for (extension, bytes) in files {
        let path = folder.join(format!("{}.{extension}", figure.name));
        write_atomic(&path, &bytes).map_err(|source| FigureError::Write {
            figure: figure.name.clone(),
            source,
        })?;
        paths.push(path);
    }
    Ok(paths)
}
