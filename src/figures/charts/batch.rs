//! A batch of preference pairs as it lies in memory: rows of positions, to scale.

use crate::figures::axes::{Rect, step_axis};
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{SWATCH, regular, shorten};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{AXIS, GRID, INK, PAPER, SOFT_INK, TICK_EM, series_look};
use plotters::style::RGBColor;

/// Room for the rows' names, pixels: "12 rejected".
const NAMES: f64 = 84.0;
/// Height of a row and of the space between two, pixels: a dozen rows stay below the height of a
/// usual plot.
const ROW: f64 = 16.0;
const GAP: f64 = 4.0;
/// Em of the numbers in the pieces: they fit a row with a pixel or two to spare.
const NUMBER_EM: f64 = 10.5;

/// Rows of a batch as they are laid out in memory; equal lengths are equally many positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchChart {
    /// The rows, from the top.
    pub rows: Vec<BatchRow>,
    /// Positions that the whole width stands for, at least 1.
    pub width: usize,
}

/// One row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// Written before the row; may be empty.
    pub name: String,
    /// What fills it, from the left.
    pub pieces: Vec<BatchPiece>,
}

/// Neighbouring positions of one row that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPiece {
    /// Number of positions.
    pub tokens: usize,
    /// What they hold.
    pub part: Part,
    /// The preference pair, from 1.
    pub pair: usize,
}

/// What positions of a batch hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The prompt.
    Prompt,
    /// The preferred reply.
    Chosen,
    /// The other reply.
    Rejected,
    /// Nothing.
    Padding,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Prompt, Self::Chosen, Self::Rejected, Self::Padding];

    /// Its name in a legend.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Chosen => "chosen reply",
            Self::Rejected => "rejected reply",
            Self::Padding => "padding",
        }
    }

    /// They differ in lightness as well. Padding is hatched instead.
    fn color(self) -> RGBColor {
        match self {
            Self::Prompt => RGBColor(0xC9, 0xD3, 0xDD),
            Self::Chosen => series_look(0).color,
            Self::Rejected => series_look(1).color,
            Self::Padding => PAPER,
        }
    }
}

impl Chart for BatchChart {
    fn values(&self) -> Values {
        Values::default()
    }

    fn names(&self) -> Vec<String> {
        Part::ALL.map(|p| p.name().to_owned()).to_vec()
    }

    fn arrange(&self, room: &Room) -> Arrangement {
        let ends = [0.0, self.width.max(1) as f64];
        let plot_width = room.width - NAMES - room.right;
        Arrangement {
            left: NAMES,
            right: room.right,
            height: self.rows.len().max(1) as f64 * (ROW + GAP) + GAP,
            coordinates: Coordinates::Positions(step_axis(&ends, plot_width)),
        }
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        for (index, row) in self.rows.iter().enumerate() {
            let top = at.plot.top + GAP + index as f64 * (ROW + GAP);
            draw_row(canvas, at.plot, row, top, self.width);
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        let part = Part::ALL[index % Part::ALL.len()];
        let (top, bottom) = (middle - 6.0, middle + 6.0);
        draw_part(canvas, (left + 3.0, top), (left + SWATCH, bottom), part);
    }

    /// A row a piece, whose value is its number of positions.
    fn write_rows(&self, rows: &mut FigureRows) {
        for (number, row) in (1..).zip(&self.rows) {
            for p in &row.pieces {
                let part = format!("{} of pair {}", p.part.name(), p.pair);
                let (row, tokens) = (format!("row {number}"), p.tokens.to_string());
                rows.row([&part, &row, "", "", &tokens, "", "", ""]);
            }
        }
    }
}

/// Draws a row at `top` of a plot whose width stands for `width` positions; each piece has the
/// number of its pair where there is room.
fn draw_row(canvas: &mut Canvas<'_>, plot: &Rect, row: &BatchRow, top: f64, width: usize) {
    let scale = plot.width() / width.max(1) as f64;
    let middle = top + ROW / 2.0;
    let name = TextLook {
        align: Align::Right,
        ..regular(TICK_EM, SOFT_INK)
    };
    let text = shorten(&row.name, NAMES - 9.0, TICK_EM);
    canvas.text(&text, plot.left - 8.0, middle + 4.1, name);
    let mut at = 0usize;
    for piece in &row.pieces {
        let left = plot.left + at as f64 * scale;
        at += piece.tokens;
        let right = plot.left + at as f64 * scale;
        draw_part(canvas, (left, top), (right, top + ROW), piece.part);
        if piece.part == Part::Padding {
            continue;
        }
        let number = piece.pair.to_string();
        let look = TextLook {
            em: NUMBER_EM,
            weight: Weight::Semibold,
            // Only the chosen reply is dark enough for white.
            color: if piece.part == Part::Chosen {
                PAPER
            } else {
                INK
            },
            align: Align::Middle,
        };
        if text_width(&number, look.em, look.weight) + 6.0 <= right - left {
            canvas.text(&number, f64::midpoint(left, right), middle + 3.8, look);
        }
    }
}

/// Draws one piece: a filled rectangle, hatched if nothing is in it.
fn draw_part(
    canvas: &mut Canvas<'_>,
    (left, top): (f64, f64),
    (right, bottom): (f64, f64),
    part: Part,
) {
    // A hair of paper between neighbours, unless that would eat the piece.
    let right = (right - 1.0).max(left + 0.4);
    if part != Part::Padding {
        canvas.rect(left, top, right, bottom, part.color(), 1.0);
        return;
    }
    canvas.rect(left, top, right, bottom, GRID, 0.5);
    let line = Stroke {
        color: AXIS,
        width: 0.9,
        alpha: 0.8,
    };
    canvas.hatch((left, top), (right, bottom), line);
    let edge = [
        (left, top),
        (right, top),
        (right, bottom),
        (left, bottom),
        (left, top),
    ];
    canvas.path(&edge, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    // Relative luminance (WCAG), without gamma.
    fn luminance(c: RGBColor) -> f64 {
        0.2126 * f64::from(c.0) + 0.7152 * f64::from(c.1) + 0.0722 * f64::from(c.2)
    }

    #[test]
    fn the_parts_of_a_batch_differ_in_lightness() {
        let [prompt, chosen, rejected] =
            [Part::Prompt, Part::Chosen, Part::Rejected].map(|part| luminance(part.color()));
        assert!(chosen + 60.0 < rejected && rejected + 40.0 < prompt);
    }
}
