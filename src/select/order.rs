//! Rules over scores: pure functions.

use super::error::SelectError;
use crate::base::SeedTree;
use crate::config::select::{PerplexityBand, PreferenceStrength};
use crate::data::permutation;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What was chosen, and by which scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Places of the kept rows, in the order in which they were chosen.
    pub kept: Vec<usize>,
    /// The score of each row; absent where a row has none or the method has none.
    pub scores: Vec<Option<f64>>,
    /// Why a row has no score, by its place, where the method says it of single rows.
    pub unscored: BTreeMap<usize, String>,
    /// What became of the rows that could not be chosen, by reason.
    pub notes: BTreeMap<String, usize>,
}

/// Which scores come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Highest,
    Lowest,
}

impl Selection {
    /// Drops scores that say nothing.
    pub(super) fn without_scores(mut self) -> Self {
        self.scores = vec![None; self.scores.len()];
        self
    }

    /// Counts rows under a reason.
    pub(super) fn note(&mut self, reason: &str, count: usize) {
        if count > 0 {
            self.notes.insert(reason.to_owned(), count);
        }
    }
}

/// Rows with a score that is a number, in the order of the rows.
pub(super) fn scored(scores: &[Option<f64>]) -> Vec<usize> {
    let with = scores.iter().enumerate();
    with.filter(|(_, score)| score.is_some_and(f64::is_finite))
        .map(|(row, _)| row)
        .collect()
}

/// All rows with a score, best first, ties by place.
pub(super) fn ranked(scores: &[Option<f64>], direction: Direction) -> Vec<usize> {
    let mut rows = scored(scores);
    let value = |row: usize| scores[row].unwrap_or_default();
    rows.sort_by(|&a, &b| {
        // Of numbers, so that there is an order; -0 and 0 are one score.
        let by_score = match direction {
            Direction::Highest => value(b).partial_cmp(&value(a)),
            Direction::Lowest => value(a).partial_cmp(&value(b)),
        };
        let by_score = by_score.unwrap_or(Ordering::Equal);
        by_score.then(a.cmp(&b))
    });
    rows
}

/// The `keep` best.
pub(super) fn best(
    scores: Vec<Option<f64>>,
    keep: usize,
    direction: Direction,
) -> Result<Selection, SelectError> {
    let order = ranked(&scores, direction);
    take(order, scores, keep, "")
}

/// The first `keep` of the rows with a score, in the order of [`crate::data::select`].
pub(super) fn seeded(
    scores: Vec<Option<f64>>,
    keep: usize,
    seed: &SeedTree,
) -> Result<Selection, SelectError> {
    let rows = scored(&scores);
    seeded_of(rows, scores, keep, seed, "")
}

/// The first `keep` of `eligible`, in the order of [`crate::data::select`].
pub(super) fn seeded_of(
    eligible: Vec<usize>,
    scores: Vec<Option<f64>>,
    keep: usize,
    seed: &SeedTree,
    others: &str,
) -> Result<Selection, SelectError> {
    let order = permutation(eligible.len(), &seed.child("data/select"));
    let order = order.into_iter().map(|i| eligible[i]).collect();
    take(order, scores, keep, others)
}

/// The first `keep` of `order`; `others` is why a scored row is not in it.
pub(super) fn take(
    order: Vec<usize>,
    scores: Vec<Option<f64>>,
    keep: usize,
    others: &str,
) -> Result<Selection, SelectError> {
    let unscored = BTreeMap::new();
    take_explained(order, scores, unscored, keep, others)
}

/// The same where rows without a score have a reason, by their places.
pub(super) fn take_explained(
    mut order: Vec<usize>,
    scores: Vec<Option<f64>>,
    unscored: BTreeMap<usize, String>,
    keep: usize,
    others: &str,
) -> Result<Selection, SelectError> {
    let (rows, with_score) = (scores.len(), scored(&scores).len());
    let mut selection = Selection {
        scores,
        unscored,
        ..Selection::default()
    };
    for reason in selection.unscored.values() {
        *selection.notes.entry(reason.clone()).or_default() += 1;
    }
    let explained = selection.unscored.len();
    selection.note("without-score", rows - with_score - explained);
    selection.note(others, with_score - order.len());
    if keep > order.len() {
        return Err(too_few(keep, order.len(), &selection));
    }
    order.truncate(keep);
    selection.kept = order;
    Ok(selection)
}

/// The error of a selection that falls short, with its notes as reasons.
fn too_few(wanted: usize, found: usize, selection: &Selection) -> SelectError {
    let notes = selection.notes.iter();
    let reasons: Vec<String> = notes.map(|(why, n)| format!("{n} {why}")).collect();
    SelectError::TooFew {
        wanted,
        found,
        rows: selection.scores.len(),
        why: if reasons.is_empty() {
            String::new()
        } else {
            format!(": {}", reasons.join(", "))
        },
    }
}

