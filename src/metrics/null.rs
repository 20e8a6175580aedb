//! The test against arms that differ by nothing: seeds of one arm, split at random.

use crate::base::SeedTree;
use crate::metrics::column::{Analysis, Arm, Column, SeedValues};
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF as _};
use std::collections::{BTreeMap, BTreeSet};

/// How often a test called arms different that were not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NullCheck {
    /// Comparisons made.
    pub comparisons: usize,
    /// Those that were clear.
    pub alarms: usize,
    /// Arms whose seeds were split.
    pub arms: usize,
    /// Seeds of each half; its least.
    pub half: usize,
}

impl NullCheck {
    /// Share of false alarms.
    pub fn rate(&self) -> f64 {
        self.alarms as f64 / self.comparisons.max(1) as f64
    }
}

/// The largest share of false alarms that a test which is wrong in 5 % of cases has by chance, but for one time in forty,
/// over so many independent comparisons. Splits of one arm share its seeds, and count as one: of their mean this is
/// more than chance allows, never less.
pub fn most_by_chance(arms: usize) -> f64 {
    let Ok(alarms) = Binomial::new(0.05, arms as u64) else {
        return 1.0;
    };
    let most = (0..arms).find(|k| alarms.cdf(*k as u64) >= 0.975);
    most.unwrap_or(arms) as f64 / arms.max(1) as f64
}

/// Splits the seeds of each arm in two, `draws` times, and compares the halves as two arms of the table,
/// among the others. Pairs of seeds mean nothing here, so that the seeds of every arm are renamed at random,
/// among those that were measured on the same rows.
/// `None` if no arm has two seeds of its own on the same rows, or nothing can be compared.
pub fn null_check(column: &Column, draws: usize, seed: &SeedTree) -> Option<NullCheck> {
    let fit: Vec<usize> = (0..column.arms.len())
        .filter(|at| half_of(&column.arms[*at]) > 0)
        .collect();
    let half = null_half(column)?;
    let tried: Vec<(usize, usize)> = (0..draws)
        .flat_map(|d| fit.iter().map(move |at| (d, *at)))
        .collect();
    let clear: Vec<bool> = tried
        .par_iter()
        .filter_map(|(draw, at)| {
            let table = split(column, *at, &seed.index(*draw as u64).index(*at as u64));
            let last = table.arms.len() - 1;
            Some(Analysis::of(&table).compare(last, last - 1, 1, None)?.p? < 0.05)
        })
        .collect();
    (!clear.is_empty()).then(|| NullCheck {
        comparisons: clear.len(),
        alarms: clear.iter().filter(|c| **c).count(),
        arms: fit.len(),
        half,
    })
}

/// Seeds of each half of an arm: with those that were measured on other rows, of each of these.
fn half_of(arm: &Arm) -> usize {
    let groups = by_rows(arm).into_values();
    groups.map(|seeds| seeds.len() / 2).sum()
}

/// The least seeds of a half of the arms that [`null_check`] splits; `None` if it splits none.
pub fn null_half(column: &Column) -> Option<usize> {
    let halves = column.arms.iter().map(half_of);
    halves.filter(|half| *half > 0).min()
}

/// Which rows a seed was measured on.
type Measured = Vec<bool>;

/// The seeds of an arm, those that share a run once, by the rows that they were measured on.
fn by_rows(arm: &Arm) -> BTreeMap<Measured, Vec<&SeedValues>> {
    let mut groups: BTreeMap<Measured, Vec<&SeedValues>> = BTreeMap::new();
    let mut runs = BTreeSet::new();
    for seed in arm.seeds.iter().filter(|seed| runs.insert(seed.run)) {
        groups
            .entry(seed.measured().collect())
            .or_default()
            .push(seed);
    }
    groups
}

