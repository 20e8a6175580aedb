//! Rows that one model gets right and another wrong: McNemar's exact test.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF as _};

/// How two models stand on the same rows, each of which is right or wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flips {
    /// Right by both.
    pub both: usize,
    /// Wrong by the first and right by the second.
    pub gained: usize,
    /// Right by the first and wrong by the second.
    pub lost: usize,
    /// Wrong by both.
    pub neither: usize,
}

impl Flips {
    /// Counts a row.
    pub fn count(&mut self, first: bool, second: bool) {
        let place = match (first, second) {
            (true, true) => &mut self.both,
            (false, true) => &mut self.gained,
            (true, false) => &mut self.lost,
            (false, false) => &mut self.neither,
        };
        *place += 1;
    }

    /// Two-sided p-value of "a row that flips does so either way alike", exact: the binomial probability of as few
    /// rows on one side as there are, or fewer, twice (McNemar 1947; `scipy.stats.binomtest`). Rows on which both agree
    /// say nothing.
    pub fn p_value(&self) -> f64 {
        let flipped = self.gained + self.lost;
        let fewer = self.gained.min(self.lost) as u64;
        match Binomial::new(0.5, flipped as u64) {
            Ok(binomial) if flipped > 0 => (2.0 * binomial.cdf(fewer)).min(1.0),
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statrs has the tail by its incomplete beta function, scipy by a sum.
    const CLOSE: f64 = 1e-12;

    // tests/golden/mcnemar.json: scipy.stats.binomtest(min, gained + lost, 0.5).pvalue.
    #[test]
    fn p_values_are_those_of_scipy() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mcnemar.json");
        let text = std::fs::read_to_string(path).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            let count = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
            let flips = Flips {
                both: 7,
                gained: count("gained"),
                lost: count("lost"),
                neither: 9,
            };
            let (got, want) = (flips.p_value(), case["p"].as_f64().unwrap());
            assert!(
                (got - want).abs() <= CLOSE * want.max(1e-3),
                "{case}: {got}"
            );
        }
    }

    #[test]
    fn rows_are_counted_by_who_is_right() {
        let mut flips = Flips::default();
        for (first, second) in [
            (true, true),
            (false, true),
            (false, true),
            (true, false),
            (false, false),
        ] {
            flips.count(first, second);
        }
        assert_eq!(
            (flips.both, flips.gained, flips.lost, flips.neither),
            (1, 2, 1, 1)
        );
        assert!((Flips::default().p_value() - 1.0).abs() < f64::EPSILON);
    }
}
