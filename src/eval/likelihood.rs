//! Held-out likelihood of the assistant's replies.

use crate::data::TokenizedExample;
use crate::eval::cluster::prompt_cluster;
use crate::eval::record::{RowRecord, SetResult};
use crate::eval::stats::{ratio, transformed};
use crate::metrics::families::{DOCUMENT, ReplyTotals};
use crate::metrics::{Metric, values};
use crate::train::ReplyScore;
use std::collections::BTreeMap;

/// Loss and perplexity by reply token from the scores of a set's documents, in the same order.
///
/// `loss` is the negative log-likelihood of all replies over the number of their tokens, so long
/// replies weigh more; its standard error is taken over rows. Documents without a reply token in
/// reach have no row.
pub fn likelihood_metrics(
    set: &str,
    examples: &[TokenizedExample],
    scores: &[ReplyScore],
) -> SetResult {
    let mut result = SetResult::default();
    let scored = examples.iter().zip(scores).filter(|(_, s)| s.tokens > 0);
    let totals = |score: &ReplyScore| ReplyTotals {
        logp: score.logp,
        tokens: score.tokens,
    };
    let items: Vec<(&TokenizedExample, ReplyTotals)> = scored
        .map(|(example, score)| (example, totals(score)))
        .collect();
    for (example, item) in &items {
        let tokens = item.tokens as f64;
        // What follows from the mean of another metric is not a row's.
        let own = DOCUMENT.iter().filter(|m| m.spec.row_key == m.spec.suffix);
        let own = values(own, item).map(|(key, sum)| (key.to_owned(), sum / tokens));
        let mut metrics: BTreeMap<String, f64> = own.collect();
        metrics.insert("tokens".to_owned(), tokens);
        result.rows.push(RowRecord {
            set: set.to_owned(),
            row: example.id.clone(),
            cluster: prompt_cluster(before_reply(example)),
            metrics,
        });
    }
    let weights: Vec<f64> = items.iter().map(|(_, item)| item.tokens as f64).collect();
    for Metric { spec, of } in DOCUMENT {
        let sums: Vec<f64> = items.iter().filter_map(|(_, item)| of(item)).collect();
        let value = transformed(ratio(&sums, &weights), spec.transform);
        result.put(set, spec.suffix, value);
    }
    result
}

/// What stands before the first reply.
fn before_reply(example: &TokenizedExample) -> &[u32] {
    let reply = example.loss_mask.iter().position(|target| *target);
    &example.tokens[..reply.unwrap_or(0).min(example.tokens.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_by_token_and_rows_keep_their_own() {
        let example = |id: &str| TokenizedExample {
            id: id.to_owned(),
            tokens: Vec::new(),
            loss_mask: Vec::new(),
            source: String::new(),
        };
        let score = |logp, tokens| ReplyScore {
            logp,
            tokens,
            likeliest: 0,
        };
        let examples = [example("a"), example("b"), example("cut")];
        let scores = [score(-6.0, 2), score(-2.0, 6), score(0.0, 0)];
        let got = likelihood_metrics("s", &examples, &scores);
        assert!((got.metrics["s/loss"].value - 1.0).abs() < 1e-12);
        assert!((got.metrics["s/perplexity"].value - 1.0f64.exp()).abs() < 1e-12);
        assert_eq!(got.metrics["s/loss"].n, 2);
        assert_eq!(got.rows.len(), 2);
        assert!((got.rows[0].metrics["loss"] - 3.0).abs() < 1e-12);
    }
}
