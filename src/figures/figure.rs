//! What a figure is: plain data, filled by whoever knows the results.

use crate::base::PathError;
use crate::metrics::{Better, Estimate, Interval, Parabola};

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
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// File-name stem.
    pub name: String,
    /// Shown above.
    pub title: String,
    /// What the marks and intervals are, with n; shown small below the drawing.
    pub note: String,
    /// What the marks say, a sentence each; shown below the note.
    pub findings: Vec<String>,
    /// What is missing and why, one entry each; shown below the findings.
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
#[derive(Clone, Debug, PartialEq)]
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
    /// The marks.
    pub chart: Chart,
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Chart {
    /// Groups side by side: a bar or a point with its interval for each series of each category.
    Bars {
        /// Names of the groups, in order.
        categories: Vec<String>,
        /// Bars start at zero, because zero means "none"; otherwise points are drawn on a tight
        /// range, so that no length suggests a proportion.
        from_zero: bool,
        /// One point per category, `x` being the category's index.
        series: Vec<Series>,
        /// A configuration that is a line across all groups.
        reference: Option<Reference>,
    },
    /// Lines over a numeric axis with intervals; the best point is ringed.
    Lines {
        /// Scale of the x axis.
        scale: Scale,
        /// The lines.
        series: Vec<Series>,
    },
    /// Curves along training: the mean over seeds, their range, and each seed faintly.
    Training {
        /// The curves.
        curves: Vec<Curve>,
    },
    /// Points over a measured quantity with a parabola through each series, dotted, and where it
    /// saturates, ringed.
    Scaling {
        /// Scale of the x axis.
        scale: Scale,
        /// The series with their fits.
        curves: Vec<ScalingCurve>,
    },
    /// Rows of a batch as they are laid out in memory; equal lengths are equally many positions.
    Batch {
        /// The rows, from the top.
        rows: Vec<BatchRow>,
        /// Positions that the whole width stands for, at least 1.
        width: usize,
    },
}

/// A value that other values are seen against.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// What it is.
    pub name: String,
    /// Its mean, interval and seeds; `x` means nothing.
    pub point: Point,
}

/// A series with its parabola.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingCurve {
    /// The measured points, in x order.
    pub series: Series,
    /// The least-squares parabola through their means; absent with fewer than three distinct x.
    pub fit: Option<Fit>,
    /// Where the series stops gaining.
    pub saturation: Option<Saturation>,
}

/// A parabola over x, or over log₁₀ x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The parabola.
    pub parabola: Parabola,
    /// [`Scale::Log`]: over log₁₀ x.
    pub scale: Scale,
}

impl Fit {
    /// The fitted value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.parabola.at(match self.scale {
            Scale::Linear => x,
            Scale::Log => x.log10(),
        })
    }

    /// The x at which it turns.
    pub fn turn(&self) -> Option<f64> {
        let turn = self.parabola.turn()?;
        let x = match self.scale {
            Scale::Linear => turn,
            Scale::Log => 10f64.powf(turn),
        };
        x.is_finite().then_some(x)
    }
}

/// Where a series stops gaining.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saturation {
    /// Position.
    pub x: f64,
    /// Fitted value, or the mean of the best point.
    pub y: f64,
    /// Whether it is the turn of the fit; else the best observed point.
    pub on_fit: bool,
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
}

/// Scale of an x axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    Linear,
    /// Equal ratios are equally long; all values are above zero.
    Log,
}

/// A named set of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Shown in the legend; empty if it is the only one.
    pub name: String,
    /// Its points, in x order.
    pub points: Vec<Point>,
}

/// A mean over seeds at one x.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Position: a number, or the index of a category.
    pub x: f64,
    /// Mean over seeds; absent if no seed has a value.
    pub estimate: Option<Estimate>,
    /// 95 % interval of the mean.
    pub interval: Option<Interval>,
    /// The seeds' own values.
    pub seeds: Vec<SeedValue>,
    /// Why values are missing, shortly, for example `failed`; drawn where an estimate is absent.
    pub absent: String,
}

/// One seed's value.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedValue {
    /// The seed.
    pub seed: u64,
    /// The value.
    pub value: f64,
    /// Its own position, where x is measured too.
    pub x: Option<f64>,
    /// The run it came from.
    pub run: String,
}

/// A configuration along training.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Shown in the legend; empty if it is the only one.
    pub name: String,
    /// One curve per seed, each in x order.
    pub seeds: Vec<SeedCurve>,
}

/// One seed's curve.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedCurve {
    /// The seed.
    pub seed: u64,
    /// The run it came from.
    pub run: String,
    /// `(step, value)` in step order.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// Mean, lowest and highest over seeds at each step that every seed has: `(x, mean, low, high)`.
    pub fn band(&self) -> Vec<(f64, f64, f64, f64)> {
        let Some((first, rest)) = self.seeds.split_first() else {
            return Vec::new();
        };
        let at = |curve: &SeedCurve, x: f64| {
            let found = curve.points.binary_search_by(|p| p.0.total_cmp(&x)).ok()?;
            Some(curve.points[found].1)
        };
        let mut band = Vec::new();
        for &(x, y) in &first.points {
            let others: Option<Vec<f64>> = rest.iter().map(|c| at(c, x)).collect();
            let Some(others) = others else { continue };
            let (mut sum, mut low, mut high) = (y, y, y);
            for v in others {
                (sum, low, high) = (sum + v, low.min(v), high.max(v));
            }
            band.push((x, sum / self.seeds.len() as f64, low, high));
        }
        band
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_drawn_only_where_every_seed_has_a_value() {
        let seed = |seed, points: &[(f64, f64)]| SeedCurve {
            seed,
            run: String::new(),
            points: points.to_vec(),
        };
        let curve = Curve {
            name: String::new(),
            seeds: vec![
                seed(1, &[(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)]),
                seed(2, &[(0.0, 3.0), (20.0, 5.0)]),
            ],
        };
        assert_eq!(curve.band(), [(0.0, 2.0, 1.0, 3.0), (20.0, 4.0, 3.0, 5.0)]);
    }
}
