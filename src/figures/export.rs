//! A figure's files: SVG, PNG, the drawn numbers as CSV, and what it shows as JSON.

use crate::base::write_atomic;
use crate::figures::draw::draw;
use crate::figures::figure::{Chart, Figure, FigureError, Point};
use crate::figures::font::{FAMILY, FONT_REGULAR, FONT_SEMIBOLD};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pixels of the PNG for each pixel of the SVG.
pub const PNG_SCALE: f32 = 2.0;

/// Renders an SVG of [`draw`] to PNG at `scale`, with the embedded font only, so that the bytes are
/// the same on every machine.
///
/// # Errors
/// The SVG cannot be parsed or the picture is too large.
pub fn rasterize(name: &str, svg: &str, scale: f32) -> Result<Vec<u8>, FigureError> {
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
pub fn figure_csv(figure: &Figure) -> String {
    let mut csv = String::from("panel,series,x,seed,n,value,low,high,runs\n");
    for panel in &figure.panels {
        match &panel.chart {
            Chart::Bars {
                categories, series, ..
            } => {
                for one in series {
                    for p in &one.points {
                        let x = categories.get(p.x as usize).cloned().unwrap_or_default();
                        point_lines(&mut csv, &panel.title, &one.name, &x, p);
                    }
                }
            }
            Chart::Lines { series, .. } => {
                for one in series {
                    for p in &one.points {
                        point_lines(&mut csv, &panel.title, &one.name, &p.x.to_string(), p);
                    }
                }
            }
            Chart::Training { curves } => {
                for curve in curves {
                    let n = curve.seeds.len().to_string();
                    let runs: Vec<&str> = curve.seeds.iter().map(|s| s.run.as_str()).collect();
                    for (x, mean, low, high) in curve.band() {
                        let numbers = [mean, low, high].map(|v| v.to_string());
                        let [mean, low, high] = &numbers;
                        line(
                            &mut csv,
                            &[
                                &panel.title,
                                &curve.name,
                                &x.to_string(),
                                "mean",
                                &n,
                                mean,
                                low,
                                high,
                                &runs.join(" "),
                            ],
                        );
                    }
                    for seed in &curve.seeds {
                        for (x, y) in &seed.points {
                            let (x, y, s) = (x.to_string(), y.to_string(), seed.seed.to_string());
                            line(
                                &mut csv,
                                &[
                                    &panel.title,
                                    &curve.name,
                                    &x,
                                    &s,
                                    "1",
                                    &y,
                                    "",
                                    "",
                                    &seed.run,
                                ],
                            );
                        }
                    }
                }
            }
        }
    }
    csv
}

fn point_lines(csv: &mut String, panel: &str, series: &str, x: &str, p: &Point) {
    let runs: Vec<&str> = p.seeds.iter().map(|s| s.run.as_str()).collect();
    let (low, high) = p.interval.map_or_else(Default::default, |i| {
        (i.low.to_string(), i.high.to_string())
    });
    let (value, n) = p.estimate.map_or_else(
        || (String::new(), "0".to_owned()),
        |e| (e.value.to_string(), e.n.to_string()),
    );
    let runs = if p.estimate.is_none() {
        p.absent.clone()
    } else {
        runs.join(" ")
    };
    line(
        csv,
        &[panel, series, x, "mean", &n, &value, &low, &high, &runs],
    );
    for s in &p.seeds {
        line(
            csv,
            &[
                panel,
                series,
                x,
                &s.seed.to_string(),
                "1",
                &s.value.to_string(),
                "",
                "",
                &s.run,
            ],
        );
    }
}

fn line(csv: &mut String, fields: &[&str]) {
    let quoted = fields.iter().map(|f| {
        if f.contains([',', '"', '\n']) {
            format!("\"{}\"", f.replace('"', "\"\""))
        } else {
            (*f).to_owned()
        }
    });
    csv.push_str(&quoted.collect::<Vec<_>>().join(","));
    csv.push('\n');
}

/// Title, note, caption, what is missing and the run ids, as JSON.
pub fn figure_sidecar(figure: &Figure) -> String {
    let value = serde_json::json!({
        "name": figure.name,
        "title": figure.title,
        "note": figure.note,
        "caption": figure.caption,
        "missing": figure.missing,
        "runs": figure.runs,
    });
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
