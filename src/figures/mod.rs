//! Draws plain figure data as SVG and PNG, the same bytes each time.
//!
//! A [`Figure`] is data: panels, each with a [`Chart`], whose kinds stand one a file in [`charts`],
//! with intervals, seeds and the runs they came from. [`draw`] lays it out and measures every text
//! with the embedded font, so that nothing overlaps on any machine; [`write_figure`] turns the SVG into
//! a PNG with that same font and leaves `<name>.svg`, `.png`, `.csv` and `.json` in a
//! folder.

pub(crate) mod axes;
mod canvas;
mod chart;
mod charts;
mod clear;
mod data;
mod draw;
mod export;
mod figure;
mod font;
mod labels;
mod marks;
mod measure;
mod panel;
mod rows;
mod theme;

#[cfg(test)]
mod fixtures_tests;
#[cfg(test)]
mod tests;

pub use canvas::TextBox;
pub use chart::Chart;
pub use charts::{
    BarChart, BatchChart, BatchPiece, BatchRow, Curve, Fit, LineChart, Part, Saturation,
    ScalingChart, ScalingCurve, SeedCurve, TrainingChart,
};
pub use data::{Level, Point, ReferenceLine, Scale, SeedValue, Series};
pub use draw::{Drawing, draw, draw_narrow};
pub use export::write_figure;
pub use figure::{Figure, FigureError, Panel};
pub use font::{FONT_REGULAR_WOFF2, FONT_SEMIBOLD_WOFF2, lacking};
pub use theme::looks_of;
