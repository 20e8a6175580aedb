//! Two configurations compared seed by seed, and families of comparisons corrected.

use crate::base::counted;
use crate::metrics::estimate::{Interval, mean, t_two_sided};
use crate::metrics::spec::Better;
use crate::metrics::words::{fixed, p_value, signed};
use serde::Serialize;

/// A corrected p-value below this is called clear.
pub const ALPHA: f64 = 0.05;

/// Where the interval and the p-value of a comparison come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "method")]
pub enum Method {
    /// Bootstrap over evaluation rows crossed with seeds, both paired.
    CrossedBootstrap {
        /// Paired seeds.
        seeds: usize,
        /// Paired evaluation rows.
        rows: usize,
        /// Bootstrap draws.
        draws: usize,
    },
    /// Student's t over differences by seed.
    PairedT {
        /// Paired seeds.
        seeds: usize,
    },
    /// A difference without a test.
    Untested {
        /// Why there is none.
        reason: String,
    },
}

impl Method {
    /// One sentence for a caption.
    pub fn describe(&self) -> String {
        match self {
            Self::CrossedBootstrap {
                seeds: 1,
                rows,
                draws,
            } => format!(
                "paired bootstrap over {} ({draws} draws); one seed, so the spread between seeds is not in it",
                counted(*rows, "evaluation row")
            ),
            Self::CrossedBootstrap { seeds, rows, draws } => format!(
                "paired bootstrap over {} crossed with {} ({draws} draws)",
                counted(*rows, "evaluation row"),
                counted(*seeds, "seed")
            ),
            Self::PairedT { seeds } => format!("paired t-test over {}", counted(*seeds, "seed")),
            Self::Untested { reason } => format!("no test: {reason}"),
        }
    }
}

/// A difference of two configurations on one metric, first minus baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Mean difference over the paired seeds, in the metric's unit.
    pub difference: f64,
    /// 95 % interval of the difference.
    pub interval: Option<Interval>,
    /// Two-sided p-value of "no difference".
    pub p: Option<f64>,
    /// The same after Holm's correction over the family; set by whoever knows the family.
    pub p_holm: Option<f64>,
    /// How they were computed.
    pub method: Method,
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Clearly better than the baseline.
    Better,
    /// Clearly worse than the baseline.
    Worse,
    /// Clearly more, of a metric that has no better side.
    More,
    /// Clearly less, of a metric that has no better side.
    Less,
    /// The data do not show a difference.
    NoClearDifference,
    /// There is no test.
    Untested,
}

impl Effect {
    /// The words used in tables and prose.
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::More => "higher",
            Self::Less => "lower",
            Self::NoClearDifference => "no clear difference",
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
            Self::NoClearDifference => "≈",
            Self::Untested => "",
        }
    }
}

impl Comparison {
    /// What the comparison says: clear only if the corrected p-value is below 0.05.
    pub fn effect(&self, better: Better) -> Effect {
        let Some(p) = self.p_holm.or(self.p) else {
            return Effect::Untested;
        };
        if p >= ALPHA || self.difference == 0.0 {
            return Effect::NoClearDifference;
        }
        match (better, self.difference > 0.0) {
            (Better::Higher, true) | (Better::Lower, false) => Effect::Better,
            (Better::Higher, false) | (Better::Lower, true) => Effect::Worse,
            (Better::Neither, true) => Effect::More,
            (Better::Neither, false) => Effect::Less,
        }
    }

    /// `−0.04 [−0.07, −0.01], better, p = .003 (Holm)`.
    pub fn words(&self, better: Better, decimals: usize) -> String {
        let mut text = signed(self.difference, decimals);
        if let Some(i) = self.interval {
            let (low, high) = (fixed(i.low, decimals), fixed(i.high, decimals));
            text += &format!(" [{low}, {high}]");
        }
        text += &format!(", {}", self.effect(better).words());
        match (self.p_holm, self.p, &self.method) {
            (Some(p), _, _) => text += &format!(", {} (Holm)", p_value(p)),
            (None, Some(p), _) => text += &format!(", {}", p_value(p)),
            (None, None, Method::Untested { reason }) => text += &format!(" ({reason})"),
            (None, None, _) => {}
        }
        text
    }
}

