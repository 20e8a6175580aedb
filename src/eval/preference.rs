//! Held-out preference pairs: which reply the implicit reward prefers.

use crate::data::TokenizedPair;
use crate::eval::cluster::prompt_cluster;
use crate::eval::record::{RowRecord, SetResult};
use crate::metrics::families::{HELD_OUT_PAIR, PAIR};
use crate::metrics::values;
use crate::train::{PairScore, ReferenceLogps, TrainError, pair_measures};

/// Measures of a set's pairs from their scores under the policy, in the same order.
///
/// Rewards are log-ratios `log π(y) - log π_ref(y)` in nats, that is with β = 1: an evaluation knows
/// no β, and accuracies do not depend on it.
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
        let reference = reference.of(pair)?;
        let rewards = (
            score.chosen.logp - reference.chosen,
            score.rejected.logp - reference.rejected,
        );
        let measures = pair_measures(score, reference, rewards);
        let own = values(PAIR.iter().chain(HELD_OUT_PAIR), &measures);
        result.rows.push(RowRecord {
            set: set.to_owned(),
            row: pair.id.clone(),
            cluster: prompt_cluster(&pair.prompt),
            metrics: own.map(|(key, value)| (key.to_owned(), value)).collect(),
        });
    }
    result.put_means(set);
    Ok(result)
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

    fn score(pair: &TokenizedPair, chosen: f64, rejected: f64) -> PairScore {
        let reply = |logp, tokens: &Vec<u32>| ReplyScore {
            logp,
            tokens: tokens.len(),
            likeliest: 0,
        };
        PairScore {
            chosen: reply(chosen, &pair.chosen),
            rejected: reply(rejected, &pair.rejected),
        }
    }

    // Margins 2 and -1 against equal references of -4: accuracy 1/2, margin 1/2. Lengths 3 > 2 and
    // 2 = 2: preferring the longer is right 3/4 of the time.
    #[test]
    fn accuracy_margin_and_length_baselines_match_the_hand_computed_values() {
        let pairs = [pair("a", 3, 2), pair("b", 2, 2)];
        let score = |of: usize, chosen, rejected| score(&pairs[of], chosen, rejected);
        let scores = [score(0, -3.0, -5.0), score(1, -6.0, -5.0)];
        let references = [score(0, -4.0, -4.0), score(1, -4.0, -4.0)];
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
            &[score(&pair("a", 1, 2), 0.0, 0.0)],
            &ReferenceLogps::default(),
        );
        assert!(error.unwrap_err().to_string().contains("pair `a`"));
    }
}
