//! The order of examples, and which of them are used.

use super::error::DataError;
use crate::base::SeedTree;
use rand::Rng as _;

/// A uniformly random order of `0..n` (Fisher–Yates on ChaCha8), the same on every machine.
///
/// The draws come from a 64-bit range, so that the order does not depend on the width of `usize`.
pub fn permutation(n: usize, seed: &SeedTree) -> Vec<usize> {
    let mut rng = seed.rng();
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = rng.random_range(0..=i as u64) as usize;
        order.swap(i, j);
    }
    order
}

/// The first `max_examples` of the permutation by `seed` (its child `data/select`); all of them,
/// permuted, without a limit.
///
/// Smaller selections are prefixes of larger ones: a study over dataset size compares nested sets.
///
/// # Errors
/// There are fewer items than asked for, or none is asked for.
pub fn select<T>(
    items: Vec<T>,
    max_examples: Option<usize>,
    seed: &SeedTree,
) -> Result<Vec<T>, DataError> {
    let found = items.len();
    let wanted = max_examples.unwrap_or(found);
    if wanted > found {
        return Err(DataError::TooFew { wanted, found });
    }
    if wanted == 0 {
        return Err(DataError::Limits("`max-examples` is 0".to_owned()));
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let order = permutation(found, &seed.child("data/select"));
    Ok(order[..wanted]
        .iter()
        .filter_map(|&i| items[i].take())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_shuffle_is_a_permutation(n in 0usize..300, seed in any::<u64>()) {
            let mut order = permutation(n, &SeedTree::root(seed));
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn smaller_selections_are_prefixes_of_larger_ones(n in 2usize..100, k in 1usize..100, seed in any::<u64>()) {
            let k = k.min(n - 1);
            let seed = SeedTree::root(seed);
            let items: Vec<usize> = (0..n).collect();
            let small = select(items.clone(), Some(k), &seed).unwrap();
            let large = select(items, Some(k + 1), &seed).unwrap();
            prop_assert_eq!(&small[..], &large[..k]);
        }
    }

    // Every order of three things about equally often: 6 orders, 6000 seeds, 1000 each (s.d. 29).
    #[test]
    fn all_orders_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            *counts
                .entry(permutation(3, &SeedTree::root(seed)))
                .or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|n| (880..1120).contains(n)),
            "{counts:?}"
        );
    }

    // Pinned: a change here silently changes every published selection.
    #[test]
    fn the_order_is_pinned() {
        assert_eq!(permutation(8, &SeedTree::root(0)), [7, 5, 2, 0, 4, 3, 6, 1]);
    }

    #[test]
    fn asking_for_more_than_there_is_is_an_error() {
        let error = select(vec![1, 2], Some(3), &SeedTree::root(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`max-examples` is 3, but the data has 2 examples"
        );
    }
}
