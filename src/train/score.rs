//! Log-probabilities of given replies.

use crate::arch::{DecoderConfig, forward_flops};
use crate::data::{
    PAIR_SEGMENTS, PairBatch, TokenBatch, TokenizedExample, TokenizedPair, document_batches,
    pair_batches,
};
use crate::train::error::TrainError;

/// How likely a model finds one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Log-probability, nats.
    pub logp: f64,
    /// Whether no token is likelier.
    pub likeliest: bool,
}

/// How likely a model finds one reply, or all replies of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplyScore {
    /// Log-probability, nats, summed in f64 over the tokens.
    pub logp: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Those of them that no token was likelier than; 0 of scores in training and of those that were stored, which nobody
    /// counts.
    pub likeliest: usize,
}

impl ReplyScore {
    /// Mean token log-probability, nats.
    pub fn mean_logp(&self) -> f64 {
        self.logp / self.tokens.max(1) as f64
    }

    /// Whether a greedy reply would be this one; says nothing where `likeliest` was not counted.
    pub fn is_greedy(&self) -> bool {
        self.likeliest == self.tokens
    }
}

/// Scores of both replies of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairScore {
    /// Of the preferred reply.
    pub chosen: ReplyScore,
    /// Of the other.
    pub rejected: ReplyScore,
}

/// A model that scores.
pub trait Scorer {
    /// Scores of a batch's targets, (N,); no gradient is kept. That of a token depends on
    /// those of its segment before it alone, and on a CPU to the bit.
    ///
    /// # Errors
    /// A token lies outside the vocabulary, or the device refuses.
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError>;

    /// Their log-probabilities alone, nats, (N,).
    ///
    /// # Errors
    /// As [`Self::token_scores`].
    fn token_logps(&mut self, batch: &TokenBatch) -> Result<Vec<f64>, TrainError> {
        let scores = self.token_scores(batch)?.into_iter();
        Ok(scores.map(|score| score.logp).collect())
    }

    /// Sums them by segment, (S,), in f64 in the order of the targets.
    ///
    /// # Errors
    /// As [`Self::token_scores`].
    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<ReplyScore>, TrainError> {
        let scores = self.token_scores(batch)?;
        Ok(by_segment(batch, scores))
    }
}

/// Scores of a batch's segments, (S,), from those of its targets, (N,), summed in their order.
pub(super) fn by_segment(
    batch: &TokenBatch,
    targets: impl IntoIterator<Item = TokenScore>,
) -> Vec<ReplyScore> {
    let mut scores = vec![ReplyScore::default(); batch.segments()];
    for (target, &segment) in targets.into_iter().zip(&batch.target_segments) {
        let score = &mut scores[segment as usize];
        score.logp += target.logp;
        score.tokens += 1;
        score.likeliest += usize::from(target.likeliest);
    }
    scores
}

/// Told how many items are done; an error ends the work.
pub type Progress<'a> = dyn FnMut(usize) -> Result<(), TrainError> + 'a;

/// Floating-point operations of scoring pairs, in passes as [`score_pairs`] makes them.
pub fn pair_flops(config: &DecoderConfig, pairs: &[TokenizedPair], max_positions: usize) -> f64 {
    let pairs: Vec<&TokenizedPair> = pairs.iter().collect();
    let parts = pair_batches(&pairs, max_positions);
    let passes = parts.iter().map(|part| part.batch.pass());
    passes.map(|pass| forward_flops(config, &pass)).sum()
}

/// Scores every pair of a batch.
pub(super) fn score_pair_batch(
    model: &mut dyn Scorer,
    part: &PairBatch,
) -> Result<Vec<PairScore>, TrainError> {
    Ok(pair_scores(&model.score(&part.batch)?))
}

/// The pairs among the segments of a [`PairBatch`].
pub(super) fn pair_scores(segments: &[ReplyScore]) -> Vec<PairScore> {
    let pairs = segments.as_chunks::<PAIR_SEGMENTS>().0.iter();
    let pairs = pairs.map(|&[_, chosen, rejected]| PairScore { chosen, rejected });
    pairs.collect()
}

/// Scores every pair, in order, in passes of at most `max_positions` positions.
pub fn score_pairs(
    model: &mut dyn Scorer,
    pairs: &[TokenizedPair],
    max_positions: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<PairScore>, TrainError> {
    let pairs: Vec<&TokenizedPair> = pairs.iter().collect();
    let mut scores = Vec::with_capacity(pairs.len());
    for part in pair_batches(&pairs, max_positions) {
        scores.extend(score_pair_batch(model, &part)?);
        progress(scores.len())?;
    }
    Ok(scores)
}

/// Scores the replies of every document, in order; documents are cut to `max_seq_len` tokens.
pub fn score_documents(
    model: &mut dyn Scorer,
    examples: &[TokenizedExample],
    max_seq_len: usize,
    max_positions: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<ReplyScore>, TrainError> {
    let mut scores = Vec::with_capacity(examples.len());
    for (_, batch) in document_batches(examples, max_seq_len, max_positions) {
        scores.extend(model.score(&batch)?);
        progress(scores.len())?;
    }
    Ok(scores)
}
