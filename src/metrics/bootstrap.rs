//! Paired bootstrap over evaluation rows, crossed with seeds.
//!
//! Each draw resamples the rows (the same rows for every seed and for both configurations) and the
//! seeds (each with its own pair of runs), as in Owen's pigeonhole bootstrap (2007). A handful of
//! seeds makes the plain bootstrap too sure of itself, so the deviation of a draw's seed weights is
//! widened by `sqrt(S/(S−1)) · t(0.975, S−1) / z(0.975)`: where seeds decide, the interval is about
//! that of a t-test over seeds; where rows decide, it is that of the rows.

use crate::base::SeedTree;
use crate::metrics::compare::{Comparison, Method};
use crate::metrics::estimate::{Interval, t_quantile};
use crate::metrics::spec::Transform;
use rand::Rng as _;
use rayon::prelude::*;

/// Draws of a bootstrap unless told otherwise.
pub const BOOTSTRAP_DRAWS: usize = 10_000;

/// Standard normal quantile at 0.975.
const Z: f64 = 1.959_963_984_540_054;

/// Per-row values of two configurations, paired by seed and by row.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedRows {
    /// The configuration: a vector over rows for each seed, (S, R).
    pub ours: Vec<Vec<f64>>,
    /// The baseline, with the same seeds and rows in the same order, (S, R).
    pub baseline: Vec<Vec<f64>>,
    /// Weight of each row, (R,): its reply tokens, or 1.
    pub weights: Vec<f64>,
    /// How the metric comes from the weighted mean over rows.
    pub transform: Transform,
}

impl PairedRows {
    /// Whether all shapes agree, something is there, and every number is finite.
    fn is_sound(&self) -> bool {
        let rows = self.weights.len();
        let all = || self.ours.iter().chain(&self.baseline);
        !self.ours.is_empty()
            && self.ours.len() == self.baseline.len()
            && rows > 1
            && self.weights.iter().sum::<f64>() > 0.0
            && all().all(|v| v.len() == rows && v.iter().all(|x| x.is_finite()))
    }

    /// The metric's difference at each seed, (S,), when row `r` counts `counts[r]` times.
    fn differences(&self, counts: &[f64]) -> Vec<f64> {
        let total: f64 = counts.iter().zip(&self.weights).map(|(c, w)| c * w).sum();
        let metric = |values: &[f64]| {
            let sum: f64 = values
                .iter()
                .zip(counts)
                .zip(&self.weights)
                .map(|((v, c), w)| v * c * w)
                .sum();
            self.transform.apply(sum / total)
        };
        self.ours
            .iter()
            .zip(&self.baseline)
            .map(|(a, b)| metric(a) - metric(b))
            .collect()
    }
}