/// Compares by seed: `differences[i]` is configuration minus baseline at one seed.
///
/// Two or more seeds give Student's t; one gives a difference without a test. `None` without seeds.
pub fn paired_t(differences: &[f64]) -> Option<Comparison> {
    let estimate = mean(differences)?;
    let Some(stderr) = estimate.stderr else {
        return plain_difference(estimate.value, "one seed and no rows to compare").into();
    };
    // Equal differences at all seeds leave no spread: no difference at all is certain, any other is
    // as extreme as a test can say.
    let p = match (stderr > 0.0, estimate.value == 0.0) {
        (true, _) => t_two_sided(estimate.value / stderr, estimate.n - 1),
        (false, true) => Some(1.0),
        (false, false) => Some(0.0),
    };
    Some(Comparison {
        difference: estimate.value,
        interval: estimate.t_interval(0.95),
        p,
        p_holm: None,
        method: Method::PairedT { seeds: estimate.n },
    })
}

/// A difference that nothing tests, with the reason.
fn plain_difference(difference: f64, reason: &str) -> Comparison {
    Comparison {
        difference,
        interval: None,
        p: None,
        p_holm: None,
        method: Method::Untested {
            reason: reason.to_owned(),
        },
    }
}

/// Holm's step-down correction (1979) over the present p-values, in the given order.
pub fn holm(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> = p
        .iter()
        .enumerate()
        .filter_map(|(i, p)| Some((i, (*p)?)))
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let family = order.len();
    let mut corrected = vec![None; p.len()];
    let mut floor: f64 = 0.0;
    for (rank, (index, p)) in order.into_iter().enumerate() {
        floor = floor.max((p * (family - rank) as f64).min(1.0));
        corrected[index] = Some(floor);
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    // By hand: sorted .005·4 = .02, .01·3 = .03, .03·2 = .06, and .04·1 may not fall below .06.
    #[test]
    fn holm_gives_the_textbook_values_and_skips_missing_ones() {
        let got = holm(&[Some(0.01), None, Some(0.04), Some(0.03), Some(0.005)]);
        let want = [Some(0.03), None, Some(0.06), Some(0.06), Some(0.02)];
        for (g, w) in got.iter().zip(want) {
            match (g, w) {
                (Some(g), Some(w)) => assert!((g - w).abs() < 1e-12, "{g} {w}"),
                (g, w) => assert_eq!(*g, w),
            }
        }
    }

    // tests/golden/statistics.json: scipy.stats.ttest_rel([1.1, 1.3, 1.0, 1.4], [1.0, 1.0, 0.9, 1.1]).
    #[test]
    fn the_paired_t_test_is_that_of_scipy() {
        let c = paired_t(&[0.1, 0.3, 0.1, 0.3]).unwrap();
        assert!((c.difference - 0.2).abs() < 1e-12);
        assert!(
            (c.p.unwrap() - 0.040_519_326_353_834).abs() < 1e-9,
            "{:?}",
            c.p
        );
    }

    #[test]
    fn an_effect_is_said_in_plain_words() {
        let clear = Comparison {
            difference: -0.0412,
            interval: Some(Interval {
                low: -0.071,
                high: -0.0131,
            }),
            p: Some(0.001),
            p_holm: Some(0.003),
            method: Method::PairedT { seeds: 3 },
        };
        assert_eq!(
            clear.words(Better::Lower, 2),
            "−0.04 [−0.07, −0.01], better, p = .003 (Holm)"
        );
        assert_eq!(
            clear.words(Better::Higher, 2),
            "−0.04 [−0.07, −0.01], worse, p = .003 (Holm)"
        );
        assert_eq!(
            clear.words(Better::Neither, 2),
            "−0.04 [−0.07, −0.01], lower, p = .003 (Holm)"
        );
        let unclear = Comparison {
            p_holm: Some(0.41),
            ..clear
        };
        assert_eq!(
            unclear.words(Better::Lower, 2),
            "−0.04 [−0.07, −0.01], no clear difference, p = .41 (Holm)"
        );
        assert_eq!(unclear.effect(Better::Lower), Effect::NoClearDifference);
    }

    #[test]
    fn one_seed_gives_a_difference_and_says_that_nothing_tests_it() {
        let c = paired_t(&[0.25]).unwrap();
        assert_eq!(
            c.words(Better::Higher, 2),
            "+0.25, not tested (one seed and no rows to compare)"
        );
        assert_eq!(paired_t(&[]), None);
    }

    #[test]
    fn equal_runs_have_no_difference_and_no_significance() {
        let c = paired_t(&[0.0, 0.0, 0.0]).unwrap();
        assert_eq!(
            (c.difference, c.p, c.effect(Better::Higher)),
            (0.0, Some(1.0), Effect::NoClearDifference)
        );
    }
}
