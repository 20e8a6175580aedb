//! What so many seeds and rows can see, and how many a given difference needs.

use crate::metrics::column::{Analysis, Contrast, Measured};
use crate::metrics::spec::Transform;
use crate::metrics::spread::Spread;
use crate::metrics::verdict::family_alpha;
use serde::Serialize;

/// Variance of a difference of two arms by where it comes from, at one seed and one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// From seed to seed.
    pub seed: f64,
    /// From row to row.
    pub row: f64,
    /// Of one row at one seed.
    pub both: f64,
    /// Whether rows are known: without them `seed` holds all.
    pub with_rows: bool,
}

/// A design: how often everything is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Design {
    /// Seeds of each arm.
    pub seeds: usize,
    /// Rows, or clusters of them.
    pub rows: usize,
    /// Arms of the table: their seeds' variance is pooled.
    pub arms: usize,
    /// Comparisons that are right together.
    pub family: usize,
}

/// More seeds or rows than this are not asked for.
const MOST: usize = 1_000_000;

impl Noise {
    /// Of one measured spread at so many seeds and clusters of rows. Of cross-validation, where a seed is measured on
    /// one part, `both` holds already what [`Noise::in_parts`] makes of it.
    pub fn of(spread: &Spread, seeds: usize, clusters: usize) -> Self {
        let (s, r) = (seeds as f64, clusters as f64);
        Self {
            seed: (spread.seeds - spread.both - spread.between).max(0.0) * s,
            row: (spread.rows + spread.between) * r,
            both: spread.both * s * r,
            with_rows: clusters > 1,
        }
    }

    /// Where each seed is measured on one of so many parts of the rows, not on all: a row has so many times fewer
    /// values, over which the noise of single ones is averaged. That of rows and of seeds is as it was.
    #[must_use]
    pub fn in_parts(&self, parts: usize) -> Self {
        Self {
            both: self.both * parts.max(1) as f64,
            ..*self
        }
    }

    /// What it would be with another design.
    pub fn spread(&self, design: &Design) -> Spread {
        let (s, r) = (design.seeds as f64, design.rows.max(1) as f64);
        let both = if self.with_rows {
            self.both / (s * r)
        } else {
            0.0
        };
        let pooled = design.arms.saturating_sub(1).max(1) as f64;
        let one_seed = design.seeds < 2;
        Spread {
            seeds: if one_seed { 0.0 } else { self.seed / s + both },
            seeds_df: if one_seed { 0.0 } else { pooled * (s - 1.0) },
            rows: if one_seed {
                (self.row + self.both) / r
            } else {
                self.row / r
            },
            rows_df: r - 1.0,
            both: if one_seed { 0.0 } else { both },
            between: 0.0,
        }
    }

    /// The smallest difference that a design sees four times in five.
    pub fn smallest_visible(&self, design: &Design) -> Option<f64> {
        let alpha = family_alpha(design.family);
        self.spread(design)
            .smallest_visible(alpha)
            .filter(|d| d.is_finite())
    }

    /// Fewest seeds with which `design` sees `delta`; `None` if none do.
    pub fn seeds_for(&self, delta: f64, design: &Design) -> Option<usize> {
        let sees = |seeds: usize| self.sees(delta, &Design { seeds, ..*design });
        least(2, sees)
    }

    /// Fewest rows with which `design` sees `delta`; `None` if none do, or if rows are not known.
    pub fn rows_for(&self, delta: f64, design: &Design) -> Option<usize> {
        let sees = |rows: usize| self.sees(delta, &Design { rows, ..*design });
        self.with_rows.then(|| least(2, sees))?
    }

    fn sees(&self, delta: f64, design: &Design) -> bool {
        self.smallest_visible(design)
            .is_some_and(|visible| visible <= delta)
    }
}

/// The least number from `from` on for which `holds`, which goes on to hold.
fn least(from: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let mut high = from;
    while !holds(high) {
        high *= 2;
        if high > MOST {
            return None;
        }
    }
    let mut low = from;
    while low < high {
        let middle = usize::midpoint(low, high);
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(high)
}

/// Where the noise of a table's differences comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TableNoise {
    /// By source, of one seed and one row, on the scale on which rows are averaged.
    pub noise: Noise,
    /// What was measured.
    pub design: Design,
    /// What the differences are from, on that scale.
    pub base: f64,
    /// How the metric comes from it.
    pub transform: Transform,
    /// Whether rows are counted by cluster.
    pub clustered: bool,
}

impl TableNoise {
    /// What its design counts as rows: `row`, or `cluster`.
    pub fn row_noun(&self) -> &'static str {
        if self.clustered { "cluster" } else { "row" }
    }

    /// The smallest difference that a design sees, in the metric's unit.
    pub fn visible(&self, design: &Design) -> Option<f64> {
        let linear = self.noise.smallest_visible(design)?;
        let at = |level: f64| self.transform.apply(level);
        Some(at(self.base + linear) - at(self.base))
    }

    /// A difference in the metric's unit on the scale on which rows are averaged.
    pub fn linear(&self, difference: f64) -> f64 {
        let level = self.transform.apply(self.base);
        self.transform.invert(level + difference) - self.base
    }
}

