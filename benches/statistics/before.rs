//! The method of versions before this one, to compare with: a bootstrap of rows crossed with seeds whose
//! seed weights are widened by `sqrt(S/(S−1)) · t(0.975, S−1) / z(0.975)`, a percentile interval, and
//! `p = 2 (smaller tail + 1) / (draws + 1)`.

use lions::base::SeedTree;
use rand::Rng as _;

/// Standard normal quantile at 0.975.
const Z: f64 = 1.959_963_984_540_054;

/// Interval and p-value of differences by seed and row, (S, R).
pub(crate) struct Bootstrap {
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
    /// Two-sided p-value.
    pub(crate) p: f64,
}

/// Draws of rows and seeds, the same for all data sets of a size: only what they are applied to differs.
pub(crate) struct Draws {
    rows: Vec<Vec<f32>>,
    seeds: Vec<Vec<f64>>,
}

impl Draws {
    /// Of `count` draws; `t` is Student's quantile at 0.975 for the seeds less one.
    pub(crate) fn new(seeds: usize, rows: usize, count: usize, t: f64) -> Self {
        let mut rng = SeedTree::root(9).rng();
        let widen = (seeds as f64 / (seeds as f64 - 1.0)).sqrt() * t / Z;
        let mut counts = |n: usize| {
            let mut counts = vec![0.0; n];
            for _ in 0..n {
                counts[rng.random_range(0..n)] += 1.0;
            }
            counts
        };
        let row = |counts: Vec<f64>| {
            counts
                .into_iter()
                .map(|c| (c / rows as f64) as f32)
                .collect()
        };
        let seed = |counts: Vec<f64>| -> Vec<f64> {
            let weight = |c: f64| (1.0 + widen * (c - 1.0)) / seeds as f64;
            counts.into_iter().map(weight).collect()
        };
        Self {
            rows: (0..count).map(|_| row(counts(rows))).collect(),
            seeds: (0..count).map(|_| seed(counts(seeds))).collect(),
        }
    }

    /// Applies the draws.
    pub(crate) fn of(&self, differences: &[Vec<f64>]) -> Bootstrap {
        let data: Vec<Vec<f32>> = differences
            .iter()
            .map(|seed| seed.iter().map(|v| *v as f32).collect())
            .collect();
        let mean = |counts: &[f32], seed: &[f32]| -> f64 {
            f64::from(counts.iter().zip(seed).map(|(c, v)| c * v).sum::<f32>())
        };
        let draw = |(counts, weights): (&Vec<f32>, &Vec<f64>)| -> f64 {
            data.iter()
                .zip(weights)
                .map(|(seed, w)| w * mean(counts, seed))
                .sum()
        };
        let mut drawn: Vec<f64> = self.rows.iter().zip(&self.seeds).map(draw).collect();
        drawn.sort_by(f64::total_cmp);
        let below = drawn.iter().filter(|d| **d <= 0.0).count();
        let above = drawn.iter().filter(|d| **d >= 0.0).count();
        let p = 2.0 * (below.min(above) + 1) as f64 / (drawn.len() + 1) as f64;
        let quantile = |q: f64| drawn[(q * (drawn.len() - 1) as f64).round() as usize];
        Bootstrap {
            low: quantile(0.025),
            high: quantile(0.975),
            p: p.min(1.0),
        }
    }
}
