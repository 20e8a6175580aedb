//! A batch of preference pairs as it lies in memory: rows of positions, to scale.

use crate::figures::axes::Rect;
use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::figure::{BatchRow, Part};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::shorten;
use crate::figures::theme::{AXIS, GRID, INK, PAPER, SOFT_INK, TICK_EM, part_color};

/// Room for the rows' names, pixels.
pub(crate) const BATCH_LABELS: f64 = 84.0;
const ROW: f64 = 16.0;
const GAP: f64 = 4.0;
/// Em of the numbers in the pieces.
const NUMBER_EM: f64 = 10.5;

/// Height of so many rows.
pub(crate) fn batch_height(rows: usize) -> f64 {
    rows.max(1) as f64 * (ROW + GAP) + GAP
}

/// Draws rows from the top of `plot`, whose width stands for `width` positions; each piece has the
/// number of its pair where there is room.
pub(crate) fn draw_batch(canvas: &mut Canvas<'_>, plot: &Rect, rows: &[BatchRow], width: usize) {
    let scale = plot.width() / width.max(1) as f64;
    for (index, row) in rows.iter().enumerate() {
        let top = plot.top + GAP + index as f64 * (ROW + GAP);
        let middle = top + ROW / 2.0;
        let name = TextLook {
            em: TICK_EM,
            weight: Weight::Regular,
            color: SOFT_INK,
            align: Align::Right,
        };
        let text = shorten(&row.name, BATCH_LABELS - 9.0, TICK_EM);
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
}

/// Draws one piece: a filled rectangle, hatched if nothing is in it.
pub(crate) fn draw_part(
    canvas: &mut Canvas<'_>,
    (left, top): (f64, f64),
    (right, bottom): (f64, f64),
    part: Part,
) {
    // A hair of paper between neighbours, unless that would eat the piece.
    let right = (right - 1.0).max(left + 0.4);
    if part != Part::Padding {
        canvas.rect(left, top, right, bottom, part_color(part), 1.0);
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
