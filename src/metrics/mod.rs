//! Names, units, uncertainty and comparison of measured quantities.
//!
//! [`families`] holds every metric with its formula; [`metric_spec`] knows what a key means and which way
//! it is better. A [`Column`] holds one metric of all arms of a table by seed and by row; [`Analysis`] pools
//! its noise and measures arms and contrasts of them, each with a [`Spread`] in two parts, seeds and rows,
//! that gives interval, p-value and power in one expression. A [`Comparison`] says one of four verdicts in
//! plain words; [`holm`] corrects declared claims; [`parabola`] fits a curve.

pub mod bradley_terry;
pub mod column;
pub mod compare;
pub mod estimate;
pub mod families;
pub mod fit;
pub mod length_controlled;
mod mcnemar;
pub mod null;
mod parts;
pub mod percentile;
pub mod power;
pub mod registry;
mod rows;
mod seeds;
pub mod spec;
pub mod spread;
mod student;
pub mod turn;
pub mod verdict;
pub mod words;

#[cfg(test)]
mod simulation_tests;

pub use bradley_terry::{
    Battle, PositionBias, Winner, anchored, bootstrap_ratings, bradley_terry, win_probability, wins,
};
pub use column::{Analysis, Arm, Column, Contrast, Measured, SeedValues};
pub use compare::{Comparison, Method};
pub use estimate::{Estimate, Interval, mean};
pub use fit::{Parabola, parabola};
pub use length_controlled::{Compared, Gamed, LengthControl, fit_length_control};
pub use mcnemar::Flips;
pub use null::{NullCheck, most_by_chance, null_check, null_half};
pub use parts::Parts;
pub use percentile::percentile_interval;
pub use power::{Design, Noise, TableNoise};
pub use registry::{FAMILIES, Family, metric_set, metric_spec};
pub use rows::{RowSet, weighted_mean};
pub use spec::{Better, Metric, MetricSpec, Transform, values};
pub use spread::{POWER, Spread};
pub use turn::Turn;
pub use verdict::{ALPHA, Verdict, family_alpha, family_p, holm, holm_alphas};
pub use words::{digits, fixed, p_value, signed, two_digits};
