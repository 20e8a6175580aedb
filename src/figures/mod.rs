//! Draws plain figure data as SVG and PNG, the same bytes each time.
//!
//! A [`Figure`] is data: panels of bars, lines, training curves, scaling curves or batch layouts,
//! with intervals, seeds and the runs they came from. [`draw`] lays it out and measures every text
//! with the embedded font, so that nothing overlaps on any machine; [`rasterize`] turns the SVG into
//! a PNG with that same font; [`write_figure`] leaves `<name>.svg`, `.png`, `.csv` and `.json` in a
//! folder.

pub mod axes;
pub mod bars;
pub mod batch;
pub mod canvas;
pub mod draw;
pub mod export;
pub mod figure;
pub mod font;
pub mod labels;
pub mod lines;
mod lying;
mod measure;
mod panel;
pub mod scaling;
pub mod theme;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use canvas::TextBox;
pub use draw::{Drawing, draw};
pub use export::{figure_csv, figure_sidecar, rasterize, write_figure};
pub use figure::{
    BatchPiece, BatchRow, Chart, Curve, Figure, FigureError, Fit, Panel, Part, Point, Reference,
    Saturation, Scale, ScalingCurve, SeedCurve, SeedValue, Series,
};
pub use font::{FONT_REGULAR_WOFF2, FONT_SEMIBOLD_WOFF2};
