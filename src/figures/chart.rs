//! What a kind of chart says of itself; panel, legend, ranges and files follow from that.

use crate::figures::axes::{Axis, Rect};
use crate::figures::canvas::Canvas;
use crate::figures::data::{Point, ReferenceLine, Series};
use crate::figures::rows::FigureRows;
use crate::metrics::Better;
use std::any::Any;
use std::fmt::Debug;

/// The marks of one panel. Each kind is one file of `charts`.
pub trait Chart: Any + Debug {
    /// Every number that is drawn: refused if it is not finite, and what the ranges are taken from.
    fn values(&self) -> Values;

    /// Names for the legend, in the order of the looks; empty names are not shown.
    fn names(&self) -> Vec<String>;

    /// Whether the axis of values must contain zero.
    fn starts_at_zero(&self) -> bool {
        false
    }

    /// Whether names may stand beside the ends of lines instead of in a legend.
    fn ends_in_lines(&self) -> bool {
        false
    }

    /// Whether known values that marks are seen against must be in the range, however far they are.
    fn shows_levels(&self) -> bool {
        false
    }

    /// A line across the plot that is named above it.
    fn reference(&self) -> Option<&ReferenceLine> {
        None
    }

    /// The coordinates that the chart wants and what they need of the room there is.
    fn arrange(&self, room: &Room) -> Arrangement;

    /// Draws the marks; coordinates and labels are drawn already.
    fn draw(&self, canvas: &mut Canvas<'_>, at: &Frame<'_>);

    /// Draws what stands for name `index` in the legend, from `left` on, around the height `middle`.
    fn draw_swatch(&self, canvas: &mut Canvas<'_>, index: usize, left: f64, middle: f64);

    /// Adds every drawn number to the figure's CSV.
    fn write_rows(&self, rows: &mut FigureRows);

    /// What was fitted through the marks, for the figure's JSON; `panel` is the panel's title.
    fn fits(&self, _panel: &str) -> Vec<serde_json::Value> {
        Vec::new()
    }
}

/// The numbers of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// All x.
    pub x: Vec<f64>,
    /// Whether x is logarithmic, so that every x must be above zero.
    pub log_x: bool,
    /// All y that must be seen.
    pub marks: Vec<f64>,
    /// Ends of intervals, which may be cut off where they would dwarf the marks.
    pub ends: Vec<f64>,
}

impl Values {
    /// Adds the y of a point.
    pub fn add(&mut self, point: &Point) {
        self.marks.extend(point.marks());
        self.ends.extend(point.ends());
    }

    /// The x and y of all points.
    pub fn of_series<'a>(series: impl IntoIterator<Item = &'a Series>) -> Self {
        let mut values = Self::default();
        for point in series.into_iter().flat_map(|s| &s.points) {
            values.x.push(point.x);
            values.add(point);
        }
        values
    }
}

/// What a panel has for its chart, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Width of the panel.
    pub width: f64,
    /// Usual height of a plot.
    pub height: f64,
    /// What the ticks of the y axis need left of the plot.
    pub left: f64,
    /// What names beside the ends of lines need right of the plot.
    pub right: f64,
    /// Decimals of values written into the drawing.
    pub decimals: usize,
}

impl Room {
    /// Width of a plot between y ticks and names.
    pub fn plot_width(&self) -> f64 {
        self.width - self.left - self.right
    }

    /// The usual plot with these coordinates.
    pub fn with(&self, coordinates: Coordinates) -> Arrangement {
        Arrangement {
            left: self.left,
            right: self.right,
            height: self.height,
            coordinates,
        }
    }
}

/// How a plot stands in its panel; lengths in pixels.
#[derive(Clone, Debug)]
pub struct Arrangement {
    /// Room left of the plot.
    pub left: f64,
    /// Room right of the plot.
    pub right: f64,
    /// Height of the plot.
    pub height: f64,
    /// What its directions mean.
    pub coordinates: Coordinates,
}

/// What the directions of a plot mean.
#[derive(Clone, Debug)]
pub enum Coordinates {
    /// Values go up over a numeric axis.
    Numbers(Axis),
    /// Values go up; equally wide slots, each with its name in lines below.
    Columns(Vec<Vec<String>>),
    /// Values go right; equally high rows, each with its name in lines before it.
    Rows(Vec<Vec<String>>),
    /// Positions go right; up and down mean nothing.
    Positions(Axis),
}

impl Coordinates {
    /// Lines of text below the plot, at least 1.
    pub fn tick_lines(&self) -> usize {
        match self {
            Self::Columns(names) => names.iter().map(Vec::len).max().unwrap_or(1).max(1),
            _ => 1,
        }
    }
}

/// Where and how a chart is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Width of the panel, pixels.
    pub width: f64,
    /// The plot, in pixels.
    pub plot: &'a Rect,
    /// The axis of values.
    pub axis: &'a Axis,
    /// What the directions of the plot mean.
    pub coordinates: &'a Coordinates,
    /// Names stand beside the ends of lines.
    pub names_at_ends: bool,
    /// Which way values are better.
    pub better: Better,
    /// Decimals of values written into the drawing.
    pub decimals: usize,
}

impl Frame<'_> {
    /// Pixel of a number along the bottom; the left edge where there are no numbers.
    pub fn x(&self, x: f64) -> f64 {
        match self.coordinates {
            Coordinates::Numbers(axis) | Coordinates::Positions(axis) => axis.x(x, self.plot),
            Coordinates::Columns(_) | Coordinates::Rows(_) => self.plot.left,
        }
    }

    /// Pixel of a value going up.
    pub fn y(&self, value: f64) -> f64 {
        self.axis.y(value, self.plot)
    }
}
