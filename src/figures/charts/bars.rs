//! Groups of bars, or of points where zero is no natural start; they lie down where their names are
//! too long to stand below columns.

use crate::figures::canvas::{Align, Canvas, Stroke, TextLook};
use crate::figures::chart::{Arrangement, Chart, Coordinates, Frame, Room, Values};
use crate::figures::charts::horizontal_bars::{self, RowStyle};
use crate::figures::data::{Point, ReferenceLine, Series};
use crate::figures::font::{Weight, text_width};
use crate::figures::labels::{SWATCH, regular, wrap};
use crate::figures::marks::{draw_interval, draw_reference_across, draw_seeds};
use crate::figures::rows::FigureRows;
use crate::figures::theme::{INK, Look, SOFT_INK, TICK_EM, series_look};
use crate::metrics::fixed;

/// Share of a slot that its bars take; the rest parts the groups.
const FILLED: f64 = 0.8;
/// Widest bar with its gap, pixels: few groups must not become walls.
const WIDEST: f64 = 64.0;
/// Narrowest bar that has room for the dots of its seeds, pixels.
const ROOM_FOR_SEEDS: f64 = 30.0;

/// Groups side by side: a bar or a point with its interval for each series of each category.
#[derive(Clone, Debug, PartialEq)]
pub struct BarChart {
    /// Names of the groups, in order.
    pub categories: Vec<String>,
    /// Bars start at zero, because zero means "none"; otherwise points are drawn on a tight range,
    /// so that no length suggests a proportion.
    pub from_zero: bool,
    /// One point per category, `x` being the category's index.
    pub series: Vec<Series>,
    /// A configuration that is a line across all groups.
    pub reference: Option<ReferenceLine>,
    /// Rows that lie below each other with values and intervals written beside them, as in a forest plot, whatever
    /// the length of their names.
    pub forest: bool,
}

impl Chart for BarChart {
    fn values(&self) -> Values {
        let mut values = Values::of_series(&self.series);
        if let Some(reference) = &self.reference {
            values.add(&reference.point);
        }
        values
    }

    fn names(&self) -> Vec<String> {
        self.series.iter().map(|s| s.name.clone()).collect()
    }

    fn starts_at_zero(&self) -> bool {
        self.from_zero
    }

    fn shows_levels(&self) -> bool {
        true
    }

    fn reference(&self) -> Option<&ReferenceLine> {
        self.reference.as_ref()
    }

    fn arrange(&self, room: &Room) -> Arrangement {
        let slot = room.plot_width() / self.categories.len().max(1) as f64 - 8.0;
        if self.forest || horizontal_bars::needed(&self.categories, slot) {
            return horizontal_bars::arrange(&self.categories, &self.series, room, self.forest);
        }
        let lines = |name: &String| wrap(name, slot, TICK_EM, Weight::Regular);
        room.with(Coordinates::Columns(
            self.categories.iter().map(lines).collect(),
        ))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        if let Coordinates::Rows(_) = at.coordinates {
            let reference = self.reference.as_ref().map(|r| &r.point);
            let style = RowStyle {
                rows: self.categories.len(),
                from_zero: self.from_zero,
                forest: self.forest,
            };
            horizontal_bars::draw(canvas, at, (&self.series, reference), style);
        } else {
            self.draw_columns(canvas, at);
            // Above the bars, which would hide it.
            draw_reference_across(canvas, at, self.reference.as_ref());
        }
    }

    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64) {
        let look = series_look(self.series[index].look);
        if self.from_zero {
            let (top, bottom) = (middle - 6.0, middle + 6.0);
            canvas.bar(left + 3.0, top, left + SWATCH - 1.0, bottom, &look);
            return;
        }
        let x = left + SWATCH / 2.0;
        let whisker = Stroke {
            color: look.color,
            width: 2.0,
            alpha: 1.0,
        };
        canvas.path(&[(x, middle - 9.0), (x, middle + 9.0)], whisker);
        canvas.marker(x, middle, 8.0, &look);
    }

    fn write_rows(&self, rows: &mut FigureRows) {
        for one in &self.series {
            for p in &one.points {
                let name = self.categories.get(p.x as usize);
                rows.point(&one.name, name.map_or("", String::as_str), p);
            }
        }
        if let Some(one) = &self.reference {
            rows.point("reference", &one.name, &one.point);
        }
    }
}

