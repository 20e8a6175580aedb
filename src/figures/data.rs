//! What charts are made of: means over seeds with their intervals, in series.

use crate::metrics::{Estimate, Interval};
use std::collections::BTreeMap;

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

/// More seeds than this are a smear.
const MOST_SEED_LINES: usize = 12;

impl Series {
    /// For each seed with values at two points or more those points, by index, and its values; none of a single
    /// seed, or of more than can be told apart.
    pub fn seed_lines(&self) -> Vec<Vec<(usize, f64)>> {
        let mut lines: BTreeMap<u64, Vec<(usize, f64)>> = BTreeMap::new();
        for (index, point) in self.points.iter().enumerate() {
            for seed in &point.seeds {
                lines
                    .entry(seed.seed)
                    .or_default()
                    .push((index, seed.value));
            }
        }
        if !(2..=MOST_SEED_LINES).contains(&lines.len()) {
            return Vec::new();
        }
        lines.into_values().filter(|line| line.len() > 1).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two points of seeds with these values.
    fn series(seeds: &[(u64, [Option<f64>; 2])]) -> Series {
        let point = |index: usize| Point {
            x: index as f64,
            estimate: None,
            interval: None,
            seeds: seeds
                .iter()
                .filter_map(|(seed, values)| {
                    Some(SeedValue {
                        seed: *seed,
                        value: values[index]?,
                        x: None,
                        run: String::new(),
                    })
                })
                .collect(),
            absent: String::new(),
        };
        Series {
            name: String::new(),
            look: 0,
            points: vec![point(0), point(1)],
        }
    }

    #[test]
    fn a_seed_is_a_line_if_it_has_two_points_and_there_are_few() {
        let lines = series(&[
            (1, [Some(0.5), Some(0.7)]),
            (2, [Some(0.6), None]),
            (3, [Some(0.4), Some(0.8)]),
        ]);
        let want = [[(0, 0.5), (1, 0.7)], [(0, 0.4), (1, 0.8)]];
        assert_eq!(lines.seed_lines(), want.map(|line| line.to_vec()));
        assert!(
            series(&[(1, [Some(0.5), Some(0.7)])])
                .seed_lines()
                .is_empty()
        );
        let many: Vec<_> = (0..13).map(|seed| (seed, [Some(0.5), Some(0.7)])).collect();
        assert!(series(&many).seed_lines().is_empty());
        assert_eq!(series(&many[1..]).seed_lines().len(), 12);
    }
}