impl Analysis<'_> {
    /// The mean noise of these contrasts with its mean design; `None` if none has a spread.
    pub fn noise(&self, contrasts: &[Contrast], family: usize) -> Option<TableNoise> {
        if self.is_constant() {
            return None;
        }
        // An arm that is set apart says nothing of what the others could have shown.
        let usual = |c: &&Contrast| c.iter().all(|(arm, _)| !self.is_apart(*arm));
        let measured = contrasts.iter().filter(usual);
        let measured: Vec<_> = measured.filter_map(|c| self.contrast(c)).collect();
        let with_spread = measured.iter().filter_map(|m| Some((m, m.real_spread()?)));
        let parts: Vec<(Noise, &Measured)> = with_spread
            .map(|(m, s)| (Noise::of(&s, m.seeds, m.clusters), m))
            .collect();
        if parts.is_empty() {
            return None;
        }
        let count = parts.len() as f64;
        let mean =
            |of: &dyn Fn(&(Noise, &Measured)) -> f64| parts.iter().map(of).sum::<f64>() / count;
        Some(TableNoise {
            noise: Noise {
                seed: mean(&|p| p.0.seed),
                row: mean(&|p| p.0.row),
                both: mean(&|p| p.0.both),
                with_rows: parts.iter().all(|p| p.0.with_rows),
            },
            design: Design {
                seeds: mean(&|p| p.1.seeds as f64).round() as usize,
                rows: mean(&|p| p.1.clusters as f64).round() as usize,
                arms: self.arm_count(),
                family,
            },
            base: mean(&|p| p.1.base),
            transform: self.transform(),
            clustered: parts.iter().any(|p| p.1.clusters < p.1.rows),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Components of preference accuracy, measured: rows .016, both .092, seeds none.
    const ACCURACY: Noise = Noise {
        seed: 0.0,
        row: 0.016,
        both: 0.092,
        with_rows: true,
    };

    #[test]
    fn where_rows_decide_more_seeds_help_little() {
        let design = Design {
            seeds: 3,
            rows: 161,
            arms: 6,
            family: 1,
        };
        let seen = ACCURACY.smallest_visible(&design).unwrap();
        assert!((0.045..0.055).contains(&seen), "{seen}");
        let more = |d: Design| ACCURACY.smallest_visible(&d).unwrap();
        assert!(
            more(Design {
                rows: 1094,
                ..design
            }) < 0.021
        );
        assert!(
            more(Design {
                seeds: 30,
                ..design
            }) > 0.028
        );
        // Rows alone: 2.8 · sqrt(.016 / 161) > 0.02, whatever the seeds.
        assert_eq!(ACCURACY.seeds_for(0.02, &design), None);
        let rows = ACCURACY.rows_for(0.02, &design).unwrap();
        assert!(
            more(Design { rows, ..design }) <= 0.02
                && more(Design {
                    rows: rows - 1,
                    ..design
                }) > 0.02
        );
    }

    // Ten seeds on five parts see what two seeds on all rows see, as far as rows decide.
    #[test]
    fn a_row_that_fewer_seeds_measure_is_noisier() {
        let design = Design {
            seeds: 10,
            rows: 1094,
            arms: 6,
            family: 1,
        };
        let parts = ACCURACY.in_parts(5).spread(&design);
        let two = ACCURACY.spread(&Design { seeds: 2, ..design });
        assert!(
            (parts.variance() - two.variance()).abs() < 1e-15,
            "{parts:?} {two:?}"
        );
        assert_eq!(ACCURACY.in_parts(1), ACCURACY);
    }

    // A loss of ln 20 that moves by 0.01 is a perplexity of 20 that moves by 0.201.
    #[test]
    fn what_a_table_sees_is_in_the_unit_of_the_metric() {
        let design = Design {
            seeds: 3,
            rows: 161,
            arms: 6,
            family: 1,
        };
        let table = TableNoise {
            noise: ACCURACY,
            design,
            base: 20f64.ln(),
            transform: Transform::Exp,
            clustered: false,
        };
        let linear = ACCURACY.smallest_visible(&design).unwrap();
        let visible = table.visible(&design).unwrap();
        assert!((visible - 20.0 * linear.exp_m1()).abs() < 1e-9, "{visible}");
        assert!((table.linear(visible) - linear).abs() < 1e-12);
    }

    #[test]
    fn a_design_gives_back_the_spread_that_its_noise_was_taken_from() {
        let spread = Spread {
            seeds: 0.0004,
            seeds_df: 10.0,
            rows: 0.0001,
            rows_df: 160.0,
            both: 0.0003,
            between: 0.0,
        };
        let design = Design {
            seeds: 3,
            rows: 161,
            arms: 6,
            family: 1,
        };
        let back = Noise::of(&spread, 3, 161).spread(&design);
        for (a, b) in [
            (back.seeds, spread.seeds),
            (back.rows, spread.rows),
            (back.both, spread.both),
            (back.seeds_df, spread.seeds_df),
            (back.rows_df, spread.rows_df),
        ] {
            assert!((a - b).abs() < 1e-12, "{back:?}");
        }
    }
}
