//! Made-up tables whose truth is known: what seeds, rows and both together add to a number.
//!
//! Used by the bench and, in small, by the tests of `src/metrics`.

// Of the library or, in its own tests, of the crate.
use super::{Arm, Column, RowSet, SeedValues};
use rand::Rng;

/// Where the noise of a difference comes from, in shares of its variance at three seeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regime {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Of seeds.
    pub(crate) seed: f64,
    /// Of rows.
    pub(crate) row: f64,
    /// Of single rows at single seeds.
    pub(crate) both: f64,
    /// How unevenly seeds move the arms: standard deviation of the logarithm of their spread.
    pub(crate) uneven: f64,
    /// How unevenly rows move the arms: standard deviation of the logarithm of their spread.
    pub(crate) uneven_rows: f64,
    /// How many times as far the seeds of the last arm are apart as those of the others: one that diverges.
    pub(crate) wild: f64,
}

const fn regime(name: &'static str, seed: f64, row: f64, both: f64) -> Regime {
    Regime {
        name,
        seed,
        row,
        both,
        uneven: 0.0,
        uneven_rows: 0.0,
        wild: 1.0,
    }
}

/// One comparison by itself.
pub(crate) const SINGLE: [Regime; 8] = [
    regime("rows only", 0.0, 1.0, 0.0),
    regime("rows = both", 0.0, 0.5, 0.5),
    regime("both only", 0.0, 0.0, 1.0),
    regime("seeds 1/4 of rows", 0.2, 0.8, 0.0),
    regime("seeds = rows", 0.5, 0.5, 0.0),
    regime("seeds = rows = both", 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0),
    regime("seeds 4 x rows", 0.8, 0.2, 0.0),
    regime("seeds only", 0.98, 0.02, 0.0),
];

/// Tables of several comparisons.
pub(crate) const FAMILIES: [Regime; 7] = [
    regime("rows only", 0.0, 1.0, 0.0),
    regime("seeds = rows", 0.5, 0.5, 0.0),
    regime("seeds 4 x rows", 0.8, 0.2, 0.0),
    regime("seeds 20 x rows", 0.95, 0.05, 0.0),
    Regime {
        name: "seeds 4 x rows, arms' sd vary x2",
        uneven: 0.7,
        ..regime("", 0.8, 0.2, 0.0)
    },
    regime("seeds = rows = both", 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0),
    Regime {
        name: "seeds = rows, one arm's sd x30",
        wild: 30.0,
        ..regime("", 0.5, 0.5, 0.0)
    },
];

/// Tables of cross-validation.
pub(crate) const SPLIT: [Regime; 8] = [
    regime("rows only", 0.0, 1.0, 0.0),
    regime("both only", 0.0, 0.0, 1.0),
    regime("seeds only", 0.98, 0.02, 0.0),
    regime("seeds 4 x rows", 0.8, 0.2, 0.0),
    regime("seeds = rows", 0.5, 0.5, 0.0),
    regime("rows = both", 0.0, 0.5, 0.5),
    regime("seeds = rows = both", 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0),
    Regime {
        name: "seeds = rows, arms' rows vary x2",
        uneven_rows: 0.7,
        ..regime("", 0.5, 0.5, 0.0)
    },
];

/// Values of arms by seed and row, (K, S, R), of equal truth. The difference of two arms' means has
/// variance 1 at `scale` seeds.
pub(crate) fn table(
    rng: &mut impl Rng,
    regime: &Regime,
    (arms, seeds, rows): (usize, usize, usize),
    scale: usize,
) -> Vec<Vec<Vec<f64>>> {
    let deviation = |share: f64, count: usize| (share * count as f64 / 2.0).sqrt();
    let by_seed = deviation(regime.seed, scale);
    let by_row = deviation(regime.row, rows);
    let by_both = deviation(regime.both, scale * rows);
    let arm = |index: usize| {
        let uneven = regime.uneven;
        let wild = if index + 1 == arms { regime.wild } else { 1.0 };
        let own = wild * (uneven * normal(rng) - uneven * uneven).exp();
        let uneven_rows = regime.uneven_rows;
        let by_row = if uneven_rows > 0.0 {
            by_row * (uneven_rows * normal(rng) - uneven_rows * uneven_rows).exp()
        } else {
            by_row
        };
        let of_rows: Vec<f64> = (0..rows).map(|_| by_row * normal(rng)).collect();
        let mut seed = || {
            let level = own * by_seed * normal(rng);
            let value = |row: &f64| {
                level
                    + row
                    + if by_both > 0.0 {
                        by_both * normal(rng)
                    } else {
                        0.0
                    }
            };
            of_rows.iter().map(value).collect()
        };
        (0..seeds).map(|_| seed()).collect()
    };
    (0..arms).map(arm).collect()
}

/// A column of the values of arms by seed and row, (K, S, R), each seed a run of its own; `clusters` are
/// those of the rows, (R,).
pub(crate) fn column(values: Vec<Vec<Vec<f64>>>, clusters: Vec<usize>) -> Column {
    let arm = |(index, seeds): (usize, Vec<Vec<f64>>)| {
        let count = seeds.len();
        let seed = |(seed, rows): (usize, Vec<f64>)| SeedValues {
            seed: seed as u64,
            run: index * count + seed,
            value: mean_of_own(&rows),
            rows,
        };
        Arm {
            seeds: seeds.into_iter().enumerate().map(seed).collect(),
            row_set: Some(0),
        }
    };
    let row_sets = vec![RowSet {
        weights: vec![1.0; clusters.len()],
        clusters,
    }];
    Column {
        arms: values.into_iter().enumerate().map(arm).collect(),
        row_sets,
        ..Column::default()
    }
}

/// The mean over the rows that a seed was measured on.
fn mean_of_own(rows: &[f64]) -> f64 {
    let own = || rows.iter().filter(|v| !v.is_nan());
    own().sum::<f64>() / own().count() as f64
}

/// A standard normal deviate (Box and Muller 1958).
pub(crate) fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
