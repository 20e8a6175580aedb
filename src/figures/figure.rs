//! What a figure is: plain data, filled by whoever knows the results.

use crate::base::PathError;
use crate::figures::chart::Chart;
use crate::figures::data::Level;
use crate::metrics::Better;
use std::any::Any;

/// A figure that cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// A number is not finite, or not positive on a logarithmic axis.
    #[error("figure `{figure}` cannot show {value} on its {axis} axis")]
    Value {
        /// The figure.
        figure: String,
        /// `x` or `y`.
        axis: &'static str,
        /// The number.
        value: f64,
    },
    /// There is nothing to draw.
    #[error("figure `{figure}` has no panel")]
    Empty {
        /// The figure.
        figure: String,
    },
    /// The drawing or rasterising library refused.
    #[error("cannot draw figure `{figure}`: {message}")]
    Draw {
        /// The figure.
        figure: String,
        /// What it said.
        message: String,
    },
    /// A file cannot be written.
    #[error("cannot write figure `{figure}`")]
    Write {
        /// The figure.
        figure: String,
        /// Which file and why.
        source: PathError,
    },
}

/// One figure of one or more panels.
#[derive(Debug)]
pub struct Figure {
    /// File-name stem.
    pub name: String,
    /// Shown above.
    pub title: String,
    /// What the marks and intervals are, with n; shown small below the drawing.
    pub note: String,
    /// What the marks say, a sentence each, for the page around the figure; not drawn.
    pub findings: Vec<String>,
    /// What is missing and why, one entry each; shown below the note.
    pub missing: Vec<String>,
    /// Definition and comment for the page around the figure; not drawn.
    pub caption: String,
    /// Panels, drawn left to right and top to bottom, at most `columns` in a row.
    pub panels: Vec<Panel>,
    /// Panels in a row, at least 1.
    pub columns: usize,
    /// Ids of the runs whose results are drawn, sorted, without repeats.
    pub runs: Vec<String>,
}

/// One coordinate system.
#[derive(Debug)]
pub struct Panel {
    /// Shown above the panel; empty: none.
    pub title: String,
    /// Label of the x axis with its unit.
    pub x_label: String,
    /// Label of the y axis with its unit.
    pub y_label: String,
    /// Which way y is better; said beside its label.
    pub better: Better,
    /// Decimals of values written into the drawing.
    pub decimals: usize,
    /// Shown small below the panel, for example scores of its runs, one a line.
    pub note: String,
    /// Known values that the marks are seen against.
    pub levels: Vec<Level>,
    /// The marks.
    pub chart: Box<dyn Chart>,
}

impl Panel {
    /// Its chart, if it is of this kind.
    pub fn chart<C: Chart>(&self) -> Option<&C> {
        let chart: &dyn Any = &*self.chart;
        chart.downcast_ref()
    }
}
