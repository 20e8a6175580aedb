//! Held-out preference pairs: which reply the implicit reward prefers.

use crate::data::TokenizedPair;
use crate::eval::record::{RowRecord, SetResult};
use crate::eval::stats::mean;
use crate::train::{PairMeasures, PairScore, ReferenceLogps, TrainError};
use std::collections::BTreeMap;

/// Measures of a set's pairs from their scores under the policy, in the same order.
///
/// Rewards are log-ratios `log π(y) - log π_ref(y)` in nats, that is with β = 1: an evaluation knows
/// no β, and accuracies do not depend on it. `logps/chosen_shift` is the mean of that log-ratio for
/// the preferred reply: below 0 where its likelihood has fallen. `length_baseline/longer` and
/// `…/shorter` are the accuracies of always preferring the reply with more, or fewer, tokens; equal
/// lengths count one half.
///
/// # Errors
/// A pair has no stored reference.
pub fn preference_metrics(
    set: &str,
    pairs: &[TokenizedPair],
    scores: &[PairScore],
    reference: &ReferenceLogps,
) -> Result<SetResult, TrainError> {
    let mut result = SetResult::default();
    for (pair, score) in pairs.iter().zip(scores) {
        let measures = PairMeasures::new(score, reference.of(pair)?, 1.0);
        let longer = longer_is_better(pair);
        let mut metrics: BTreeMap<String, f64> =
            measures.by_key().map(|(k, v)| (k.to_owned(), v)).into();
        metrics.insert("logps/chosen_shift".to_owned(), measures.chosen_reward);
        metrics.insert("logps/rejected_shift".to_owned(), measures.rejected_reward);
        metrics.insert("length_baseline/longer".to_owned(), longer);
        metrics.insert("length_baseline/shorter".to_owned(), 1.0 - longer);
        result.rows.push(RowRecord {
            set: set.to_owned(),
            row: pair.id.clone(),
            metrics,
        });
    }
    let keys: Vec<String> = result
        .rows
        .first()
        .map(|r| r.metrics.keys().cloned().collect())
        .unwrap_or_default();
    for key in keys {
        let values: Vec<f64> = result.rows.iter().map(|row| row.metrics[&key]).collect();
        result.put(set, &key, mean(&values));
    }
    Ok(result)
}

/// 1 if the preferred reply is longer, 0 if it is shorter, one half if both are equal.
fn longer_is_better(pair: &TokenizedPair) -> f64 {
    match pair.chosen.len().cmp(&pair.rejected.len()) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::ReplyScore;

    fn pair(id: &str, chosen: usize, rejected: usize) -> TokenizedPair {
        TokenizedPair {
            id: id.to_owned(),
            key: id.to_owned(),
            prompt: vec![1],
            chosen: vec![2; chosen],
            rejected: vec![3; rejected],
            cut: crate::data::PairCut::default(),
        }
    }

    fn score(chosen: f64, rejected: f64) -> PairScore {
        let reply = |logp| ReplyScore { logp, tokens: 2 };
        PairScore {
            chosen: reply(chosen),
            rejected: reply(rejected),
        }
    }

    // Margins 2 and -1 against equal references of -4: accuracy 1/2, margin 1/2. Lengths 3 > 2 and
    // 2 = 2: preferring the longer is right 3/4 of the time.
    #[test]
    fn accuracy_margin_and_length_baselines_match_the_hand_computed_values() {
        let pairs = [pair("a", 3, 2), pair("b", 2, 2)];
        let scores = [score(-3.0, -5.0), score(-6.0, -5.0)];
        let references = [score(-4.0, -4.0), score(-4.0, -4.0)];
        let keys = pairs.iter().map(|p| p.key.as_str());
        let reference = ReferenceLogps::from_scores(keys.zip(&references));
        let got = preference_metrics("p", &pairs, &scores, &reference).unwrap();
        let value = |key: &str| got.metrics[key].value;
        assert!((value("p/rewards/accuracies") - 0.5).abs() < 1e-12);
        assert!((value("p/rewards/margins") - 0.5).abs() < 1e-12);
        assert!((value("p/logps/chosen_shift") + 0.5).abs() < 1e-12);
        assert!((value("p/length_baseline/longer") - 0.75).abs() < 1e-12);
        assert!((value("p/length_baseline/shorter") - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_pair_without_a_reference_is_an_error_that_names_it() {
        let error = preference_metrics(
            "p",
            &[pair("a", 1, 2)],
            &[score(0.0, 0.0)],
            &ReferenceLogps::default(),
        );
        assert!(error.unwrap_err().to_string().contains("pair `a`"));
    }
}
