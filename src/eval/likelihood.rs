//! Held-out likelihood of the assistant's replies.

use crate::data::TokenizedExample;
use crate::eval::record::{RowRecord, SetResult};
use crate::eval::stats::ratio;
use crate::rundir::MetricValue;
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
    let (mut sums, mut weights) = (Vec::new(), Vec::new());
    for (example, score) in examples.iter().zip(scores).filter(|(_, s)| s.tokens > 0) {
        let tokens = score.tokens as f64;
        sums.push(-score.logp);
        weights.push(tokens);
        result.rows.push(RowRecord {
            set: set.to_owned(),
            row: example.id.clone(),
            metrics: BTreeMap::from([
                ("loss".to_owned(), -score.logp / tokens),
                ("tokens".to_owned(), tokens),
            ]),
        });
    }
    let loss = ratio(&sums, &weights);
    let perplexity = loss.value.exp();
    result.put(set, "loss", loss);
    let perplexity = MetricValue {
        value: perplexity,
        stderr: loss.stderr.map(|e| e * perplexity), // first order
        n: loss.n,
    };
    result.put(set, "perplexity", perplexity);
    result
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
        let score = |logp, tokens| ReplyScore { logp, tokens };
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