/// The table with the halves of arm `at` behind the other arms.
fn split(column: &Column, at: usize, seed: &SeedTree) -> Column {
    let mut rng = seed.rng();
    let mut table = Column {
        arms: Vec::new(),
        row_sets: column.row_sets.clone(),
        ..*column
    };
    let mut names: BTreeMap<(Measured, usize), u64> = BTreeMap::new();
    // The k-th seed on the same rows has the same name in every arm.
    let mut named = |rows: &Measured, seeds: &[SeedValues]| -> Vec<SeedValues> {
        let mut seeds = seeds.to_vec();
        for (k, found) in seeds.iter_mut().enumerate() {
            let next = names.len() as u64;
            found.seed = *names.entry((rows.clone(), k)).or_insert(next);
        }
        seeds
    };
    let mut shuffled = |arm: &Arm| -> BTreeMap<Measured, Vec<SeedValues>> {
        let mut groups: BTreeMap<Measured, Vec<SeedValues>> = by_rows(arm)
            .into_iter()
            .map(|(rows, seeds)| (rows, seeds.into_iter().cloned().collect()))
            .collect();
        groups
            .values_mut()
            .for_each(|seeds| seeds.shuffle(&mut rng));
        groups
    };
    let halves = shuffled(&column.arms[at]);
    let others = column.arms.iter().enumerate().filter(|(k, _)| *k != at);
    for (_, arm) in others {
        let groups = shuffled(arm);
        table.arms.push(Arm {
            seeds: groups.iter().flat_map(|(rows, s)| named(rows, s)).collect(),
            row_set: arm.row_set,
        });
    }
    for part in 0..2 {
        let half = |(rows, seeds): (&Measured, &Vec<SeedValues>)| {
            let count = seeds.len() / 2;
            named(rows, &seeds[part * count..(part + 1) * count])
        };
        table.arms.push(Arm {
            seeds: halves.iter().flat_map(half).collect(),
            row_set: column.arms[at].row_set,
        });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::rows::RowSet;
    use rand::Rng as _;

    fn table(arms: usize, seeds: usize, between: f64) -> Column {
        let mut rng = SeedTree::root(3).rng();
        let mut arm = |index: usize| {
            let mut seed = |name: usize| {
                let level = between * (rng.random::<f64>() - 0.5);
                let rows: Vec<f64> = (0..50).map(|_| level + rng.random::<f64>()).collect();
                SeedValues {
                    seed: name as u64,
                    run: index * seeds + name,
                    value: rows.iter().sum::<f64>() / 50.0,
                    rows,
                }
            };
            Arm {
                seeds: (0..seeds).map(&mut seed).collect(),
                row_set: Some(0),
            }
        };
        Column {
            arms: (0..arms).map(&mut arm).collect(),
            row_sets: vec![RowSet {
                weights: vec![1.0; 50],
                clusters: (0..50).collect(),
            }],
            ..Column::default()
        }
    }

    #[test]
    fn seeds_of_one_arm_seldom_look_different() {
        for seeds in [3, 6] {
            let check = null_check(&table(6, seeds, 1.0), 40, &SeedTree::root(1)).unwrap();
            assert_eq!((check.comparisons, check.half), (240, seeds / 2));
            assert!(check.rate() <= 0.1, "{check:?}");
            assert_eq!(
                Some(check),
                null_check(&table(6, seeds, 1.0), 40, &SeedTree::root(1))
            );
        }
    }

    // scipy.stats.binom.ppf(0.975, n, 0.05) / n.
    #[test]
    fn few_arms_allow_many_false_alarms() {
        let known = [
            (1, 1.0),
            (3, 1.0 / 3.0),
            (5, 0.2),
            (15, 0.2),
            (50, 0.12),
            (1000, 0.064),
        ];
        for (arms, most) in known {
            assert!((most_by_chance(arms) - most).abs() < 1e-12, "{arms}");
        }
    }

    #[test]
    fn one_seed_cannot_be_split() {
        assert_eq!(null_check(&table(4, 1, 1.0), 10, &SeedTree::root(1)), None);
    }
}