/// A value to be written.
struct ValueLabel {
    text: String,
    /// The middle of its baseline.
    at: (f64, f64),
    /// It is no wider than its bar.
    fits: bool,
}

impl BarChart {
    /// Draws all groups.
    fn draw_columns(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>) {
        let reference = self.reference.as_ref().and_then(|r| r.point.estimate);
        let plot = at.plot;
        let slot = plot.width() / self.categories.len().max(1) as f64;
        let pitch = (slot * FILLED / self.series.len().max(1) as f64).min(WIDEST);
        let mut labels: Vec<ValueLabel> = Vec::new();
        for (index, one) in self.series.iter().enumerate() {
            let offset = (index as f64 - (self.series.len() as f64 - 1.0) / 2.0) * pitch;
            for point in &one.points {
                let x = plot.left + (point.x + 0.5) * slot + offset;
                let label = self.draw_mark(canvas, at, point, (x, pitch), &series_look(one.look));
                labels.extend(label);
            }
        }
        // All values or none: one alone would look like a mark of its own.
        if labels.iter().all(|label| label.fits) {
            write_values(canvas, &labels, reference.map(|e| at.y(e.value)));
        }
    }

    /// Draws one mark around `x`, `pitch` wide; returns its value as a text.
    fn draw_mark(
        &self,
        canvas: &mut Canvas<'_>,
        at: &Frame<'_>,
        point: &Point,
        (x, pitch): (f64, f64),
        look: &Look,
    ) -> Option<ValueLabel> {
        let Some(estimate) = point.estimate else {
            draw_absent(canvas, at.plot.bottom, &point.absent, x, pitch);
            return None;
        };
        let y = at.y(estimate.value);
        let half = pitch * 0.42;
        if self.from_zero {
            let zero = at.y(0.0);
            canvas.bar(x - half, y.min(zero), x + half, y.max(zero), look);
        }
        let whisker = Stroke {
            color: if self.from_zero { INK } else { look.color },
            width: 1.6,
            alpha: 1.0,
        };
        let top = draw_interval(canvas, at.plot, at.axis, point.interval, x, whisker);
        if !self.from_zero {
            canvas.marker(x, y, 10.0, look);
        }
        let highest = if pitch >= ROOM_FOR_SEEDS {
            let beside = x + (half * 0.55).max(10.0);
            draw_seeds(canvas, at.plot, at.axis, point, beside, half * 0.45)
        } else {
            at.plot.bottom
        };
        let text = fixed(estimate.value, at.decimals);
        Some(ValueLabel {
            fits: text_width(&text, VALUE.em, VALUE.weight) <= pitch * 0.98,
            text,
            at: (x, y.min(top).min(highest) - 7.0),
        })
    }
}

/// Values above bars are a little smaller than ticks, so that more of them fit.
const VALUE: TextLook = TextLook {
    em: TICK_EM - 0.5,
    weight: Weight::Semibold,
    color: INK,
    align: Align::Middle,
};

/// Writes values above their bars, and above a line that would run through them.
fn write_values(canvas: &mut Canvas<'_>, labels: &[ValueLabel], line: Option<f64>) {
    for label in labels {
        let (x, y) = label.at;
        let crosses = |line: &f64| (y - VALUE.em..=y + 4.0).contains(line);
        let y = line.filter(crosses).map_or(y, |line| line - 4.0);
        canvas.text(&label.text, x, y, VALUE);
    }
}

/// Writes why there is no bar, or a cross where there is no room for that.
fn draw_absent(canvas: &mut Canvas<'_>, bottom: f64, why: &str, x: f64, pitch: f64) {
    let look = TextLook {
        align: Align::Middle,
        ..regular(TICK_EM - 1.0, SOFT_INK)
    };
    let fits = text_width(why, look.em, look.weight) <= pitch;
    canvas.text(if fits { why } else { "×" }, x, bottom - 7.0, look);
}
