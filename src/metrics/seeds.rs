//! How far single seeds move: mean squares pooled over the arms of a table.
//!
//! Three seeds of one pair of arms give two degrees of freedom, too few for anything. The arms of a table
//! are trained alike but for what they compare, so that their spread is pooled; where it plainly differs
//! from arm to arm, the pooled one is half of the answer only, and an arm whose seeds differ far more than
//! those of all the others (one that diverges, say) is set apart: it would drown their differences.

use statrs::distribution::{ChiSquared, ContinuousCDF as _, FisherSnedecor};
use std::collections::{BTreeMap, BTreeSet};

/// A variance with the degrees of freedom of its estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MeanSquare {
    pub(crate) value: f64,
    pub(crate) df: f64,
}

/// How much the seeds of a table's arms differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SeedNoise {
    /// Of one seed of one arm, when seeds are paired: the residual of arms and seeds.
    pub(crate) paired: Option<MeanSquare>,
    /// Of one seed of one arm by itself.
    pub(crate) single: Option<MeanSquare>,
    /// Whether the arms plainly differ in it.
    uneven: bool,
    /// Arms whose seeds differ far more than those of the others: what is pooled is not about them.
    pub(crate) apart: BTreeSet<usize>,
}

/// Below this p-value of Bartlett's test the arms differ in spread.
const UNEVEN: f64 = 0.05;

/// So many degrees of freedom the pooled variance counts where arms differ: a variance that varies between
/// arms by a factor of about two either way (Smyth 2004 estimates it from hundreds of variances; a table
/// has a dozen).
const PRIOR: f64 = 4.0;

/// Below this p-value, over all arms, one of them is set apart. Low, since with few degrees of freedom it is
/// mostly the others that happened to be close, and what they say is trusted afterwards.
const APART: f64 = 0.01;

impl SeedNoise {
    /// Of arms, by number, with a value for each seed; those with fewer than two seeds tell nothing. `least`
    /// is what one seed's variance cannot be below: that of its rows.
    pub(crate) fn of(arms: &[(usize, BTreeMap<u64, f64>)], least: f64) -> Self {
        let mut numbered: Vec<&(usize, BTreeMap<u64, f64>)> =
            arms.iter().filter(|(_, arm)| arm.len() > 1).collect();
        let mut apart = BTreeSet::new();
        while let Some(at) = outlier(&numbered, least) {
            apart.insert(numbered.remove(at).0);
        }
        let arms: Vec<&BTreeMap<u64, f64>> = numbered.iter().map(|(_, arm)| arm).collect();
        let fit = TwoWay::of(&arms);
        let paired = fit.mean_square();
        Self {
            paired,
            single: single(&arms, paired),
            uneven: bartlett(&fit.by_arm(&arms)).is_some_and(|p| p < UNEVEN),
            apart,
        }
    }

    /// The variance of a contrast's mean over its seeds: `pooled` (times `factor`), and what its own
    /// differences say, `own`, where arms differ in spread.
    pub(crate) fn of_contrast(
        &self,
        pooled: Option<MeanSquare>,
        factor: f64,
        own: Option<MeanSquare>,
    ) -> Option<MeanSquare> {
        let Some(pooled) = pooled.map(|p| MeanSquare {
            value: p.value * factor,
            ..p
        }) else {
            return own;
        };
        let Some(own) = own.filter(|_| self.uneven) else {
            return Some(pooled);
        };
        let prior = PRIOR.min(pooled.df);
        let df = prior + own.df;
        let value = (prior * pooled.value + own.df * own.value) / df;
        Some(MeanSquare { value, df })
    }
}

