//! One metric of all arms of a table: values by seed and by row, and what they say of an arm, a pair of
//! arms, or any other contrast.

use crate::metrics::estimate::Interval;
use crate::metrics::rows::{RowNoise, RowSet, row_noise};
use crate::metrics::seeds::{MeanSquare, SeedNoise, own_variance};
use crate::metrics::spec::Transform;
use crate::metrics::spread::Spread;
use crate::metrics::student::{t_beyond, t_two_sided};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// One seed of an arm.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedValues {
    /// The seed.
    pub seed: u64,
    /// Which run it is, by any number: seeds that share a run are one measurement.
    pub run: usize,
    /// The metric.
    pub value: f64,
    /// Its value for each row, (R,), NaN for rows that this seed was not measured on, as in cross-validation;
    /// empty where rows are not known.
    pub rows: Vec<f64>,
}

impl SeedValues {
    /// For each row whether it was measured at this seed, (R,).
    pub(crate) fn measured(&self) -> impl Iterator<Item = bool> {
        self.rows.iter().map(|value| !value.is_nan())
    }
}

/// One configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arm {
    /// Its seeds.
    pub seeds: Vec<SeedValues>,
    /// Its rows among the column's sets; `None` where they are not known.
    pub row_set: Option<usize>,
}

impl Arm {
    fn runs(&self) -> BTreeSet<usize> {
        self.seeds.iter().map(|s| s.run).collect()
    }

    /// Whether all of several seeds are one run: a fixed thing, not a sample of seeds.
    fn is_fixed(&self) -> bool {
        self.seeds.len() > 1 && self.runs().len() == 1
    }
}

/// One metric of all arms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// The arms.
    pub arms: Vec<Arm>,
    /// The different sets of rows that they were measured on, mostly one.
    pub row_sets: Vec<RowSet>,
    /// How the metric comes from a mean over rows.
    pub transform: Transform,
    /// Whether it is a share, from 0 to 1.
    pub share: bool,
}

/// Arms with their weights; they add up to 0 for a difference and to 1 for a mean.
pub type Contrast = Vec<(usize, f64)>;

/// What the data say of one contrast, on the scale on which rows are averaged.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its value.
    pub value: f64,
    /// The mean of the arms that it takes away, on the same scale.
    pub base: f64,
    /// How far it would move; `None` if nothing tells.
    pub spread: Option<Spread>,
    /// Seeds that all its arms have, those that share all runs once.
    pub seeds: usize,
    /// Rows that all its arms have, at any seed; 0 if they are not known.
    pub rows: usize,
    /// Their clusters.
    pub clusters: usize,
    /// Interval and p-value for new seeds on these same rows, by Student's t over this contrast's seeds
    /// alone; `None` if seeds have different rows.
    pub fixed_rows: Option<(Interval, f64)>,
    /// Whether it is zero for every row at every seed.
    pub identical: bool,
}

/// A spread of this share of the numbers themselves is what adding them up leaves.
const ROUNDING: f64 = 1e-12;

impl Measured {
    /// Its spread, unless it is none but for rounding.
    pub(crate) fn real_spread(&self) -> Option<Spread> {
        let size = self.value.abs() + self.base.abs();
        self.spread
            .filter(|spread| spread.variance().sqrt() > ROUNDING * size)
    }
}

/// A column with its pooled noise.
#[derive(Clone, Debug)]
pub struct Analysis<'a> {
    column: &'a Column,
    noise: SeedNoise,
    /// Variance of a mean at one seed by rows and seeds together, of one arm: for contrasts of one seed.
    both: Option<f64>,
    /// What rows add to the pooled variance of one seed of one arm in a difference, where seeds have different
    /// rows: there they do not add as much to every contrast.
    paired_rows: Option<f64>,
    constant: bool,
}

