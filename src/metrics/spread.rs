//! How far a number would move with new seeds and new rows, and what follows from it: its interval, its
//! p-value, and the smallest difference that could be seen.

use crate::metrics::student::{t_beyond, t_quantile, t_two_sided};

/// The variance of a number in two parts, each with the degrees of freedom of its estimate.
///
/// The half width at level `1 - α` is `sqrt(t²(α, seeds_df)·seeds + t²(α, rows_df)·rows)`, each part with
/// its own quantile (Graybill and Wang 1980, in the form of Howe); the p-value is the α at which that
/// half width is the number. No draws: it goes on below any floor, so that corrections mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Variance from seed to seed. It holds that of seed and row together, `both`.
    pub seeds: f64,
    /// Its degrees of freedom.
    pub seeds_df: f64,
    /// Variance from row to row (or cluster to cluster), common to all seeds.
    pub rows: f64,
    /// Its degrees of freedom.
    pub rows_df: f64,
    /// The part of `seeds` that more rows would make smaller: noise of single rows at single seeds.
    pub both: f64,
    /// The part of `seeds` that is the rows': seeds that were measured on other rows differ by them.
    pub between: f64,
}

/// Power at which a smallest visible difference is stated.
pub const POWER: f64 = 0.8;

impl Spread {
    /// Variance of the number.
    pub fn variance(&self) -> f64 {
        self.seeds + self.rows
    }

    /// Half width of the interval that misses with probability `alpha`; `None` if a part cannot be
    /// estimated.
    pub fn half_width(&self, alpha: f64) -> Option<f64> {
        let part = |variance: f64, df: f64| -> Option<f64> {
            if variance == 0.0 {
                return Some(0.0);
            }
            Some(t_beyond(alpha, df)?.powi(2) * variance)
        };
        Some((part(self.seeds, self.seeds_df)? + part(self.rows, self.rows_df)?).sqrt())
    }

    /// Two-sided p-value of `difference`; `None` without any spread.
    pub fn p_value(&self, difference: f64) -> Option<f64> {
        let size = difference.abs();
        if self.variance() <= 0.0 || !size.is_finite() {
            return None;
        }
        let standard = size / self.variance().sqrt();
        if self.rows == 0.0 || self.seeds == 0.0 {
            let one = if self.rows == 0.0 {
                self.seeds_df
            } else {
                self.rows_df
            };
            return t_two_sided(standard, one);
        }
        // The p-value lies between those of one quantile for both parts.
        let (few, many) = (
            self.seeds_df.min(self.rows_df),
            self.seeds_df.max(self.rows_df),
        );
        let mut low = t_two_sided(standard, many)?.max(f64::MIN_POSITIVE).ln();
        let mut high = t_two_sided(standard, few)?.max(f64::MIN_POSITIVE).ln();
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if high - low < 1e-10 {
                break;
            }
            if self.half_width(middle.exp())? > size {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(f64::midpoint(low, high).exp().min(1.0))
    }

    /// The smallest true difference that a test at `alpha` sees with probability [`POWER`].
    pub fn smallest_visible(&self, alpha: f64) -> Option<f64> {
        let part = |variance: f64, df: f64| -> Option<f64> {
            if variance == 0.0 {
                return Some(0.0);
            }
            Some(t_quantile(POWER, df)?.powi(2) * variance)
        };
        let reach = part(self.seeds, self.seeds_df)? + part(self.rows, self.rows_df)?;
        Some(self.half_width(alpha)? + reach.sqrt())
    }

    /// Shares of the variance: seeds alone, rows alone, and both together; `None` without any.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let all = self.variance();
        let between = self.between.min(self.seeds);
        let both = self.both.min(self.seeds - between);
        let parts = [self.seeds - between - both, self.rows + between, both];
        (all > 0.0).then(|| parts.map(|part| part / all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Spread = Spread {
        seeds: 0.0004,
        seeds_df: 10.0,
        rows: 0.0001,
        rows_df: 160.0,
        both: 0.0003,
        between: 0.0,
    };

    // tests/golden/statistics.json: scipy.stats.t.ppf and scipy.optimize.brentq of the same expression.
    #[test]
    fn interval_and_p_value_are_one_expression() {
        let half = TWO.half_width(0.05).unwrap();
        assert!((half - HALF).abs() < 1e-9, "{half}");
        assert!((TWO.p_value(half).unwrap() - 0.05).abs() < 1e-8);
        for (difference, p) in P_VALUES {
            let got = TWO.p_value(difference).unwrap();
            assert!((got / p - 1.0).abs() < 1e-5, "{difference}: {got} {p}");
        }
    }

    const HALF: f64 = 0.048_742_842_701_894_66;
    const P_VALUES: [(f64, f64); 3] = [
        (0.03, 0.204_339_749_430_264_3),
        (0.06, 0.020_103_233_738_553_3),
        (0.3, 4.187_343_908_023_29e-8),
    ];

    #[test]
    fn a_part_alone_is_a_t_test() {
        let seeds = Spread { rows: 0.0, ..TWO };
        assert_eq!(seeds.p_value(0.04), t_two_sided(2.0, 10.0));
        let rows = Spread {
            seeds: 0.0,
            both: 0.0,
            ..TWO
        };
        assert_eq!(rows.p_value(0.02), t_two_sided(2.0, 160.0));
        assert_eq!(Spread::default().p_value(0.02), None);
    }

    #[test]
    fn shares_of_the_noise_add_up_to_one() {
        let shares = TWO.shares().unwrap();
        for (got, want) in shares.into_iter().zip([0.2, 0.2, 0.6]) {
            assert!((got - want).abs() < 1e-12, "{shares:?}");
        }
    }

    // t(0.975, 10) + t(0.8, 10) of scipy: 2.228139 + 0.879058, times 0.02.
    #[test]
    fn the_smallest_visible_difference_is_two_quantiles_away() {
        let seeds = Spread { rows: 0.0, ..TWO };
        let got = seeds.smallest_visible(0.05).unwrap();
        assert!(
            (got - 0.02 * (2.228_138_852 + 0.879_057_828)).abs() < 1e-8,
            "{got}"
        );
    }
}
