//! Names, units, uncertainty and comparison of measured quantities.
//!
//! [`families`] holds every metric with its formula; [`metric_spec`] knows what a key means and which way
//! it is better. [`mean`] turns repeats into an
//! [`Estimate`] with a t-interval; [`paired_t`] and [`crossed_bootstrap`] compare two
//! configurations seed by seed and row by row; [`holm`] corrects a family of comparisons;
//! [`parabola`] fits a curve; [`bradley_terry`] and [`fit_length_control`] rate models by a judge's verdicts; and [`Comparison::words`] says the result in plain words, also when there is nothing to say.

pub mod bootstrap;
pub mod bradley_terry;
pub mod compare;
pub mod estimate;
pub mod families;
pub mod fit;
pub mod length_controlled;
pub mod percentile;
pub mod registry;
pub mod spec;
pub mod words;

pub use bootstrap::{BOOTSTRAP_DRAWS, PairedRows, crossed_bootstrap};
pub use bradley_terry::{
    Battle, PositionBias, Winner, anchored, bootstrap_ratings, bradley_terry, win_probability, wins,
};
pub use compare::{Comparison, Effect, Method, holm, paired_t};
pub use estimate::{Estimate, Interval, mean};
pub use fit::{Parabola, parabola};
pub use length_controlled::{Compared, Gamed, LengthControl, fit_length_control};
pub use percentile::percentile_interval;
pub use registry::{FAMILIES, Family, metric_set, metric_spec};
pub use spec::{Better, Metric, MetricSpec, Transform, values};
pub use words::{digits, fixed};