impl<'a> Analysis<'a> {
    /// Pools what the arms say of their seeds. Arms some of whose seeds share runs do not count.
    pub fn of(column: &'a Column) -> Self {
        let sampled = |arm: &&Arm| arm.runs().len() == arm.seeds.len();
        let by_seed = |arm: &Arm| -> BTreeMap<u64, f64> {
            let values = arm.seeds.iter();
            values
                .map(|s| (s.seed, column.transform.invert(s.value)))
                .collect()
        };
        let arms = column.arms.iter().enumerate();
        let arms: Vec<_> = arms
            .filter(|(_, arm)| sampled(arm))
            .map(|(at, arm)| (at, by_seed(arm)))
            .collect();
        let both = |arm: &Arm| -> Option<f64> {
            let set = &column.row_sets[arm.row_set?];
            let rows: Vec<Vec<f64>> = arm.seeds.iter().map(|s| s.rows.clone()).collect();
            Some(row_noise(&rows, set)?.both? * arm.seeds.len() as f64)
        };
        let both: Vec<f64> = column
            .arms
            .iter()
            .filter(sampled)
            .filter_map(both)
            .collect();
        let both = (!both.is_empty()).then(|| both.iter().sum::<f64>() / both.len() as f64);
        let noise = SeedNoise::of(&arms, both.unwrap_or(0.0));
        let pooled: Vec<&Arm> = arms
            .iter()
            .filter(|(at, _)| !noise.apart.contains(at))
            .map(|(at, _)| &column.arms[*at])
            .collect();
        Self {
            column,
            paired_rows: paired_rows(&pooled, &column.row_sets),
            noise,
            both,
            constant: is_constant(&column.arms),
        }
    }

    /// Arms of the column.
    pub fn arm_count(&self) -> usize {
        self.column.arms.len()
    }

    /// Whether the seeds of an arm differ far more than those of the others, so that nothing is pooled with
    /// it.
    pub fn is_apart(&self, arm: usize) -> bool {
        self.noise.apart.contains(&arm)
    }

    /// How the metric comes from a mean over rows.
    pub fn transform(&self) -> Transform {
        self.column.transform
    }

    /// Whether it is a share.
    pub fn is_share(&self) -> bool {
        self.column.share
    }

    /// Whether the numbers are constants: without rows, no seed of any arm differs from another; with rows,
    /// no arm from another in any of them. They have no noise to estimate, and nothing to test.
    pub fn is_constant(&self) -> bool {
        self.constant
    }

    /// One arm by itself; `None` without seeds.
    pub fn cell(&self, arm: usize) -> Option<Measured> {
        self.contrast(&vec![(arm, 1.0)])
    }

    /// `ours` less `base`; `None` without a common seed.
    pub fn difference(&self, ours: usize, base: usize) -> Option<Measured> {
        self.contrast(&vec![(ours, 1.0), (base, -1.0)])
    }

    /// Any contrast; `None` if its arms have no seed in common.
    pub fn contrast(&self, contrast: &Contrast) -> Option<Measured> {
        let picked = self.paired_seeds(contrast);
        if picked.is_empty() {
            return None;
        }
        let weigh = |of: &dyn Fn(&SeedValues) -> f64, seeds: &[&SeedValues]| -> f64 {
            contrast
                .iter()
                .zip(seeds)
                .map(|((_, c), s)| c * of(s))
                .sum()
        };
        let linear = |s: &SeedValues| self.column.transform.invert(s.value);
        let values: Vec<f64> = picked.iter().map(|seeds| weigh(&linear, seeds)).collect();
        let negative = contrast
            .iter()
            .map(|(_, c)| (-c).max(0.0))
            .collect::<Vec<_>>();
        let base = picked.iter().map(|seeds| {
            let parts = negative.iter().zip(seeds);
            parts.map(|(c, s)| c * linear(s)).sum::<f64>()
        });
        let count = picked.len() as f64;
        let (value, base) = (
            values.iter().sum::<f64>() / count,
            base.sum::<f64>() / count,
        );
        let set = self
            .common_rows(contrast)
            .filter(|_| picked.iter().all(|seeds| same_rows(seeds)));
        let rows: Option<Vec<Vec<f64>>> = set.map(|set| {
            let row = |seeds: &Vec<&SeedValues>| {
                (0..set.weights.len())
                    .map(|r| weigh(&|s| s.rows[r], seeds))
                    .collect()
            };
            picked.iter().map(row).collect()
        });
        let noise = rows
            .as_ref()
            .zip(set)
            .and_then(|(rows, set)| row_noise(rows, set));
        let measured = |rows: &&Vec<Vec<f64>>| rows.iter().flatten().any(|v| !v.is_nan());
        let zero = |rows: &Vec<Vec<f64>>| rows.iter().flatten().all(|v| *v == 0.0 || v.is_nan());
        let identical = rows.as_ref().filter(measured).is_some_and(zero);
        let split = rows.iter().flatten().flatten().any(|v| v.is_nan());
        Some(Measured {
            value,
            base,
            spread: self.spread(contrast, &values, noise),
            seeds: picked.len(),
            rows: noise.map_or(0, |n| n.rows),
            clusters: noise.map_or(0, |n| n.clusters),
            fixed_rows: fixed_rows(&values).filter(|_| !split),
            identical,
        })
    }

