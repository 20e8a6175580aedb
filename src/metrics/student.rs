//! Student's t with any degrees of freedom, whole or not.

use statrs::distribution::{ContinuousCDF as _, StudentsT};
use std::sync::LazyLock;

/// Quantiles at 0.975 by degrees of freedom from 1: big tables ask for the same few again and again.
static QUANTILES: LazyLock<Vec<Option<f64>>> =
    LazyLock::new(|| (1..=64).map(|df| inverse(0.975, f64::from(df))).collect());

/// Beyond so many degrees of freedom t is a normal deviate to nine digits.
const MANY: f64 = 1e9;

/// Quantile of Student's t at `p`; `None` without degrees of freedom or outside 0 to 1.
pub(crate) fn t_quantile(p: f64, df: f64) -> Option<f64> {
    let whole = df as usize;
    let listed = (p - 0.975).abs() < 1e-15 && (df - whole as f64).abs() < 1e-15;
    match QUANTILES.get(whole.wrapping_sub(1)) {
        Some(known) if listed => *known,
        _ => inverse(p, df),
    }
}

fn inverse(p: f64, df: f64) -> Option<f64> {
    if !(0.0..1.0).contains(&p) || df.is_nan() || df <= 0.0 {
        return None;
    }
    let t = StudentsT::new(0.0, 1.0, df.min(MANY)).ok()?;
    // The lower tail has the digits that the upper one loses near 1.
    Some(if p > 0.5 {
        -t.inverse_cdf(1.0 - p)
    } else {
        t.inverse_cdf(p)
    })
}

/// The deviate that is exceeded, on either side, with probability `alpha`.
pub(crate) fn t_beyond(alpha: f64, df: f64) -> Option<f64> {
    if df.is_nan() || df <= 0.0 || !(0.0..=1.0).contains(&alpha) {
        return None;
    }
    if (alpha - 0.05).abs() < 1e-15 {
        return t_quantile(0.975, df);
    }
    let t = StudentsT::new(0.0, 1.0, df.min(MANY)).ok()?;
    Some(-t.inverse_cdf(alpha / 2.0))
}

/// Two-sided p-value of a t statistic.
pub(crate) fn t_two_sided(t: f64, df: f64) -> Option<f64> {
    if df.is_nan() || df <= 0.0 || t.is_nan() {
        return None;
    }
    let student = StudentsT::new(0.0, 1.0, df.min(MANY)).ok()?;
    Some((2.0 * student.cdf(-t.abs())).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    // tests/golden/statistics.json: scipy.stats.t.ppf(0.975, df).
    #[test]
    fn quantiles_of_t_are_those_of_scipy() {
        let want = [
            (1.0, 12.706_204_736_174_7),
            (2.0, 4.302_652_729_749_46),
            (4.0, 2.776_445_105_197_79),
            (9.0, 2.262_157_162_798_2),
            (30.0, 2.042_272_456_301_24),
        ];
        for (df, t) in want {
            let got = t_quantile(0.975, df).unwrap();
            assert!((got / t - 1.0).abs() < 1e-8, "df {df}: {got}");
        }
    }

    #[test]
    fn there_is_no_quantile_without_degrees_of_freedom() {
        assert_eq!((t_quantile(0.9, 0.0), t_quantile(1.5, 3.0)), (None, None));
        assert_eq!(
            (t_beyond(0.05, f64::NAN), t_two_sided(f64::NAN, 2.0)),
            (None, None)
        );
    }
}
