//! A value with its uncertainty, and intervals by Student's t.

use crate::metrics::student::t_quantile;
use serde::{Deserialize, Serialize};

/// Bounds of an interval, `low <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Interval {
    /// So far to both sides of `middle`.
    pub fn around(middle: f64, half: f64) -> Self {
        Self {
            low: middle - half,
            high: middle + half,
        }
    }

    /// Whether zero lies within.
    pub fn holds_zero(self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }

    /// Whether all of it lies within `±delta`.
    pub fn within(self, delta: f64) -> bool {
        self.low >= -delta && self.high <= delta
    }

    /// Half its width.
    pub fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// A measured value, never bare: its standard error and how many repeats it is the mean of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value, in the metric's unit.
    pub value: f64,
    /// Standard error of the value; `None` if one repeat cannot tell.
    pub stderr: Option<f64>,
    /// Number of repeats.
    pub n: usize,
}

impl Estimate {
    /// The two-sided interval at `level` (0.95) by Student's t with `n - 1` degrees of freedom.
    ///
    /// `None` for a single repeat, which has no spread to speak of.
    pub fn t_interval(&self, level: f64) -> Option<Interval> {
        let half = t_quantile(0.5 + level / 2.0, self.n.checked_sub(1)? as f64)? * self.stderr?;
        Some(Interval {
            low: self.value - half,
            high: self.value + half,
        })
    }

    /// The standard deviation of one repeat.
    pub fn std_dev(&self) -> Option<f64> {
        self.stderr.map(|s| s * (self.n as f64).sqrt())
    }
}

/// The mean of repeats with the standard error of that mean; `None` if there are none.
pub fn mean(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let value = values.iter().sum::<f64>() / n as f64;
    let stderr = (n > 1).then(|| {
        let squares: f64 = values.iter().map(|v| (v - value).powi(2)).sum();
        (squares / (n - 1) as f64 / n as f64).sqrt()
    });
    Some(Estimate { value, stderr, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance * b.abs().max(1.0)
    }

    // By hand: mean 2, squares 1 + 0 + 1, variance 1, standard error 1/sqrt(3).
    #[test]
    fn the_mean_of_three_seeds_has_the_hand_computed_error() {
        let e = mean(&[1.0, 2.0, 3.0]).unwrap();
        assert!(close(e.value, 2.0, 1e-15));
        assert!(close(e.stderr.unwrap(), 1.0 / 3f64.sqrt(), 1e-15));
        assert!(close(e.std_dev().unwrap(), 1.0, 1e-15));
    }

    // tests/golden/statistics.json: scipy.stats.t.interval(0.95, 2, 2.0, 1/sqrt(3)).
    #[test]
    fn the_interval_of_three_seeds_is_that_of_scipy() {
        let i = mean(&[1.0, 2.0, 3.0]).unwrap().t_interval(0.95).unwrap();
        assert!(close(i.low, -0.484_137_711_750_330, 1e-9), "{}", i.low);
        assert!(close(i.high, 4.484_137_711_750_33, 1e-9));
    }

    #[test]
    fn one_seed_has_a_mean_and_no_interval() {
        let e = mean(&[0.7]).unwrap();
        assert_eq!((e.stderr, e.t_interval(0.95)), (None, None));
        assert_eq!(mean(&[]), None);
    }
}
