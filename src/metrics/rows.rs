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

    /// Weighted mean of a row vector, over the rows that it has: NaN stands for the others.
    pub(crate) fn mean(&self, values: &[f64]) -> f64 {
        weighted_mean(values, &self.weights)
    }
}

/// Weighted mean of values, (R,), over those that are there: NaN stands for the others.
pub fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let known = || values.iter().zip(weights).filter(|(v, _)| !v.is_nan());
    let weight: f64 = known().map(|(_, w)| w).sum();
    known().map(|(v, w)| v * w).sum::<f64>() / weight
}

/// Variance of a number that is a mean over rows and seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowNoise {
    /// Of new clusters of rows, at these seeds: main effect of rows and what rows and seeds do together.
    pub(crate) all: f64,
    /// Of it what the spread of seeds holds already, as they differ by it; `None` of one seed. Where all seeds
    /// have the same rows that is what rows and seeds do together.
    pub(crate) both: Option<f64>,
    /// Of that the main effect of rows, which seeds on other rows differ by.
    pub(crate) between: f64,
    /// Degrees of freedom: clusters less one.
    pub(crate) df: f64,
    /// Rows that were measured at one seed or more.
    pub(crate) rows: usize,
    /// Their clusters.
    pub(crate) clusters: usize,
}

/// Of `values`, (S, R), NaN where a seed was measured on other rows; `None` with fewer than two clusters.
///
/// With `u_g` the sum of a cluster's weighted residuals from the mean over seeds: `G/(G−1) Σ u_g²`, the
/// clustered error of Miller (2024); of the residuals by seed the same over `S (S−1)`.
pub(crate) fn row_noise(values: &[Vec<f64>], set: &RowSet) -> Option<RowNoise> {
    let rows = set.weights.len();
    if values.is_empty() || values.iter().any(|v| v.len() != rows) {
        return None;
    }
    if values.iter().flatten().any(|v| v.is_nan()) {
        return partly_common(values, set);
    }
    let seeds = values.len() as f64;
    let clusters = set.cluster_count();
    if clusters < 2 {
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
        between: 0.0,
        df: clusters as f64 - 1.0,
        rows,
        clusters,
    })
}

/// The rows of one seed among those of all.
struct OwnRows {
    /// Which it has, (R,).
    has: Vec<bool>,
    /// For each cluster the sum of weighted residuals from the seed's own mean, so scaled that the squares
    /// add up to the variance of that mean.
    sums: Vec<f64>,
    clusters: usize,
}

impl OwnRows {
    fn of(values: &[f64], set: &RowSet) -> Option<Self> {
        let has: Vec<bool> = values.iter().map(|v| !v.is_nan()).collect();
        let middle = set.mean(values);
        let mut weight = 0.0;
        let count = set.clusters.iter().max().map_or(0, |c| c + 1);
        let (mut sums, mut known) = (vec![0.0; count], vec![false; count]);
        let rows = values.iter().zip(&set.weights).zip(&set.clusters);
        for ((value, w), cluster) in rows.filter(|((value, _), _)| !value.is_nan()) {
            weight += w;
            known[*cluster] = true;
            sums[*cluster] += w * (value - middle);
        }
        let clusters = known.iter().filter(|k| **k).count();
        let scale = (clusters as f64 / (clusters as f64 - 1.0)).sqrt() / weight;
        sums.iter_mut().for_each(|s| *s *= scale);
        (clusters > 1).then_some(Self {
            has,
            sums,
            clusters,
        })
    }

    /// The covariance of two seeds' means by the clusters that they share.
    fn shared(&self, other: &Self) -> f64 {
        self.sums.iter().zip(&other.sums).map(|(a, b)| a * b).sum()
    }
}