/// The arm whose seeds differ far more than those of the others, if one does: what it adds to the residual
/// squares of arms and seeds, by F against what the others leave.
fn outlier(arms: &[&(usize, BTreeMap<u64, f64>)], least: f64) -> Option<usize> {
    if arms.len() < 3 {
        return None;
    }
    let fit = |without: Option<usize>| {
        let kept = arms
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != without);
        let kept: Vec<_> = kept.map(|(_, (_, arm))| arm).collect();
        let fit = TwoWay::of(&kept);
        (fit.squares(), fit.df)
    };
    let (all, all_df) = fit(None);
    let p_value = |at: usize| -> Option<f64> {
        let (rest, rest_df) = fit(Some(at));
        let own_df = all_df - rest_df;
        let usual = (rest / rest_df).max(least);
        // Without any spread among the others nothing says what is usual: counts come out equal.
        if usual.is_nan() || usual <= all * 1e-18 || own_df < 1.0 {
            return None;
        }
        let f = FisherSnedecor::new(own_df, rest_df).ok()?;
        Some(f.sf((all - rest).max(0.0) / own_df / usual))
    };
    let p_values = (0..arms.len()).filter_map(|at| Some((at, p_value(at)?)));
    let (at, p) = p_values.min_by(|a, b| a.1.total_cmp(&b.1))?;
    (p * (arms.len() as f64) < APART).then_some(at)
}

/// Variance of the mean of a contrast's values at its seeds, by itself.
pub(crate) fn own_variance(values: &[f64]) -> Option<MeanSquare> {
    let n = values.len() as f64;
    (values.len() > 1).then(|| MeanSquare {
        value: squares(values) / (n - 1.0) / n,
        df: n - 1.0,
    })
}

fn squares(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum()
}

/// Variance of one seed of one arm by itself: what seeds of a number have in common over the arms counts
/// once, not once an arm, which the degrees of freedom (Satterthwaite's) say.
fn single(arms: &[&BTreeMap<u64, f64>], paired: Option<MeanSquare>) -> Option<MeanSquare> {
    let all: f64 = arms.iter().map(|arm| (arm.len() - 1) as f64).sum();
    if all == 0.0 {
        return None;
    }
    let within: f64 = arms
        .iter()
        .map(|arm| squares(&arm.values().copied().collect::<Vec<_>>()))
        .sum();
    let value = within / all;
    let Some(paired) = paired.filter(|p| p.df < all) else {
        return Some(MeanSquare { value, df: all });
    };
    let common_df = all - paired.df;
    let rest = paired.value * paired.df;
    let common = (within - rest).max(0.0) / common_df;
    let weigh = |part: f64, df: f64| (part * df / all).powi(2) / df;
    let noise = weigh(common, common_df) + weigh(paired.value, paired.df);
    let df = if noise > 0.0 {
        value * value / noise
    } else {
        all
    };
    Some(MeanSquare {
        value,
        df: df.clamp(common_df.min(all), all),
    })
}

/// Arms and seeds fitted by least squares, cells missing or not.
struct TwoWay {
    /// By arm, in the order of its seeds.
    residuals: Vec<Vec<f64>>,
    df: f64,
}

/// Rounds of the fit: it is exact after one where no cell is missing, and gains a digit or more each
/// otherwise.
const ROUNDS: usize = 60;

impl TwoWay {
    fn of(arms: &[&BTreeMap<u64, f64>]) -> Self {
        let mut residuals: Vec<BTreeMap<u64, f64>> = arms.iter().map(|a| (*a).clone()).collect();
        let sizes = residuals.iter().flat_map(BTreeMap::values).map(|v| v.abs());
        let settled = sizes.fold(0.0, f64::max) * 1e-15;
        for _ in 0..ROUNDS {
            let mut moved: f64 = 0.0;
            for arm in &mut residuals {
                let mean = arm.values().sum::<f64>() / arm.len() as f64;
                arm.values_mut().for_each(|v| *v -= mean);
            }
            let mut seeds: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
            for (seed, value) in residuals.iter().flatten() {
                let sum = seeds.entry(*seed).or_default();
                *sum = (sum.0 + value, sum.1 + 1.0);
            }
            for (seed, value) in residuals.iter_mut().flatten() {
                let (sum, count) = seeds[seed];
                moved = moved.max((sum / count).abs());
                *value -= sum / count;
            }
            if moved <= settled {
                break;
            }
        }
        let cells: usize = arms.iter().map(|arm| arm.len()).sum();
        let seeds: BTreeSet<u64> = arms.iter().flat_map(|arm| arm.keys().copied()).collect();
        let used = arms.len() + seeds.len() - components(arms);
        Self {
            residuals: residuals
                .into_iter()
                .map(|arm| arm.into_values().collect())
                .collect(),
            df: cells.saturating_sub(used) as f64,
        }
    }

