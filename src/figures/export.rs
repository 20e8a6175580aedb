//! A figure's files: SVG, PNG, the drawn numbers as CSV, and what it shows as JSON.

use crate::base::write_atomic;
use crate::figures::draw::draw;
use crate::figures::figure::{
    Chart, Curve, Figure, FigureError, Panel, Point, Scale, ScalingCurve, Series,
};
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
    for Panel { title, chart, .. } in &figure.panels {
        match chart {
            Chart::Bars {
                categories,
                series,
                reference,
                ..
            } => {
                for one in series {
                    for p in &one.points {
                        let x = categories.get(p.x as usize).cloned().unwrap_or_default();
                        point_lines(&mut csv, title, &one.name, &x, p);
                    }
                }
                if let Some(one) = reference {
                    point_lines(&mut csv, title, "reference", &one.name, &one.point);
                }
            }
            Chart::Lines { series, .. } => {
                series
                    .iter()
                    .for_each(|one| series_lines(&mut csv, title, one));
            }
            Chart::Scaling { curves, .. } => {
                let series = curves.iter().map(|c| &c.series);
                series.for_each(|one| series_lines(&mut csv, title, one));
            }
            Chart::Training { curves } => {
                curves
                    .iter()
                    .for_each(|curve| curve_lines(&mut csv, title, curve));
            }
            Chart::Batch { rows, .. } => {
                for (number, row) in (1..).zip(rows) {
                    for p in &row.pieces {
                        let part = format!("{} of pair {}", p.part.name(), p.pair);
                        let row = format!("row {number}");
                        let tokens = p.tokens.to_string();
                        line(&mut csv, &[title, &part, &row, "", "", &tokens, "", "", ""]);
                    }
                }
            }
        }
    }
    csv
}

fn series_lines(csv: &mut String, panel: &str, one: &Series) {
    for p in &one.points {
        point_lines(csv, panel, &one.name, &p.x.to_string(), p);
    }
}

fn curve_lines(csv: &mut String, panel: &str, curve: &Curve) {
    let n = curve.seeds.len().to_string();
    let runs: Vec<&str> = curve.seeds.iter().map(|s| s.run.as_str()).collect();
    let runs = runs.join(" ");
    for (x, mean, low, high) in curve.band() {
        let [x, mean, low, high] = [x, mean, low, high].map(|v| v.to_string());
        let fields = [
            panel,
            &curve.name,
            &x,
            "mean",
            &n,
            &mean,
            &low,
            &high,
            &runs,
        ];
        line(csv, &fields);
    }
    for seed in &curve.seeds {
        for (x, y) in &seed.points {
            let (x, y, s) = (x.to_string(), y.to_string(), seed.seed.to_string());
            let fields = [panel, &curve.name, &x, &s, "1", &y, "", "", &seed.run];
            line(csv, &fields);
        }
    }
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
        let own = s.x.map(|x| x.to_string());
        line(
            csv,
            &[
                panel,
                series,
                own.as_deref().unwrap_or(x),
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

/// Title, note, findings, caption, what is missing, fits and the run ids, as JSON.
pub fn figure_sidecar(figure: &Figure) -> String {
    let mut fits = Vec::new();
    for panel in &figure.panels {
        if let Chart::Scaling { curves, .. } = &panel.chart {
            fits.extend(curves.iter().map(|c| fit_json(&panel.title, c)));
        }
    }
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

/// The parabola of a series, `y = a + b·u + c·u²`, and where it saturates.
fn fit_json(panel: &str, curve: &ScalingCurve) -> serde_json::Value {
    let fit = curve.fit.map(|f| {
        let over = match f.scale {
            Scale::Linear => "x",
            Scale::Log => "log10 x",
        };
        serde_json::json!({"u": over, "a": f.parabola.a, "b": f.parabola.b, "c": f.parabola.c})
    });
    let saturation = curve.saturation.map(|s| {
        let how = if s.on_fit {
            "turn of the fit"
        } else {
            "best observed point"
        };
        serde_json::json!({"x": s.x, "y": s.y, "how": how})
    });
    serde_json::json!({"panel": panel, "series": curve.series.name, "fit": fit, "saturation": saturation})
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