/// [`row_noise`] of seeds that were measured on different rows, as those of cross-validation are.
///
/// With `q_st` the covariance of the means of seeds s and t by the clusters of rows that both have, the mean
/// over seeds has the variance `Σ q_st / S²`; the spread between seeds over S holds `Σ q_ss / S²` less
/// `Σ q_st / (S² (S−1))` of it, s ≠ t, which leaves the mean covariance of two seeds. With the same rows at all
/// seeds this is what [`row_noise`] says; with no row at two of them the spread of seeds holds everything.
fn partly_common(values: &[Vec<f64>], set: &RowSet) -> Option<RowNoise> {
    let own: Vec<OwnRows> = values
        .iter()
        .map(|v| OwnRows::of(v, set))
        .collect::<Option<_>>()?;
    let seeds = own.len() as f64;
    let (mut own_sum, mut shared_sum, mut main) = (0.0, 0.0, 0.0);
    for (s, a) in own.iter().enumerate() {
        own_sum += a.shared(a);
        // What the same rows do at another seed, they do at this one.
        let (mut same, mut twins) = (0.0, 0.0);
        for (_, b) in own.iter().enumerate().filter(|(t, _)| *t != s) {
            let shared = a.shared(b);
            shared_sum += shared;
            if a.has == b.has {
                (same, twins) = (same + shared, twins + 1.0);
            }
        }
        if twins > 0.0 {
            main += same / twins;
        }
    }
    let of_pairs = if own.len() > 1 {
        shared_sum / (seeds * seeds * (seeds - 1.0))
    } else {
        0.0
    };
    let both = (own_sum / (seeds * seeds) - of_pairs).max(0.0);
    let measured = |r: &usize| own.iter().any(|seed| seed.has[*r]);
    let rows: Vec<usize> = (0..set.weights.len()).filter(measured).collect();
    let mut clusters: Vec<usize> = rows.iter().map(|r| set.clusters[*r]).collect();
    clusters.sort_unstable();
    clusters.dedup();
    let mut sides: Vec<&Vec<bool>> = own.iter().map(|seed| &seed.has).collect();
    sides.sort_unstable();
    sides.dedup();
    let least = own.iter().map(|seed| seed.clusters).min()?;
    Some(RowNoise {
        all: ((own_sum + shared_sum) / (seeds * seeds)).max(both),
        both: (own.len() > 1).then_some(both),
        between: (main / (seeds * seeds) - of_pairs).clamp(0.0, both),
        df: clusters.len().saturating_sub(sides.len()).max(least - 1) as f64,
        rows: rows.len(),
        clusters: clusters.len(),
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

    // Two seeds on rows 0 to 2, two on rows 3 to 5. By hand, each seed's residuals over 3 with 3 / 2 of scale:
    // q of a seed with itself 1/3, 1/3, 0 and 4/3, of the first two 1/6, of the others none.
    #[test]
    fn seeds_on_other_rows_differ_by_them() {
        let gap = f64::NAN;
        let values = [
            vec![1.0, 2.0, 3.0, gap, gap, gap],
            vec![2.0, 1.0, 3.0, gap, gap, gap],
            vec![gap, gap, gap, 4.0, 4.0, 4.0],
            vec![gap, gap, gap, 2.0, 4.0, 6.0],
        ];
        let noise = row_noise(&values, &each(6)).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(noise.all, (2.0 + 1.0 / 3.0) / 16.0), "{noise:?}");
        let both = 2.0 / 16.0 - (1.0 / 3.0) / 48.0;
        assert!(near(noise.both.unwrap(), both), "{noise:?}");
        // The same rows at another seed say 1/6, 1/6, 0 and 0 of the main effect.
        let between = (1.0 / 3.0) / 16.0 - (1.0 / 3.0) / 48.0;
        assert!(near(noise.between, between), "{noise:?}");
        assert_eq!((noise.rows, noise.clusters, noise.df), (6, 6, 4.0));
    }

    #[test]
    fn no_row_at_two_seeds_leaves_all_to_the_spread_of_seeds() {
        let gap = f64::NAN;
        let values = [vec![1.0, 2.0, gap, gap], vec![gap, gap, 5.0, 9.0]];
        let noise = row_noise(&values, &each(4)).unwrap();
        assert_eq!(noise.both, Some(noise.all));
        assert!(noise.between.abs() < f64::EPSILON);
    }

    #[test]
    fn seeds_with_the_same_rows_are_the_special_case() {
        let set = RowSet {
            weights: vec![1.0, 2.0, 1.0, 3.0, 2.0, 1.0],
            clusters: vec![0, 0, 1, 1, 2, 2],
        };
        let values = [
            vec![1.0, 2.0, 0.5, 4.0, 3.0, 1.5],
            vec![0.0, 2.5, 0.5, 3.0, 1.0, 2.5],
            vec![1.5, 2.0, 1.5, 2.0, 3.0, 0.5],
        ];
        let (one, other) = (
            row_noise(&values, &set).unwrap(),
            partly_common(&values, &set).unwrap(),
        );
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(one.all, other.all), "{one:?} {other:?}");
        assert!(near(one.both.unwrap(), other.both.unwrap()), "{other:?}");
        assert!(near(other.between, 0.0), "{other:?}");
        assert_eq!(
            (one.df, one.rows, one.clusters),
            (other.df, other.rows, other.clusters)
        );
    }

    #[test]
    fn one_cluster_says_nothing() {
        let set = RowSet {
            weights: vec![1.0; 3],
            clusters: vec![0; 3],
        };
        assert_eq!(row_noise(&[vec![1.0, 2.0, 3.0]], &set), None);
    }
}
