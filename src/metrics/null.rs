//! The test against arms that differ by nothing: seeds of one arm, split at random.

use crate::base::SeedTree;
use crate::metrics::column::{Analysis, Arm, Column, SeedValues};
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use serde::Serialize;

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

/// Splits the seeds of each arm in two, `draws` times, and compares the halves as two arms of the table,
/// among the others. Pairs of seeds mean nothing here, so that the seeds of every arm are renamed at random.
/// `None` if no arm has two seeds of its own, or nothing can be compared.
pub fn null_check(column: &Column, draws: usize, seed: &SeedTree) -> Option<NullCheck> {
    let fit: Vec<usize> = (0..column.arms.len())
        .filter(|at| own_runs(&column.arms[*at]).len() > 1)
        .collect();
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
    let halves = fit.iter().map(|at| own_runs(&column.arms[*at]).len() / 2);
    let half = halves.min()?;
    (!clear.is_empty()).then(|| NullCheck {
        comparisons: clear.len(),
        alarms: clear.iter().filter(|c| **c).count(),
        arms: fit.len(),
        half,
    })
}

/// The seeds of an arm, those that share a run once.
fn own_runs(arm: &Arm) -> Vec<&SeedValues> {
    let mut found: Vec<&SeedValues> = Vec::new();
    for seed in &arm.seeds {
        if found.iter().all(|known| known.run != seed.run) {
            found.push(seed);
        }
    }
    found
}

/// The table with the halves of arm `at` behind the other arms.
fn split(column: &Column, at: usize, seed: &SeedTree) -> Column {
    let mut rng = seed.rng();
    let mut table = Column {
        arms: Vec::new(),
        ..column.clone()
    };
    let mut renamed = |arm: &Arm| -> Vec<SeedValues> {
        let mut seeds: Vec<SeedValues> = own_runs(arm).into_iter().cloned().collect();
        seeds.shuffle(&mut rng);
        (0..).zip(&mut seeds).for_each(|(name, s)| s.seed = name);
        seeds
    };
    let halves = renamed(&column.arms[at]);
    for (_, arm) in column
        .arms
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != at)
    {
        let seeds = renamed(arm);
        table.arms.push(Arm {
            seeds,
            row_set: arm.row_set,
        });
    }
    let half = halves.len() / 2;
    for part in [&halves[..half], &halves[half..2 * half]] {
        let mut seeds = part.to_vec();
        (0..).zip(&mut seeds).for_each(|(name, s)| s.seed = name);
        table.arms.push(Arm {
            seeds,
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

    #[test]
    fn one_seed_cannot_be_split() {
        assert_eq!(null_check(&table(4, 1, 1.0), 10, &SeedTree::root(1)), None);
    }
}