    /// For each common seed the values of the contrast's arms; those whose runs are all the same once.
    fn paired_seeds(&self, contrast: &Contrast) -> Vec<Vec<&'a SeedValues>> {
        let arms: Vec<&Arm> = contrast
            .iter()
            .map(|(arm, _)| &self.column.arms[*arm])
            .collect();
        let Some(first) = arms.first() else {
            return Vec::new();
        };
        let mut known = BTreeSet::new();
        let mut found = Vec::new();
        for seed in first.seeds.iter().map(|s| s.seed) {
            let of = |arm: &&'a Arm| arm.seeds.iter().find(|s| s.seed == seed);
            let Some(seeds) = arms.iter().map(of).collect::<Option<Vec<_>>>() else {
                continue;
            };
            if known.insert(seeds.iter().map(|s| s.run).collect::<Vec<_>>()) {
                found.push(seeds);
            }
        }
        found
    }

    fn common_rows(&self, contrast: &Contrast) -> Option<&'a RowSet> {
        let mut sets = contrast
            .iter()
            .map(|(arm, _)| self.column.arms[*arm].row_set);
        let first = sets.next()??;
        sets.all(|set| set == Some(first))
            .then(|| &self.column.row_sets[first])
    }

    /// Seeds and rows together.
    fn spread(
        &self,
        contrast: &Contrast,
        values: &[f64],
        rows: Option<RowNoise>,
    ) -> Option<Spread> {
        let count = values.len() as f64;
        let arm = |at: usize| &self.column.arms[at];
        let free: Vec<f64> = contrast
            .iter()
            .filter(|(at, _)| !arm(*at).is_fixed())
            .map(|(_, c)| *c)
            .collect();
        let squares: f64 = free.iter().map(|c| c * c).sum();
        let total: f64 = free.iter().sum();
        let apart = contrast.iter().any(|(at, _)| self.is_apart(*at));
        let pooled = match free.len() {
            _ if apart => None,
            _ if total.abs() < 1e-9 => self.noise.paired,
            1 => self.noise.single,
            _ => None,
        };
        let own = own_variance(values);
        let both = match rows.and_then(|r| r.both) {
            Some(both) => Some(both),
            None => self.both.map(|both| both * squares / count),
        };
        let seeds = if free.is_empty() {
            None // Runs that no seed moves.
        } else {
            let factor = squares / count;
            let in_pool = if total.abs() < 1e-9 {
                self.paired_rows
            } else {
                self.paired_rows.and(self.both)
            };
            let own_rows = rows.and_then(|r| r.both).map(|both| both / factor);
            let pooled = pooled.map(|p| with_own_rows(p, in_pool.zip(own_rows)));
            self.noise.of_contrast(pooled, factor, own)
        };
        let (rows_part, rows_df) = match (rows, seeds) {
            (Some(rows), Some(_)) => ((rows.all - both.unwrap_or(0.0)).max(0.0), rows.df),
            (Some(rows), None) => (rows.all, rows.df),
            (None, _) => (0.0, 0.0),
        };
        if seeds.is_none() && rows.is_none() {
            return None;
        }
        // Seeds cannot vary less than what rows and seeds do together, which many degrees of freedom tell.
        let both = both
            .filter(|_| rows.is_some() && seeds.is_some())
            .unwrap_or(0.0);
        let between = rows.map_or(0.0, |r| r.between.min(both));
        Some(Spread {
            seeds: seeds.map_or(0.0, |s| s.value.max(both)),
            seeds_df: seeds.map_or(0.0, |s| s.df),
            rows: rows_part,
            rows_df,
            both: both - between,
            between,
        })
    }
}

