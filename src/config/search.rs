//! Which points of the grid run: those of a random search, whose values are drawn from ranges and points from
//! the grid; those that successive halving leaves (`halving`).

use crate::base::SeedTree;
use crate::config::halving::HalvingShape;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::Deserialize;

/// More draws than this are taken for a mistake.
pub(crate) const MOST_DRAWS: u32 = 10_000;

/// `[search]`. Absent: the grid, every combination of the axes, each in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct Search {
    /// So many points are drawn at random; each runs with every seed. Absent: the grid.
    #[serde(default)]
    random: Option<RandomSearch>,
    /// Configurations are stopped early by what short trainings say. Absent: none is.
    #[serde(default)]
    halving: Option<HalvingShape>,
}

/// Draws that the file alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RandomSearch {
    /// How many points, 1 to 10000; those that come twice count once.
    pub(crate) draws: u32,
    /// Seed of the draws; with more of them those before stay what they were.
    pub(crate) seed: u64,
}

/// From where to where the values of an axis are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ValueRange {
    /// The least value.
    pub(crate) from: f64,
    /// The greatest value.
    pub(crate) to: f64,
    /// Whether each power of ten is as likely as another, as for learning rates. Absent: no, each value is.
    #[serde(default)]
    pub(crate) log: bool,
    /// Whether only whole numbers are drawn, as for steps. Absent: no.
    #[serde(default)]
    pub(crate) whole: bool,
}

impl ValueRange {
    /// What is wrong with it, and what to do.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let Self { from, to, log, .. } = *self;
        if !(from.is_finite() && to.is_finite() && from < to) {
            return Some(("`from` must be less than `to`", "exchange the two"));
        }
        if log && from <= 0.0 {
            return Some((
                "a range with `log` begins above 0",
                "raise `from`, or remove `log`",
            ));
        }
        None
    }

    /// The value of a draw, of three digits: more would be written nowhere, and decide nothing.
    fn draw(&self, seed: &SeedTree) -> f64 {
        let share: f64 = seed.rng().random();
        let between = |from: f64, to: f64| from + share * (to - from);
        let value = if self.log {
            between(self.from.ln(), self.to.ln()).exp()
        } else {
            between(self.from, self.to)
        };
        let value = if self.whole {
            value.round()
        } else {
            format!("{value:.2e}").parse().unwrap_or(value)
        };
        value.clamp(self.from, self.to)
    }
}

impl RandomSearch {
    /// The seed of an axis's part in a draw.
    fn of(self, axis: &str, draw: u32) -> SeedTree {
        SeedTree::root(self.seed).child(axis).index(u64::from(draw))
    }

    /// The distinct values that draws take of a range, in the order in which they come, and for each draw
    /// the place of its value among them.
    pub(crate) fn values(self, axis: &str, range: &ValueRange) -> (Vec<f64>, Vec<usize>) {
        let (mut values, mut drawn): (Vec<f64>, Vec<usize>) = (Vec::new(), Vec::new());
        for draw in 0..self.draws {
            let value = range.draw(&self.of(axis, draw));
            let known = values
                .iter()
                .position(|found| found.total_cmp(&value).is_eq());
            drawn.push(known.unwrap_or(values.len()));
            if known.is_none() {
                values.push(value);
            }
        }
        (values, drawn)
    }

    /// For each draw one of so many values that are listed.
    pub(crate) fn choices(self, axis: &str, count: usize) -> Vec<usize> {
        let choose = |draw| self.of(axis, draw).rng().random_range(0..count.max(1));
        (0..self.draws).map(choose).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_lie_in_their_range_and_more_of_them_leave_those_before() {
        let range = ValueRange {
            from: 1e-6,
            to: 1e-3,
            log: true,
            whole: false,
        };
        let search = |draws| RandomSearch { draws, seed: 1 };
        let (values, drawn) = search(200).values("lr", &range);
        assert!(values.iter().all(|value| (1e-6..=1e-3).contains(value)));
        // Each power of ten has a third of them: 67 of 200, give or take four standard deviations.
        let below = drawn.iter().filter(|at| values[**at] < 1e-5).count();
        assert!((40..=94).contains(&below), "{below}");
        let (few, _) = search(10).values("lr", &range);
        assert_eq!(few[..], values[..few.len()]);
        assert_ne!(search(10).values("beta", &range).0, few);
    }

    #[test]
    fn whole_numbers_that_come_twice_are_one_value() {
        let range = ValueRange {
            from: 1.0,
            to: 3.0,
            log: false,
            whole: true,
        };
        let (mut values, drawn) = RandomSearch { draws: 50, seed: 3 }.values("steps", &range);
        assert_eq!(drawn.len(), 50);
        values.sort_by(f64::total_cmp);
        assert_eq!(values, [1.0, 2.0, 3.0]);
    }
}