    fn squares(&self) -> f64 {
        self.residuals.iter().flatten().map(|r| r * r).sum()
    }

    fn mean_square(&self) -> Option<MeanSquare> {
        let (sum, df) = (self.squares(), self.df);
        (df > 0.0).then(|| MeanSquare {
            value: sum / df,
            df,
        })
    }

    /// Variance of each arm's residuals, with its degrees of freedom; none of two arms, whose residuals
    /// are the same.
    fn by_arm(&self, arms: &[&BTreeMap<u64, f64>]) -> Vec<MeanSquare> {
        if arms.len() < 3 {
            return Vec::new();
        }
        let of = |residuals: &Vec<f64>| {
            let df = (residuals.len() - 1) as f64;
            MeanSquare {
                value: residuals.iter().map(|r| r * r).sum::<f64>() / df,
                df,
            }
        };
        self.residuals.iter().map(of).collect()
    }
}

/// Groups of arms that share seeds, directly or over others.
fn components(arms: &[&BTreeMap<u64, f64>]) -> usize {
    let mut groups: Vec<BTreeSet<u64>> = Vec::new();
    for arm in arms {
        let mut joined: BTreeSet<u64> = arm.keys().copied().collect();
        groups.retain(|group| {
            let apart = group.is_disjoint(&joined);
            if !apart {
                joined.extend(group);
            }
            apart
        });
        groups.push(joined);
    }
    groups.len()
}

