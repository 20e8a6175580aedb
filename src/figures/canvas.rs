//! Drawing in pixels with fractions onto plotters' SVG backend, remembering where texts are.
//!
//! plotters counts in whole pixels, so everything is drawn ten times as large and the view box
//! scales it back: positions are exact to a tenth of a pixel.

use crate::figures::font::{FAMILY, Weight, describe, text_width};
use crate::figures::theme::{Hatch, Look, Marker, PAPER};
use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontTransform, RGBColor, ShapeStyle, TextStyle};

/// Units of the backend in one pixel.
const UNIT: f64 = 10.0;
/// plotters' SVG backend puts the baseline so far below a text's position, in em, whatever the font.
const TOP_TO_BASELINE: f64 = 0.76;

/// Where a text stands, in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct TextBox {
    /// The text.
    pub text: String,
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Bottom edge.
    pub bottom: f64,
}

impl TextBox {
    /// Whether two boxes share more than a hair's breadth.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Boxes are measured without kerning, so that touching ones are apart in truth.
        let hair = 0.5;
        self.left + hair < other.right
            && other.left + hair < self.right
            && self.top + hair < other.bottom
            && other.top + hair < self.bottom
    }
}

/// Which end of a text its x is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// The left end.
    Left,
    /// The middle.
    Middle,
    /// The right end.
    Right,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextLook {
    /// Pixels per em.
    pub em: f64,
    /// How heavy.
    pub weight: Weight,
    /// Its colour.
    pub color: RGBColor,
    /// Which end its x is.
    pub align: Align,
}

/// A stroke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Its colour.
    pub color: RGBColor,
    /// Width in pixels.
    pub width: f64,
    /// 0 (invisible) to 1.
    pub alpha: f64,
}

/// An SVG under construction.
pub struct Canvas<'a> {
    backend: SVGBackend<'a>,
    boxes: Vec<TextBox>,
    fault: Option<String>,
}

impl<'a> Canvas<'a> {
    /// A white canvas of `width` × `height` pixels that writes into `svg`.
    pub fn new(svg: &'a mut String, width: f64, height: f64) -> Self {
        let size = (units(width) as u32, units(height) as u32);
        let backend = SVGBackend::with_string(svg, size);
        let mut canvas = Self {
            backend,
            boxes: Vec::new(),
            fault: None,
        };
        canvas.rect(0.0, 0.0, width, height, PAPER, 1.0);
        canvas
    }

    /// Ends the document; the texts' boxes, or what the backend complained of.
    pub fn finish(mut self) -> Result<Vec<TextBox>, String> {
        let presented = self.backend.present().map_err(|e| e.to_string());
        self.keep(presented);
        match self.fault {
            None => Ok(self.boxes),
            Some(fault) => Err(fault),
        }
    }

    /// Remembers the first fault; drawing goes on, the document is refused at the end.
    fn keep(&mut self, result: Result<(), String>) {
        if let Err(fault) = result {
            self.fault.get_or_insert(fault);
        }
    }

    /// A filled rectangle from one corner to the opposite one.
    pub fn rect(
        &mut self,
        left: f64,
        top: f64,
        right: f64,
        bottom: f64,
        color: RGBColor,
        alpha: f64,
    ) {
        let style = ShapeStyle {
            color: color.mix(alpha),
            filled: true,
            stroke_width: 0,
        };
        let (a, b) = (at(left, top), at(right, bottom));
        let drawn = self.backend.draw_rect(a, b, &style, true);
        self.keep(drawn.map_err(|e| e.to_string()));
    }

