//! Made-up cross-validation: seeds are measured on one part of the rows each, in turn.
//!
//! Used by the bench and, in small, by the tests of `src/metrics`.

use super::regimes::{Regime, column, table};
use super::{Analysis, SeedTree};
use rayon::prelude::*;

/// How often, and on what, arms are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Design {
    /// Comparisons with one baseline.
    pub(crate) comparisons: usize,
    /// Seeds of each arm.
    pub(crate) seeds: usize,
    /// Rows of all parts.
    pub(crate) rows: usize,
    /// Parts.
    pub(crate) folds: usize,
    /// Whether all seeds are measured on the first part, as they are without cross-validation.
    pub(crate) one_part: bool,
}

/// What came of tables without a true effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Share of tables with any clear difference.
    pub(crate) alarms: f64,
    /// Share of intervals that hold the truth, over all comparisons.
    pub(crate) coverage: f64,
    /// Mean half width of an interval.
    pub(crate) reach: f64,
}

/// Tables of a design: the difference of two arms' means over all parts has variance 1, to which the regime's
/// shares add up.
pub(crate) fn outcome(regime: &Regime, design: &Design, sets: u64) -> Outcome {
    let tree = SeedTree::root(3)
        .child(regime.name)
        .index((design.comparisons * 100 + design.seeds) as u64);
    let found: Vec<(bool, usize, f64)> = (0..sets)
        .into_par_iter()
        .map(|set| of_table(regime, design, &tree.index(set)))
        .collect();
    let all = sets as f64;
    let intervals = all * design.comparisons as f64;
    Outcome {
        alarms: found.iter().filter(|f| f.0).count() as f64 / all,
        coverage: found.iter().map(|f| f.1).sum::<usize>() as f64 / intervals,
        reach: found.iter().map(|f| f.2).sum::<f64>() / intervals,
    }
}

/// Whether any comparison was clear, how many intervals hold 0, and the sum of their half widths.
fn of_table(regime: &Regime, design: &Design, seed: &SeedTree) -> (bool, usize, f64) {
    let (rows, folds) = (design.rows, design.folds);
    // A seed's mean is over a part of the rows, so that what rows and seeds do together weighs more.
    let regime = Regime {
        both: regime.both / folds as f64,
        ..*regime
    };
    let size = (design.comparisons + 1, design.seeds, rows);
    let mut values = table(&mut seed.rng(), &regime, size, design.seeds);
    for arm in &mut values {
        for (at, seed) in arm.iter_mut().enumerate() {
            let part = if design.one_part { 0 } else { at % folds };
            let other = seed
                .iter_mut()
                .enumerate()
                .filter(|(r, _)| r % folds != part);
            other.for_each(|(_, value)| *value = f64::NAN);
            if design.one_part {
                seed.retain(|value| !value.is_nan());
            }
        }
    }
    let measured = values[0][0].len();
    let column = column(values, (0..measured).collect());
    let analysis = Analysis::of(&column);
    let mut found = (false, 0, 0.0);
    for arm in 1..=design.comparisons {
        let compared = analysis.compare(arm, 0, design.comparisons, None);
        let interval = compared.and_then(|c| c.interval);
        let holds = interval.is_some_and(|i| i.low <= 0.0 && i.high >= 0.0);
        found.0 |= !holds;
        found.1 += usize::from(holds);
        found.2 += interval.map_or(f64::NAN, |i| (i.high - i.low) / 2.0);
    }
    found
}
