//! What charts are made of: means over seeds with their intervals, in series.

use crate::metrics::{Estimate, Interval};

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
    /// Which of the looks it has ([`crate::figures::looks_of`]).
    pub look: usize,
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

impl Point {
    /// The mean and the seeds' values: what must be seen.
    pub fn marks(&self) -> impl Iterator<Item = f64> {
        let mean = self.estimate.map(|e| e.value);
        mean.into_iter().chain(self.seeds.iter().map(|s| s.value))
    }

    /// The ends of the interval: what may be cut off.
    pub fn ends(&self) -> impl Iterator<Item = f64> {
        let ends = self.interval.map(|i| [i.low, i.high]);
        ends.into_iter().flatten()
    }
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

/// A known value that marks are seen against, such as that of guessing: a dotted line across the plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub value: f64,
}

/// A value that other values are seen against: a line across the plot.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceLine {
    /// What it is.
    pub name: String,
    /// Its mean, interval and seeds; `x` means nothing.
    pub point: Point,
}