/// `keep` rows by the seed out of those whose rank lies between two quantiles.
///
/// Of n rows in ascending order those from place `round(low n)` to before `round(high n)`.
pub(super) fn by_quantiles(
    scores: Vec<Option<f64>>,
    band: PerplexityBand,
    keep: usize,
    seed: &SeedTree,
) -> Result<Selection, SelectError> {
    let order = ranked(&scores, Direction::Lowest);
    let place = |quantile: f64| (quantile * order.len() as f64).round() as usize;
    let (low, high) = (
        place(band.low.get()),
        place(band.high.get()).min(order.len()),
    );
    let mut inside = order[low.min(high)..high].to_vec();
    inside.sort_unstable();
    seeded_of(inside, scores, keep, seed, "outside-band")
}

/// `keep` rows out of bins of scores, each with its quota, by the seed within a bin; bin by bin.
pub(super) fn by_bins(
    scores: Vec<Option<f64>>,
    recipe: &PreferenceStrength,
    keep: usize,
    seed: &SeedTree,
) -> Result<Selection, SelectError> {
    let count = recipe.edges.len().saturating_sub(1);
    let mut bins: Vec<Vec<usize>> = vec![Vec::new(); count];
    for row in scored(&scores) {
        if let Some(bin) = open_bin(recipe, scores[row].unwrap_or_default()) {
            bins[bin].push(row);
        }
    }
    let equal = vec![1.0; count];
    let weights = recipe.weights.as_ref().unwrap_or(&equal);
    let sizes: Vec<usize> = bins.iter().map(Vec::len).collect();
    let quotas = quotas(weights, &sizes, keep);
    let mut order = Vec::new();
    let mut rest = Vec::new();
    for (index, (bin, quota)) in bins.iter().zip(quotas).enumerate() {
        let seed = seed.child("select/bin").index(index as u64);
        let mut rows = permutation(bin.len(), &seed).into_iter().map(|i| bin[i]);
        order.extend(rows.by_ref().take(quota));
        rest.extend(rows);
    }
    // Rows beyond the quotas are behind all others: `take` counts them as choosable.
    order.extend(rest);
    take(order, scores, keep, "outside-bins")
}

/// The bin of `value`, if it has a weight.
pub(super) fn open_bin(recipe: &PreferenceStrength, value: f64) -> Option<usize> {
    let bin = bin_of(&recipe.edges, value)?;
    let weights = recipe.weights.as_ref();
    weights
        .is_none_or(|weights| weights[bin] > 0.0)
        .then_some(bin)
}

/// The bin of `value`; the last bin has its upper edge.
fn bin_of(edges: &[f64], value: f64) -> Option<usize> {
    let bins = edges.len().checked_sub(1)?;
    let above = edges.iter().take_while(|edge| **edge <= value).count();
    match above {
        0 => None,
        n if n <= bins => Some(n - 1),
        _ if edges.last() == Some(&value) => Some(bins - 1),
        _ => None,
    }
}