    /// A line through points, solid.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let drawn = match points {
            [] | [_] => return,
            [a, b] => self
                .backend
                .draw_line(at(a.0, a.1), at(b.0, b.1), &shape(stroke)),
            _ => self
                .backend
                .draw_path(points.iter().map(|p| at(p.0, p.1)), &shape(stroke)),
        };
        self.keep(drawn.map_err(|e| e.to_string()));
    }

    /// A line through points with on and off lengths in pixels; solid if `dash` is empty.
    pub fn dashed(&mut self, points: &[(f64, f64)], dash: &[f64], stroke: Stroke) {
        if dash.is_empty() {
            return self.path(points, stroke);
        }
        for piece in dashes(points, dash) {
            self.path(&piece, stroke);
        }
    }

    /// A filled polygon.
    pub fn polygon(&mut self, points: &[(f64, f64)], color: RGBColor, alpha: f64) {
        let style = ShapeStyle {
            color: color.mix(alpha),
            filled: true,
            stroke_width: 0,
        };
        let corners: Vec<_> = points.iter().map(|p| at(p.0, p.1)).collect();
        let drawn = self.backend.fill_polygon(corners, &style);
        self.keep(drawn.map_err(|e| e.to_string()));
    }

    /// A filled disc.
    pub fn disc(&mut self, x: f64, y: f64, radius: f64, color: RGBColor, alpha: f64) {
        let style = ShapeStyle {
            color: color.mix(alpha),
            filled: true,
            stroke_width: 0,
        };
        let drawn = self
            .backend
            .draw_circle(at(x, y), units(radius) as u32, &style, true);
        self.keep(drawn.map_err(|e| e.to_string()));
    }

    /// A circle.
    pub fn ring(&mut self, x: f64, y: f64, radius: f64, stroke: Stroke) {
        let drawn = self
            .backend
            .draw_circle(at(x, y), units(radius) as u32, &shape(stroke), false);
        self.keep(drawn.map_err(|e| e.to_string()));
    }

    /// A series' marker with a white edge, `size` pixels across.
    pub fn marker(&mut self, x: f64, y: f64, size: f64, look: &Look) {
        let outline = |r: f64| marker_corners(look.marker, x, y, r);
        let r = size / 2.0;
        if look.marker == Marker::Disc {
            self.disc(x, y, r + 1.2, PAPER, 1.0);
            self.disc(x, y, r, look.color, 1.0);
        } else {
            self.polygon(&outline(r + 1.5), PAPER, 1.0);
            self.polygon(&outline(r), look.color, 1.0);
        }
    }

    /// A bar with its series' hatch.
    pub fn bar(&mut self, left: f64, top: f64, right: f64, bottom: f64, look: &Look) {
        self.rect(left, top, right, bottom, look.color, 0.9);
        let stroke = Stroke {
            color: PAPER,
            width: 1.4,
            alpha: 0.7,
        };
        for line in hatch_lines(look.hatch, left, top, right, bottom) {
            self.path(&line, stroke);
        }
    }

    /// Rising lines in a rectangle from one corner to the opposite one.
    pub fn hatch(&mut self, (left, top): (f64, f64), (right, bottom): (f64, f64), stroke: Stroke) {
        for line in hatch_lines(Hatch::Rising, left, top, right, bottom) {
            self.path(&line, stroke);
        }
    }

    /// A text whose baseline is at `y`; its box is remembered.
    pub fn text(&mut self, text: &str, x: f64, y: f64, look: TextLook) {
        if text.is_empty() {
            return;
        }
        let width = text_width(text, look.em, look.weight);
        let (left, h) = match look.align {
            Align::Left => (x, HPos::Left),
            Align::Middle => (x - width / 2.0, HPos::Center),
            Align::Right => (x - width, HPos::Right),
        };
        self.boxes.push(TextBox {
            text: text.to_owned(),
            left,
            top: y - 0.74 * look.em,
            right: left + width,
            bottom: y + 0.2 * look.em,
        });
        let font = describe(look.em * UNIT, look.weight).transform(FontTransform::None);
        let style = TextStyle {
            font,
            color: look.color.to_backend_color(),
            pos: Pos::new(h, VPos::Top),
        };
        let drawn = self
            .backend
            .draw_text(text, &style, at(x, y - TOP_TO_BASELINE * look.em));
        self.keep(drawn.map_err(|e| e.to_string()));
    }
}

/// Scales the ten times too large document back, adds the fallbacks of the font, and a title and
/// description for readers that cannot see it. `runs` end up in the document's metadata.
pub(crate) fn seal(
    raw: &str,
    width: f64,
    height: f64,
    title: &str,
    description: &str,
    runs: &[String],
) -> String {
    let body = raw.split_once('\n').map_or("", |(_, body)| body);
    let family = format!("font-family=\"{FAMILY}\"");
    let body = body.replace(
        &family,
        &format!("font-family=\"{FAMILY}, Helvetica, Arial, sans-serif\""),
    );
    let runs: String = runs
        .iter()
        .map(|r| format!("<run>{}</run>", escape(r)))
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" role=\"img\">\n\
         <title>{}</title>\n<desc>{}</desc>\n<metadata><runs xmlns=\"lions\">{runs}</runs></metadata>\n{body}",
        units(width),
        units(height),
        escape(title),
        escape(description),
    )
}

/// Text for XML content and attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

fn at(x: f64, y: f64) -> (i32, i32) {
    (units(x), units(y))
}

