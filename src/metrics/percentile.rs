//! Percentile intervals of drawn values.

use crate::metrics::estimate::Interval;

/// The 95 % percentile interval of drawn values, interpolated as NumPy does it; (0, 0) of none.
pub fn percentile_interval(mut drawn: Vec<f64>) -> Interval {
    drawn.sort_by(f64::total_cmp);
    Interval {
        low: quantile(&drawn, 0.025),
        high: quantile(&drawn, 0.975),
    }
}

fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let at = p * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of 0, …, 40 the percentiles are at the places 1 and 39; of 0 and 1 at 0.025 and 0.975.
    #[test]
    fn percentiles_lie_between_the_sorted_values() {
        let interval = percentile_interval((0..=40).rev().map(f64::from).collect());
        assert!((interval.low - 1.0).abs() < 1e-12 && (interval.high - 39.0).abs() < 1e-12);
        let interval = percentile_interval(vec![1.0, 0.0]);
        assert!((interval.low - 0.025).abs() < 1e-12 && (interval.high - 0.975).abs() < 1e-12);
        assert!(percentile_interval(Vec::new()).half_width().abs() < 1e-12);
    }
}
