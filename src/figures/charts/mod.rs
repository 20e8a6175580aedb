//! The kinds of charts, one a file: data that implements [`Chart`](crate::figures::Chart).

mod bars;
mod batch;
mod horizontal_bars;
mod lines;
mod scaling;
mod training;

pub use bars::BarChart;
pub use batch::{BatchChart, BatchPiece, BatchRow, Part};
pub use lines::LineChart;
pub use scaling::{Fit, Saturation, ScalingChart, ScalingCurve};
pub use training::{Curve, SeedCurve, TrainingChart};
