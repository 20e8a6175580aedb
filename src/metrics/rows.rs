//! How far evaluation rows move a number: clustered sums of linearised residuals.

/// Which rows a number is a mean of.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSet {
    /// Weight of each row, (R,): its reply tokens, or 1.
    pub weights: Vec<f64>,
    /// Cluster of each row, (R,), counted from 0: rows of one prompt are not independent.
    pub clusters: Vec<usize>,
}

impl RowSet {
    /// Distinct clusters.
    pub fn cluster_count(&self) -> usize {
        let mut seen = self.clusters.clone();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    }

    /// Weighted mean of a row vector.
    pub(crate) fn mean(&self, values: &[f64]) -> f64 {
        let weight: f64 = self.weights.iter().sum();
        values
            .iter()
            .zip(&self.weights)
            .map(|(v, w)| v * w)
            .sum::<f64>()
            / weight
    }
}

/// Variance of a number that is a mean over rows and seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowNoise {
    /// Of new clusters of rows, at these seeds: main effect of rows and what rows and seeds do together.
    pub(crate) all: f64,
    /// The latter alone; `None` of one seed.
    pub(crate) both: Option<f64>,
    /// Degrees of freedom: clusters less one.
    pub(crate) df: f64,
}

/// Of `values`, (S, R); `None` with fewer than two clusters.
///
/// With `u_g` the sum of a cluster's weighted residuals from the mean over seeds: `G/(G−1) Σ u_g²`, the
/// clustered error of Miller (2024); of the residuals by seed the same over `S (S−1)`.
pub(crate) fn row_noise(values: &[Vec<f64>], set: &RowSet) -> Option<RowNoise> {
    let (seeds, rows) = (values.len() as f64, set.weights.len());
    let clusters = set.cluster_count();
    if clusters < 2 || values.is_empty() || values.iter().any(|v| v.len() != rows) {
        return None;
    }
    let weight: f64 = set.weights.iter().sum();
    let mean: Vec<f64> = (0..rows)
        .map(|r| values.iter().map(|v| v[r]).sum::<f64>() / seeds)
        .collect();
    let grouped = |residuals: &[f64]| -> f64 {
        let middle = set.mean(residuals);
        let mut sums = vec![0.0; set.clusters.iter().max().map_or(0, |c| c + 1)];
        for ((r, w), cluster) in residuals.iter().zip(&set.weights).zip(&set.clusters) {
            sums[*cluster] += w * (r - middle) / weight;
        }
        sums.iter().map(|s| s * s).sum()
    };
    let scale = clusters as f64 / (clusters as f64 - 1.0);
    let both = (values.len() > 1).then(|| {
        let apart = |v: &Vec<f64>| v.iter().zip(&mean).map(|(a, b)| a - b).collect::<Vec<_>>();
        let sum: f64 = values.iter().map(|v| grouped(&apart(v))).sum();
        scale * sum / (seeds * (seeds - 1.0))
    });
    Some(RowNoise {
        all: scale * grouped(&mean),
        both,
        df: clusters as f64 - 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(rows: usize) -> RowSet {
        RowSet {
            weights: vec![1.0; rows],
            clusters: (0..rows).collect(),
        }
    }

    // One seed, rows their own clusters: the squared standard error of a mean, 1, 2, 3, 6: 14 / 3 / 4.
    #[test]
    fn rows_of_their_own_have_the_error_of_a_mean() {
        let noise = row_noise(&[vec![1.0, 2.0, 3.0, 6.0]], &each(4)).unwrap();
        assert!((noise.all - 14.0 / 12.0).abs() < 1e-12);
        assert_eq!((noise.both, noise.df), (None, 3.0));
    }

    // By hand, two seeds: mean squares of rows and of the interaction over S·R.
    #[test]
    fn two_seeds_split_rows_from_what_rows_and_seeds_do_together() {
        let noise = row_noise(&[vec![1.0, 2.0, 6.0], vec![3.0, 2.0, 4.0]], &each(3)).unwrap();
        // Means by row 2, 2, 5: squares 6, over 2·3; residuals of rows and seeds −1, 0, 1 twice: 4 / 2 / (2·3).
        assert!((noise.all - 1.0).abs() < 1e-12, "{noise:?}");
        assert!((noise.both.unwrap() - 1.0 / 3.0).abs() < 1e-12, "{noise:?}");
    }

    // tests/golden/statistics.json: statsmodels, WLS on a constant with cov_type="cluster".
    #[test]
    fn clustered_and_weighted_rows_have_the_error_of_statsmodels() {
        let set = RowSet {
            weights: vec![1.0, 2.0, 1.0, 3.0, 2.0, 1.0],
            clusters: vec![0, 0, 1, 1, 2, 2],
        };
        let noise = row_noise(&[vec![1.0, 2.0, 0.5, 4.0, 3.0, 1.5]], &set).unwrap();
        assert!(
            (noise.all.sqrt() - CLUSTERED).abs() < 1e-9,
            "{}",
            noise.all.sqrt()
        );
    }

    const CLUSTERED: f64 = 0.433_012_701_892_219_3;

    #[test]
    fn one_cluster_says_nothing() {
        let set = RowSet {
            weights: vec![1.0; 3],
            clusters: vec![0; 3],
        };
        assert_eq!(row_noise(&[vec![1.0, 2.0, 3.0]], &set), None);
    }
}