/// p-value of Bartlett's test (1937) that variances are equal; `None` of fewer than two, or if one is zero
/// and the test has no answer.
fn bartlett(variances: &[MeanSquare]) -> Option<f64> {
    let groups = variances.len() as f64;
    if variances.len() < 2 {
        return None;
    }
    let all: f64 = variances.iter().map(|v| v.df).sum();
    let pooled = variances.iter().map(|v| v.value * v.df).sum::<f64>() / all;
    if pooled <= 0.0 {
        return None;
    }
    // An arm without any spread among others with some is a count that came out equal: as good as small.
    let floor = pooled * 1e-6;
    let logs: f64 = variances
        .iter()
        .map(|v| v.df * v.value.max(floor).ln())
        .sum();
    let statistic = all * pooled.ln() - logs;
    let inverse: f64 = variances.iter().map(|v| 1.0 / v.df).sum();
    let correction = 1.0 + (inverse - 1.0 / all) / (3.0 * (groups - 1.0));
    let chi = ChiSquared::new(groups - 1.0).ok()?;
    Some(chi.sf(statistic / correction))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Arms = Vec<(usize, BTreeMap<u64, f64>)>;

    fn arms(values: &[&[f64]]) -> Arms {
        let arm = |values: &&[f64]| (1..).zip(values.iter().copied()).collect();
        values.iter().map(arm).enumerate().collect()
    }

    fn noise(arms: &Arms) -> SeedNoise {
        SeedNoise::of(arms, 0.0)
    }

    // By hand: arms (1, 2, 3), (2, 3, 7): residuals ∓2/3 … differences 1, 1, 4 have variance 3, half of it 1.5.
    #[test]
    fn two_arms_have_half_the_variance_of_their_differences() {
        let found = noise(&arms(&[&[1.0, 2.0, 3.0], &[2.0, 3.0, 7.0]]));
        let paired = found.paired.unwrap();
        assert!(
            (paired.value - 1.5).abs() < 1e-12 && (paired.df - 2.0).abs() < 1e-12,
            "{paired:?}"
        );
        // Within the arms: (2 + 14) / 4.
        assert!((found.single.unwrap().value - 4.0).abs() < 1e-12);
    }

    // tests/golden/statistics.json: statsmodels, ols("y ~ C(arm) + C(seed)").fit().mse_resid, one cell missing.
    #[test]
    fn a_missing_cell_is_fitted_as_statsmodels_does() {
        let mut values = arms(&[&[1.0, 2.0, 4.0], &[2.5, 3.0, 7.0], &[0.5, 2.5, 3.0]]);
        values[1].1.remove(&2);
        let paired = noise(&values).paired.unwrap();
        assert!((paired.df - 3.0).abs() < 1e-12);
        assert!(
            (paired.value - MISSING_CELL).abs() < 1e-9,
            "{}",
            paired.value
        );
    }

    const MISSING_CELL: f64 = 0.534_722_222_222_222_2;

    // tests/golden/statistics.json: scipy.stats.bartlett.
    #[test]
    fn bartletts_test_is_that_of_scipy() {
        let of = |values: &[f64]| MeanSquare {
            value: squares(values) / (values.len() - 1) as f64,
            df: (values.len() - 1) as f64,
        };
        let groups = [
            &[1.0, 2.0, 3.5, 4.0][..],
            &[2.0, 9.0, 4.0],
            &[1.0, 1.1, 1.3, 0.8],
        ];
        let p = bartlett(&groups.map(of)).unwrap();
        assert!((p / BARTLETT - 1.0).abs() < 1e-9, "{p}");
    }

    const BARTLETT: f64 = 0.003_299_171_888_558_959;

    #[test]
    fn what_all_arms_share_at_a_seed_is_no_noise_of_pairs() {
        let found = noise(&arms(&[
            &[1.0, 5.0, 3.0],
            &[2.0, 6.0, 4.0],
            &[0.0, 4.0, 2.0],
        ]));
        assert!(found.paired.unwrap().value < 1e-24);
        let single = found.single.unwrap();
        assert!(
            (single.value - 4.0).abs() < 1e-12 && (single.df - 2.0).abs() < 1e-9,
            "{single:?}"
        );
    }

    #[test]
    fn arms_of_one_seed_tell_nothing() {
        assert_eq!(noise(&arms(&[&[1.0], &[2.0]])).paired, None);
        let apart: Arms = vec![
            (0, [(1, 1.0), (2, 2.0)].into()),
            (1, [(3, 1.0), (4, 4.0)].into()),
        ];
        assert_eq!(
            components(&apart.iter().map(|arm| &arm.1).collect::<Vec<_>>()),
            2
        );
        // Each seed has one arm: nothing tells seeds from arms.
        assert_eq!(noise(&apart).paired, None);
    }

    // Two arms that agree to a hundredth, and one that diverges: it drowns nothing, and counts by itself.
    #[test]
    fn an_arm_that_diverges_is_set_apart() {
        let values = arms(&[
            &[1.00, 1.21, 1.42, 0.93],
            &[1.01, 1.20, 1.43, 0.91],
            &[9.0, 2.0, 40.0, 3.0],
            &[1.03, 1.22, 1.41, 0.94],
        ]);
        let found = noise(&values);
        assert_eq!(found.apart, [2].into());
        assert!(found.paired.unwrap().value < 2e-4, "{found:?}");
        // Where rows alone move a seed by as much, it is nothing special.
        assert!(SeedNoise::of(&values, 100.0).apart.is_empty());
        // Nor is a count that differs once among some that came out equal.
        let counts = arms(&[&[0.9, 0.9, 0.9], &[0.8, 0.8, 0.8], &[0.9, 0.9, 0.8]]);
        assert!(noise(&counts).apart.is_empty());
    }
}
