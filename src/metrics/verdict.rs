//! What a comparison says, and corrections over a family of them.

use crate::metrics::estimate::Interval;
use crate::metrics::spec::Better;
use serde::Serialize;

/// A family's chance of a false alarm.
pub const ALPHA: f64 = 0.05;

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Clearly better than the baseline.
    Better,
    /// Clearly worse than the baseline.
    Worse,
    /// Clearly more, of a metric that has no better side.
    More,
    /// Clearly less, of a metric that has no better side.
    Less,
    /// The whole interval lies within what makes no difference.
    Equivalent,
    /// The interval holds zero and also differences that would matter.
    Unresolved,
    /// There is no test.
    Untested,
}

impl Verdict {
    /// Of an interval: clear if it does not hold zero, equivalent if it lies within `±delta`.
    pub fn of(interval: Interval, better: Better, delta: Option<f64>) -> Self {
        if interval.holds_zero() {
            let within = delta.is_some_and(|d| interval.within(d));
            return if within {
                Self::Equivalent
            } else {
                Self::Unresolved
            };
        }
        match (better, interval.low > 0.0) {
            (Better::Higher, true) | (Better::Lower, false) => Self::Better,
            (Better::Higher, false) | (Better::Lower, true) => Self::Worse,
            (Better::Neither, true) => Self::More,
            (Better::Neither, false) => Self::Less,
        }
    }

    /// The word used in tables and prose.
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::More => "higher",
            Self::Less => "lower",
            Self::Equivalent => "equivalent",
            Self::Unresolved => "unresolved",
            Self::Untested => "not tested",
        }
    }

    /// One character for narrow tables; meaning does not hang on colour.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Better => "▲",
            Self::Worse => "▼",
            Self::More => "↑",
            Self::Less => "↓",
            Self::Equivalent => "=",
            Self::Unresolved => "?",
            Self::Untested => "",
        }
    }
}

/// Šidák's level (1967) of one of `family` comparisons: together they miss with probability [`ALPHA`], at
/// most, however two-sided t statistics are correlated.
pub fn family_alpha(family: usize) -> f64 {
    -((1.0 - ALPHA).ln() / family.max(1) as f64).exp_m1()
}

/// `p` after Šidák's correction over `family` comparisons.
pub fn family_p(p: f64, family: usize) -> f64 {
    -((-p).ln_1p() * family.max(1) as f64).exp_m1()
}

/// Holm's step-down correction (1979) over the present p-values, in the given order.
pub fn holm(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut corrected = vec![None; p.len()];
    let mut floor: f64 = 0.0;
    let order = by_size(p);
    for (rank, (index, p)) in order.iter().enumerate() {
        floor = floor.max((p * (order.len() - rank) as f64).min(1.0));
        corrected[*index] = Some(floor);
    }
    corrected
}

/// The level at which Holm's procedure tests each: [`ALPHA`] over those that are left, and that of the first
/// which is not rejected for all behind it. Intervals at these levels hold zero exactly where the corrected
/// p-value is not below [`ALPHA`].
pub fn holm_alphas(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut alphas = vec![None; p.len()];
    let order = by_size(p);
    let mut stopped: Option<f64> = None;
    for (rank, (index, p)) in order.iter().enumerate() {
        let alpha = stopped.unwrap_or(ALPHA / (order.len() - rank) as f64);
        alphas[*index] = Some(alpha);
        if *p > alpha {
            stopped = Some(alpha);
        }
    }
    alphas
}

/// Present p-values with their places, smallest first.
fn by_size(p: &[Option<f64>]) -> Vec<(usize, f64)> {
    let present = p.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?)));
    let mut order: Vec<(usize, f64)> = present.collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[Option<f64>], want: &[Option<f64>]) {
        for (g, w) in got.iter().zip(want) {
            match (g, w) {
                (Some(g), Some(w)) => assert!((g - w).abs() < 1e-12, "{g} {w}"),
                (g, w) => assert_eq!(g, w),
            }
        }
        assert_eq!(got.len(), want.len());
    }

    // By hand: sorted .005·4 = .02, .01·3 = .03, .03·2 = .06, and .04·1 may not fall below .06.
    #[test]
    fn holm_gives_the_textbook_values_and_skips_missing_ones() {
        let p = [Some(0.01), None, Some(0.04), Some(0.03), Some(0.005)];
        close(
            &holm(&p),
            &[Some(0.03), None, Some(0.06), Some(0.06), Some(0.02)],
        );
        // .005 and .01 are below .05/4 and .05/3; .03 is not below .05/2, which then serves .04, too.
        let (a, b) = (ALPHA / 3.0, ALPHA / 2.0);
        close(
            &holm_alphas(&p),
            &[Some(a), None, Some(b), Some(b), Some(ALPHA / 4.0)],
        );
    }

    #[test]
    fn levels_and_p_values_of_a_family_are_inverse() {
        assert!((family_p(family_alpha(12), 12) - ALPHA).abs() < 1e-15);
        assert!((family_alpha(2) - (1.0 - 0.95f64.sqrt())).abs() < 1e-15);
        // Where 1 − p would be 1.
        assert!((family_p(1e-20, 5) / 5e-20 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_interval_has_one_of_four_verdicts() {
        let of = |low, high| Verdict::of(Interval { low, high }, Better::Lower, Some(0.02));
        let want = [
            Verdict::Better,
            Verdict::Worse,
            Verdict::Equivalent,
            Verdict::Unresolved,
        ];
        let got = [
            of(-0.3, -0.1),
            of(0.001, 0.01),
            of(-0.02, 0.01),
            of(-0.01, 0.03),
        ];
        assert_eq!(got, want);
        let interval = Interval {
            low: -0.01,
            high: 0.01,
        };
        assert_eq!(
            Verdict::of(interval, Better::Lower, None),
            Verdict::Unresolved
        );
    }
}