/// Difference with a 95 % percentile interval and a two-sided p-value from `draws` draws.
///
/// The same seed tree gives the same numbers on any number of threads. `None` if shapes disagree,
/// there are fewer than two rows, or a value is not finite.
pub fn crossed_bootstrap(rows: &PairedRows, seed: &SeedTree, draws: usize) -> Option<Comparison> {
    if !rows.is_sound() || draws == 0 {
        return None;
    }
    let (s, r) = (rows.ours.len(), rows.weights.len());
    let observed = rows.differences(&vec![1.0; r]);
    let difference = observed.iter().sum::<f64>() / s as f64;
    let widen = match t_quantile(0.975, s - 1) {
        Some(t) => (s as f64 / (s - 1) as f64).sqrt() * t / Z,
        None => 0.0, // one seed: its weight is always 1
    };
    let mut drawn: Vec<f64> = (0..draws as u64)
        .into_par_iter()
        .map(|draw| {
            let mut rng = seed.index(draw).rng();
            let mut counts = vec![0.0; r];
            for _ in 0..r {
                counts[rng.random_range(0..r)] += 1.0;
            }
            let mut seeds = vec![0.0; s];
            for _ in 0..s {
                seeds[rng.random_range(0..s)] += 1.0;
            }
            let weight = |count: f64| (1.0 + widen * (count - 1.0)) / s as f64;
            let differences = rows.differences(&counts);
            seeds
                .iter()
                .zip(differences)
                .map(|(c, d)| weight(*c) * d)
                .sum::<f64>()
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let below = drawn.iter().filter(|d| **d <= 0.0).count();
    let above = drawn.iter().filter(|d| **d >= 0.0).count();
    let p = 2.0 * (below.min(above) + 1) as f64 / (draws + 1) as f64;
    Some(Comparison {
        difference,
        interval: Some(Interval {
            low: quantile(&drawn, 0.025),
            high: quantile(&drawn, 0.975),
        }),
        p: Some(p.min(1.0)),
        p_holm: None,
        method: Method::CrossedBootstrap {
            seeds: s,
            rows: r,
            draws,
        },
    })
}

/// Linear-interpolated quantile of sorted values.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, n: usize) -> Vec<f64> {
        let mut rng = SeedTree::root(seed).rng();
        // A sum of twelve uniforms less six is close to a standard normal.
        (0..n)
            .map(|_| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0)
            .collect()
    }

    fn rows(ours: Vec<Vec<f64>>, baseline: Vec<Vec<f64>>) -> PairedRows {
        let weights = vec![1.0; ours[0].len()];
        PairedRows {
            ours,
            baseline,
            weights,
            transform: Transform::Identity,
        }
    }

    // One seed, 400 rows of standard normal differences: the interval is mean ± 1.96·sd/√400.
    #[test]
    fn with_one_seed_the_interval_is_that_of_the_rows() {
        let d = noise(3, 400);
        let estimate = crate::metrics::mean(&d).unwrap();
        let c = crossed_bootstrap(
            &rows(vec![d], vec![vec![0.0; 400]]),
            &SeedTree::root(1),
            4000,
        )
        .unwrap();
        let i = c.interval.unwrap();
        assert!((c.difference - estimate.value).abs() < 1e-12);
        let want = 1.96 * estimate.stderr.unwrap();
        assert!(
            (i.half_width() / want - 1.0).abs() < 0.06,
            "{} {want}",
            i.half_width()
        );
    }

    // Rows all alike within a seed, seeds −1, 0, 1: only seeds vary. A t-interval is ±2.484.
    #[test]
    fn with_few_seeds_the_interval_is_about_as_wide_as_a_t_interval() {
        let ours = [-1.0, 0.0, 1.0].map(|d| vec![d; 50]).to_vec();
        let c = crossed_bootstrap(
            &rows(ours, vec![vec![0.0; 50]; 3]),
            &SeedTree::root(1),
            4000,
        )
        .unwrap();
        let half = c.interval.unwrap().half_width();
        assert!((2.2..3.0).contains(&half), "{half}");
        assert!(c.p.unwrap() > 0.5);
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
        let data = rows(
            vec![noise(1, 60), noise(2, 60)],
            vec![noise(5, 60), noise(6, 60)],
        );
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| crossed_bootstrap(&data, &SeedTree::root(9), 500))
        };
        assert_eq!(run(1), run(4));
    }

    // Two equal configurations must hardly ever differ clearly: at most 12 of 100 tries at 5 %.
    #[test]
    fn equal_configurations_seldom_look_different() {
        let false_alarms = (0..100u64)
            .filter(|k| {
                let make = |o: u64| {
                    (0..3)
                        .map(|s| noise(1000 + k * 10 + o + s, 40))
                        .collect::<Vec<_>>()
                };
                let c =
                    crossed_bootstrap(&rows(make(0), make(5)), &SeedTree::root(*k), 400).unwrap();
                c.p.unwrap() < 0.05
            })
            .count();
        assert!(false_alarms <= 12, "{false_alarms}");
    }

    // By hand: weights 1 and 3; means 2.5 and 0, exp(2.5) − exp(0).
    #[test]
    fn perplexity_is_compared_through_the_token_weighted_mean() {
        let data = PairedRows {
            ours: vec![vec![1.0, 3.0]],
            baseline: vec![vec![0.0, 0.0]],
            weights: vec![1.0, 3.0],
            transform: Transform::Exp,
        };
        let c = crossed_bootstrap(&data, &SeedTree::root(1), 10).unwrap();
        assert!((c.difference - (2.5f64.exp() - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn rows_that_do_not_fit_together_give_no_comparison() {
        assert_eq!(
            crossed_bootstrap(
                &rows(vec![vec![1.0, 2.0]], vec![vec![1.0]]),
                &SeedTree::root(1),
                10
            ),
            None
        );
        let nan = rows(vec![vec![1.0, f64::NAN]], vec![vec![1.0, 1.0]]);
        assert_eq!(crossed_bootstrap(&nan, &SeedTree::root(1), 10), None);
    }
}
