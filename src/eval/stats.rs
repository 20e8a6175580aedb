//! Means over rows with their standard errors.

use crate::metrics::{Metric, Transform, values};
use crate::rundir::MetricValue;
use std::collections::BTreeMap;

/// Mean of `values` with its standard error; none for a single value.
pub fn mean(values: &[f64]) -> MetricValue {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    MetricValue {
        value: mean,
        stderr: (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt()),
        n: n as u64,
    }
}

/// The mean of every metric over the items to which it applies, by key.
pub fn mean_metrics<'a, T: ?Sized + 'static>(
    metrics: &'static [Metric<T>],
    items: impl IntoIterator<Item = &'a T>,
) -> BTreeMap<String, MetricValue> {
    let mut by_key: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (key, value) in items.into_iter().flat_map(|item| values(metrics, item)) {
        by_key.entry(key).or_default().push(value);
    }
    let means = by_key.into_iter();
    means
        .map(|(key, values)| (key.to_owned(), mean(&values)))
        .collect()
}

/// A metric from the mean of its per-row values; the error to first order.
pub(crate) fn transformed(mean: MetricValue, transform: Transform) -> MetricValue {
    let value = transform.apply(mean.value);
    let slope = match transform {
        Transform::Identity => 1.0,
        Transform::Exp => value,
    };
    MetricValue {
        value,
        stderr: mean.stderr.map(|error| error * slope),
        n: mean.n,
    }
}

/// `sum(sums) / sum(weights)`, with the standard error of a ratio over rows (linearised): rows are
/// the independent items, not the tokens within them. `n` counts rows.
pub(crate) fn ratio(sums: &[f64], weights: &[f64]) -> MetricValue {
    let n = sums.len();
    let weight: f64 = weights.iter().sum();
    let value = sums.iter().sum::<f64>() / weight;
    let rests = sums.iter().zip(weights).map(|(s, w)| s - value * w);
    let squares: f64 = rests.map(|rest| rest * rest).sum();
    let stderr = (squares * n as f64 / (n.max(2) - 1) as f64).sqrt() / weight;
    MetricValue {
        value,
        stderr: (n > 1).then_some(stderr),
        n: n as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, error sqrt(14 / 3 / 4).
    #[test]
    fn a_mean_carries_its_standard_error() {
        let got = mean(&[1.0, 2.0, 3.0, 6.0]);
        assert!((got.value - 3.0).abs() < 1e-12);
        assert!((got.stderr.unwrap() - (14.0f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!((got.n, mean(&[5.0]).stderr), (4, None));
    }

    #[test]
    fn with_equal_weights_a_ratio_is_a_mean() {
        let plain = mean(&[1.0, 2.0, 3.0, 6.0]);
        let got = ratio(&[2.0, 4.0, 6.0, 12.0], &[2.0; 4]);
        assert!((got.value - plain.value).abs() < 1e-12);
        assert!((got.stderr.unwrap() - plain.stderr.unwrap()).abs() < 1e-12);
    }

    // 10 of 2 and 2 of 4: 12 / 6 = 2, not the mean of 5 and 0.5.
    #[test]
    fn a_ratio_weights_its_rows() {
        assert!((ratio(&[10.0, 2.0], &[2.0, 4.0]).value - 2.0).abs() < 1e-12);
    }
}
