//! Scores from log-probabilities of replies under the pipeline's own models.

use super::context::SelectContext;
use super::error::SelectError;
use super::order::{Direction, Selection, ranked, take};
use super::rows::RowsRef;
use super::work::Work;
use crate::data::TokenizedExample;
use crate::train::{PairScore, ReplyScore, Scorer, score_documents, score_pairs};

/// Tokens of every row's reply, before any cut; of a pair of the preferred one.
pub(super) fn lengths(rows: &RowsRef<'_>) -> Vec<Option<f64>> {
    match rows {
        RowsRef::Chat { tokens, .. } => tokens.iter().map(|t| Some(t.targets() as f64)).collect(),
        RowsRef::Pairs { tokens, .. } => {
            let length = |pair: &crate::data::TokenizedPair| pair.chosen.len() + pair.cut.chosen;
            tokens.iter().map(|t| Some(length(t) as f64)).collect()
        }
    }
}

/// `PPL(y | x) = exp(-mean token log-probability)` of every row's reply; none without a token.
pub(super) fn perplexities(
    policy: &mut dyn Scorer,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<f64>>, SelectError> {
    let (documents, max_seq_len) = rows.documents();
    work.plan(documents.len());
    let scores = score(policy, &documents, max_seq_len, context, work)?;
    Ok(scores.iter().map(|s| Some((-mean(s)?).exp())).collect())
}

/// The highest IFD below 1: see [`ifd`].
pub(super) fn select_by_ifd(
    policy: &mut dyn Scorer,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    keep: usize,
    work: &mut Work<'_, '_>,
) -> Result<Selection, SelectError> {
    let scores = ifd(policy, rows, context, work)?;
    let mut order = ranked(&scores, Direction::Highest);
    order.retain(|&row| scores[row].is_some_and(|ifd| ifd < 1.0));
    take(order, scores, keep, "at-or-above-1")
}

/// `PPL(y | x) / PPL(y)` of every row.
///
/// For `PPL(y)` a reply stands alone behind the tokenizer's beginning-of-text token; where there is
/// none, its first token cannot be predicted and does not count. The replies of a conversation stand
/// alone each, and their token log-probabilities are averaged together. No score without a token to
/// predict on both sides.
pub(super) fn ifd(
    policy: &mut dyn Scorer,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<f64>>, SelectError> {
    let (documents, max_seq_len) = rows.documents();
    let bos = context.format.bos_token();
    let mut alone = Vec::new();
    let mut owners = Vec::new();
    for (row, document) in documents.iter().enumerate() {
        for reply in replies(document, max_seq_len, bos) {
            alone.push(reply);
            owners.push(row);
        }
    }
    work.plan(documents.len() + alone.len());
    let given = score(policy, &documents, max_seq_len, context, work)?;
    let parts = score(policy, &alone, usize::MAX, context, work)?;
    let mut direct = vec![ReplyScore::default(); documents.len()];
    for (row, part) in owners.into_iter().zip(parts) {
        direct[row].logp += part.logp;
        direct[row].tokens += part.tokens;
    }
    let both = given.iter().zip(&direct);
    Ok(both
        .map(|(given, direct)| Some((mean(direct)? - mean(given)?).exp()))
        .collect())
}

/// `(log π(y_w) - log π_0(y_w)) - (log π(y_l) - log π_0(y_l))` of every pair, π the first model.
pub(super) fn implicit_gaps(
    (policy, base): (&mut dyn Scorer, &mut dyn Scorer),
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<f64>>, SelectError> {
    work.plan(2 * rows.len());
    let policy = halves(policy, rows, context, work)?;
    let base = halves(base, rows, context, work)?;
    let gap = |s: &PairScore| s.chosen.logp - s.rejected.logp;
    let both = policy.iter().zip(&base);
    Ok(both.map(|(p, b)| Some(gap(p) - gap(b))).collect())
}

/// Mean token log-probability of `y_w` less that of `y_l`, for every pair.
pub(super) fn margins(
    policy: &mut dyn Scorer,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<f64>>, SelectError> {
    work.plan(rows.len());
    let scores = halves(policy, rows, context, work)?;
    let margin = |s: &PairScore| Some(mean(&s.chosen)? - mean(&s.rejected)?);
    Ok(scores.iter().map(margin).collect())
}

fn mean(score: &ReplyScore) -> Option<f64> {
    (score.tokens > 0).then(|| score.mean_logp())
}

fn score(
    model: &mut dyn Scorer,
    documents: &[TokenizedExample],
    max_seq_len: usize,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<ReplyScore>, SelectError> {
    let limit = context.max_positions;
    Ok(work.pass(|told| score_documents(model, documents, max_seq_len, limit, told))?)
}

fn halves(
    model: &mut dyn Scorer,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    work: &mut Work<'_, '_>,
) -> Result<Vec<PairScore>, SelectError> {
    let RowsRef::Pairs { tokens, .. } = rows else {
        return Err(SelectError::Recipe(
            "the method chooses among preference pairs".to_owned(),
        ));
    };
    Ok(work.pass(|told| score_pairs(model, tokens, context.max_positions, told))?)
}

/// Every reply of a document, within the first `max_seq_len` tokens, as a document of its own.
fn replies(
    document: &TokenizedExample,
    max_seq_len: usize,
    bos: Option<u32>,
) -> Vec<TokenizedExample> {
    let length = document.tokens.len().min(max_seq_len);
    let mask = &document.loss_mask[..length];
    let mut found = Vec::new();
    let mut at = 0;
    for part in mask.chunk_by(|a, b| a == b) {
        let span = at..at + part.len();
        at = span.end;
        if part[0] {
            let mut tokens: Vec<u32> = bos.into_iter().collect();
            tokens.extend_from_slice(&document.tokens[span]);
            let mut loss_mask = vec![true; tokens.len()];
            loss_mask[0] = false;
            found.push(TokenizedExample {
                id: document.id.clone(),
                tokens,
                loss_mask,
                source: document.source.clone(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    // Prompt 1 2, reply 3 4, prompt 5, reply 6 7; cut after the 6.
    #[test]
    fn replies_stand_alone_behind_the_first_token_of_texts() {
        let document = TokenizedExample {
            id: "x".to_owned(),
            tokens: vec![1, 2, 3, 4, 5, 6, 7],
            loss_mask: [0, 0, 1, 1, 0, 1, 1].map(|m| m == 1).to_vec(),
            source: String::new(),
        };
        let parts = replies(&document, 6, Some(9));
        let tokens: Vec<&[u32]> = parts.iter().map(|p| &*p.tokens).collect();
        assert_eq!(tokens, [&[9, 3, 4][..], &[9, 6]]);
        assert_eq!(parts[0].loss_mask, [false, true, true]);
        let parts = replies(&document, 7, None);
        assert_eq!(parts[1].tokens, [6, 7]);
        assert_eq!(parts[1].loss_mask, [false, true]);
        assert!(replies(&document, 2, None).is_empty());
    }
}