fn shape(stroke: Stroke) -> ShapeStyle {
    ShapeStyle {
        color: stroke.color.mix(stroke.alpha),
        filled: false,
        stroke_width: units(stroke.width).max(1) as u32,
    }
}

fn marker_corners(marker: Marker, x: f64, y: f64, r: f64) -> Vec<(f64, f64)> {
    let around = |corners: &[(f64, f64)]| {
        corners
            .iter()
            .map(|(dx, dy)| (x + dx * r, y + dy * r))
            .collect()
    };
    match marker {
        Marker::Disc | Marker::Square => {
            around(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)])
        }
        Marker::Triangle => around(&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)]),
        Marker::Diamond => around(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
        Marker::Wedge => around(&[(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)]),
        Marker::Cross => around(&[
            (-0.4, -1.1),
            (0.4, -1.1),
            (0.4, -0.4),
            (1.1, -0.4),
            (1.1, 0.4),
            (0.4, 0.4),
            (0.4, 1.1),
            (-0.4, 1.1),
            (-0.4, 0.4),
            (-1.1, 0.4),
            (-1.1, -0.4),
            (-0.4, -0.4),
        ]),
    }
}

/// The pieces of a polyline that lie on the "on" lengths of `dash`.
fn dashes(points: &[(f64, f64)], dash: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    // A tenth of a pixel at least: a length of zero would never be used up.
    let (mut index, mut left) = (0, dash[0].max(0.1));
    let mut piece: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let (mut a, b) = (pair[0], pair[1]);
        loop {
            let length = (b.0 - a.0).hypot(b.1 - a.1);
            if length <= left {
                left -= length;
                if index % 2 == 0 {
                    piece.push(b);
                }
                break;
            }
            let share = left / length;
            a = (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share);
            if index % 2 == 0 {
                piece.push(a);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![a];
            }
            index += 1;
            left = dash[index % dash.len()].max(0.1);
        }
    }
    if piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

/// Hatch lines clipped to a rectangle.
fn hatch_lines(hatch: Hatch, left: f64, top: f64, right: f64, bottom: f64) -> Vec<[(f64, f64); 2]> {
    // Two of them in the narrowest bar; closer ones run together in print.
    let gap = 6.0;
    let (width, height) = (right - left, bottom - top);
    let count = |length: f64| {
        (0..)
            .map(move |k| (f64::from(k) + 0.5) * gap)
            .take_while(move |d| *d < length)
    };
    match hatch {
        Hatch::Plain => Vec::new(),
        Hatch::Level => count(height)
            .map(|d| [(left, bottom - d), (right, bottom - d)])
            .collect(),
        // Lines x + y = d in coordinates from the bottom left corner.
        Hatch::Rising | Hatch::Falling => {
            let mirror = |x: f64| {
                if hatch == Hatch::Falling {
                    left + x
                } else {
                    right - x
                }
            };
            count(width + height)
                .map(|d| {
                    let (x0, y0) = if d <= width {
                        (d, 0.0)
                    } else {
                        (width, d - width)
                    };
                    let (x1, y1) = if d <= height {
                        (0.0, d)
                    } else {
                        (d - height, height)
                    };
                    [(mirror(x0), bottom - y0), (mirror(x1), bottom - y1)]
                })
                .collect()
        }
        Hatch::Crossed => {
            let mut lines = hatch_lines(Hatch::Rising, left, top, right, bottom);
            lines.extend(hatch_lines(Hatch::Falling, left, top, right, bottom));
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 10 pixels of 3 on, 1 off: 0–3, 4–7, 8–10.
    #[test]
    fn dashes_cover_only_the_on_lengths() {
        let got = dashes(&[(0.0, 0.0), (10.0, 0.0)], &[3.0, 1.0]);
        let spans: Vec<_> = got.iter().map(|p| (p[0].0, p[p.len() - 1].0)).collect();
        assert_eq!(spans, [(0.0, 3.0), (4.0, 7.0), (8.0, 10.0)]);
    }

    #[test]
    fn hatch_lines_stay_inside_their_bar() {
        for hatch in [Hatch::Rising, Hatch::Level, Hatch::Falling, Hatch::Crossed] {
            let lines = hatch_lines(hatch, 10.0, 20.0, 40.0, 90.0);
            assert!(lines.len() > 5);
            for (x, y) in lines.into_iter().flatten() {
                assert!(
                    (10.0..=40.0).contains(&x) && (20.0..=90.0).contains(&y),
                    "{hatch:?} {x} {y}"
                );
            }
        }
    }
}