/// Whether the arms of a contrast have the same rows at a seed.
fn same_rows(seeds: &[&SeedValues]) -> bool {
    seeds
        .windows(2)
        .all(|two| two[0].measured().eq(two[1].measured()))
}

/// The pooled variance of one seed with what this contrast's rows add in place of what those of all do.
fn with_own_rows(pooled: MeanSquare, rows: Option<(f64, f64)>) -> MeanSquare {
    let value = rows.map_or(pooled.value, |(pool, own)| {
        (pooled.value - pool).max(0.0) + own
    });
    MeanSquare { value, ..pooled }
}

/// What rows add to the mean square of arms and seeds: of each arm's deviations from the mean of all. `None`
/// if all seeds have the same rows, or arms have other rows than others.
fn paired_rows(arms: &[&Arm], sets: &[RowSet]) -> Option<f64> {
    let values = || arms.iter().flat_map(|arm| &arm.seeds);
    if !values().any(|s| s.rows.iter().any(|v| v.is_nan())) {
        return None;
    }
    let set = arms.first()?.row_set?;
    if arms.iter().any(|arm| arm.row_set != Some(set)) {
        return None;
    }
    let of = |arm: &&'_ Arm, seed: u64| -> Option<Vec<f64>> {
        let found = arm.seeds.iter().find(|s| s.seed == seed)?;
        Some(found.rows.clone())
    };
    let count = arms.len() as f64;
    // (S, K, R), of the seeds that all arms have.
    let mut deviations: Vec<Vec<Vec<f64>>> = Vec::new();
    for seed in arms.first()?.seeds.iter().map(|s| s.seed) {
        let Some(mut rows) = arms
            .iter()
            .map(|arm| of(arm, seed))
            .collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        for r in 0..sets[set].weights.len() {
            let mean = rows.iter().map(|arm| arm[r]).sum::<f64>() / count;
            rows.iter_mut().for_each(|arm| arm[r] -= mean);
        }
        deviations.push(rows);
    }
    let seeds = deviations.len() as f64;
    let of_arm = |k: usize| -> Option<f64> {
        let rows: Vec<Vec<f64>> = deviations.iter().map(|arms| arms[k].clone()).collect();
        row_noise(&rows, &sets[set])?.both
    };
    let both: Vec<f64> = (0..arms.len()).map(of_arm).collect::<Option<_>>()?;
    (arms.len() > 1).then(|| seeds * both.iter().sum::<f64>() / (count - 1.0))
}

fn is_constant(arms: &[Arm]) -> bool {
    let arms = || arms.iter().filter(|arm| !arm.seeds.is_empty());
    let equal = |a: f64, b: f64| a.total_cmp(&b).is_eq();
    let same = |a: &SeedValues, b: &SeedValues| {
        let row = |(a, b): (&f64, &f64)| {
            a.partial_cmp(b).is_some_and(Ordering::is_eq) || (a.is_nan() && b.is_nan())
        };
        let rows = a.rows.len() == b.rows.len() && a.rows.iter().zip(&b.rows).all(row);
        equal(a.value, b.value) && rows
    };
    let one = |arm: &Arm| {
        let mut seeds = arm.seeds.iter();
        seeds.all(|s| s.rows.is_empty() && equal(s.value, arm.seeds[0].value))
    };
    let repeated = arms().any(|arm| arm.runs().len() > 1);
    if repeated && arms().all(one) {
        return true;
    }
    let Some(first) = arms().next().map(|arm| &arm.seeds[0]) else {
        return false;
    };
    let mut seeds = arms().flat_map(|arm| &arm.seeds);
    arms().count() > 1 && seeds.all(|s| !s.rows.is_empty() && same(s, first))
}

fn fixed_rows(values: &[f64]) -> Option<(Interval, f64)> {
    let own = own_variance(values).filter(|own| own.value > 0.0)?;
    let value = values.iter().sum::<f64>() / values.len() as f64;
    let error = own.value.sqrt();
    let half = t_beyond(0.05, own.df)? * error;
    Some((
        Interval::around(value, half),
        t_two_sided(value / error, own.df)?,
    ))
}