/// Shares `total` among bins in proportion to `weights`, none above its size: by largest remainder
/// (ties to the lower bin), and again among the bins with room until nothing is left to share. Sums
/// to `total` if the bins with a weight hold so many.
fn quotas(weights: &[f64], sizes: &[usize], total: usize) -> Vec<usize> {
    let mut quotas = vec![0; sizes.len()];
    let mut left = total;
    while left > 0 {
        let open: Vec<usize> = (0..sizes.len())
            .filter(|&i| weights[i] > 0.0 && quotas[i] < sizes[i])
            .collect();
        if open.is_empty() {
            break;
        }
        let whole: f64 = open.iter().map(|&i| weights[i]).sum();
        let ideal: Vec<f64> = open
            .iter()
            .map(|&i| left as f64 * (weights[i] / whole))
            .collect();
        let mut shares: Vec<usize> = ideal.iter().map(|x| x.floor() as usize).collect();
        let mut by_remainder: Vec<usize> = (0..open.len()).collect();
        by_remainder.sort_by(|&a, &b| {
            let remainder = |i: usize| ideal[i] - ideal[i].floor();
            remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b))
        });
        let given: usize = shares.iter().sum();
        for &i in by_remainder.iter().take(left.saturating_sub(given)) {
            shares[i] += 1;
        }
        for (&bin, share) in open.iter().zip(shares) {
            let share = share.min(sizes[bin] - quotas[bin]).min(left);
            quotas[bin] += share;
            left -= share;
        }
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::select::GapSource;
    use proptest::prelude::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().map(|v| Some(*v)).collect()
    }

    fn strength(edges: &[f64], weights: Option<&[f64]>) -> PreferenceStrength {
        PreferenceStrength {
            gap: GapSource::Column("gap".to_owned()),
            edges: edges.to_vec(),
            weights: weights.map(<[f64]>::to_vec),
        }
    }

    #[test]
    fn equal_scores_are_ordered_by_place_at_both_ends() {
        let scores = some(&[1.0, 3.0, 1.0, 3.0, -0.0, 0.0]);
        let best_of = |direction| best(scores.clone(), 3, direction).unwrap().kept;
        assert_eq!(best_of(Direction::Highest), [1, 3, 0]);
        assert_eq!(best_of(Direction::Lowest), [4, 5, 0]);
    }

    #[test]
    fn rows_without_a_number_are_never_chosen_and_counted() {
        let scores = vec![Some(1.0), None, Some(f64::NAN), Some(2.0)];
        let two = best(scores.clone(), 2, Direction::Highest).unwrap();
        assert_eq!(two.kept, [3, 0]);
        assert_eq!(two.notes["without-score"], 2);
        let error = best(scores, 3, Direction::Highest).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`keep` is 3, but only 2 of 4 rows can be chosen: 2 without-score"
        );
    }

    #[test]
    fn a_seeded_choice_is_that_of_max_examples() {
        let seed = SeedTree::root(11);
        let kept = seeded(some(&[0.0; 50]), 7, &seed).unwrap().kept;
        let items: Vec<usize> = (0..50).collect();
        assert_eq!(kept, crate::data::select(items, Some(7), &seed).unwrap());
    }

    // Ascending: rows 4 3 2 1 0; quantiles 0.2 to 0.8 of five rows are places 1 to 3.
    #[test]
    fn a_band_of_quantiles_leaves_out_both_ends() {
        let scores = some(&[50.0, 40.0, 30.0, 20.0, 10.0]);
        let band = PerplexityBand {
            low: 0.2.try_into().unwrap(),
            high: 0.8.try_into().unwrap(),
        };
        let mut chosen = by_quantiles(scores.clone(), band, 3, &SeedTree::root(0)).unwrap();
        chosen.kept.sort_unstable();
        assert_eq!(chosen.kept, [1, 2, 3]);
        assert_eq!(chosen.notes["outside-band"], 2);
        let error = by_quantiles(scores, band, 4, &SeedTree::root(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`keep` is 4, but only 3 of 5 rows can be chosen: 2 outside-band"
        );
    }

    #[test]
    fn a_bin_has_its_lower_edge_and_the_last_both() {
        let edges = [0.0, 1.0, 2.0];
        let bins = [-0.1, 0.0, 0.9, 1.0, 2.0, 2.1].map(|v| bin_of(&edges, v));
        assert_eq!(bins, [None, Some(0), Some(0), Some(1), Some(1), None]);
    }

    // Six of weights 1:1:2 are 1.5, 1.5, 3: the half goes to the lower bin. With one row in the last
    // bin, its other two go on to the first two bins.
    #[test]
    fn quotas_follow_the_weights_and_what_is_left_goes_on() {
        assert_eq!(quotas(&[1.0, 1.0, 2.0], &[9, 9, 9], 6), [2, 1, 3]);
        assert_eq!(quotas(&[1.0, 1.0, 2.0], &[9, 9, 1], 6), [3, 2, 1]);
        assert_eq!(quotas(&[1.0, 0.0], &[2, 9], 6), [2, 0]);
        assert_eq!(quotas(&[1.0; 3], &[5, 0, 5], 5), [3, 0, 2]);
    }

    proptest! {
        #[test]
        fn quotas_sum_to_what_is_wanted_or_to_all_there_is(
            bins in proptest::collection::vec((0usize..30, 0u8..4), 1..8), total in 0usize..100
        ) {
            let sizes: Vec<usize> = bins.iter().map(|bin| bin.0).collect();
            let weights: Vec<f64> = bins.iter().map(|bin| f64::from(bin.1)).collect();
            let got = quotas(&weights, &sizes, total);
            let room = (0..sizes.len()).filter(|&i| weights[i] > 0.0).map(|i| sizes[i]);
            prop_assert_eq!(got.iter().sum::<usize>(), total.min(room.sum()));
            prop_assert!(got.iter().zip(&sizes).all(|(quota, size)| quota <= size));
        }
    }

    #[test]
    fn bins_give_their_quota_by_the_seed() {
        let gaps: Vec<f64> = (0..30).map(|i| f64::from(i / 10)).collect();
        let recipe = strength(&[0.0, 1.0, 2.0, 3.0], Some(&[1.0, 0.0, 2.0]));
        let run = |seed| by_bins(some(&gaps), &recipe, 6, &SeedTree::root(seed)).unwrap();
        let one = run(1);
        let bins: Vec<usize> = one.kept.iter().map(|row| row / 10).collect();
        assert_eq!(bins, [0, 0, 2, 2, 2, 2]);
        assert_eq!(one, run(1));
        assert_ne!(one.kept, run(2).kept);
        assert_eq!(
            one.notes["outside-bins"], 10,
            "a bin of weight 0 gives nothing"
        );
        let error = by_bins(some(&gaps), &recipe, 21, &SeedTree::root(1)).unwrap_err();
        let want = "`keep` is 21, but only 20 of 30 rows can be chosen: 10 outside-bins";
        assert_eq!(error.to_string(), want);
    }
}
