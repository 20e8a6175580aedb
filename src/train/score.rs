//! Log-probabilities of given replies under frozen weights.

use crate::arch::{DecoderConfig, forward_flops};
use crate::data::{
    PAIR_SEGMENTS, PairBatch, TokenBatch, TokenizedExample, TokenizedPair, document_batches,
    pair_batches,
};
use crate::model::{Decoder, Segments};
use crate::train::error::TrainError;
use candle_core::{DType, Tensor};

/// How likely a model finds one reply, or all replies of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplyScore {
    /// Log-probability, nats, summed in f64 over the tokens.
    pub logp: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

impl ReplyScore {
    /// Mean token log-probability, nats.
    pub fn mean_logp(&self) -> f64 {
        self.logp / self.tokens.max(1) as f64
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

/// Told how many items are done; an error ends the work.
pub type Progress<'a> = dyn FnMut(usize) -> Result<(), TrainError> + 'a;

/// Floating-point operations of scoring pairs, in passes as [`score_pairs`] makes them.
pub fn pair_flops(config: &DecoderConfig, pairs: &[TokenizedPair], max_positions: usize) -> f64 {
    let pairs: Vec<&TokenizedPair> = pairs.iter().collect();
    let parts = pair_batches(&pairs, max_positions);
    let passes = parts.iter().map(|part| part.batch.pass());
    passes.map(|pass| forward_flops(config, &pass)).sum()
}

/// Hidden states after the final norm of all positions of a batch, `(T, D)`.
///
/// # Errors
/// A token is outside the vocabulary, or the device refuses.
pub fn hidden_states(decoder: &Decoder, batch: &TokenBatch) -> candle_core::Result<Tensor> {
    let segments = Segments::with_prefixes(&batch.cu_seqlens, &batch.prefixes);
    decoder.hidden_in(&batch.tokens, &batch.positions, &segments)
}

/// Sums the log-probabilities of a batch's targets by segment.
pub fn score_segments(
    decoder: &Decoder,
    batch: &TokenBatch,
) -> Result<Vec<ReplyScore>, TrainError> {
    let mut scores = vec![ReplyScore::default(); batch.segments()];
    if batch.targets.is_empty() {
        return Ok(scores);
    }
    let hidden = hidden_states(decoder, batch)?; // (T, D)
    let logps = decoder.token_logps(&hidden, &batch.target_rows, &batch.targets)?; // (N,)
    let logps = logps.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    for (logp, &segment) in logps.into_iter().zip(&batch.target_segments) {
        let score = &mut scores[segment as usize];
        score.logp += logp;
        score.tokens += 1;
    }
    Ok(scores)
}

/// Scores every pair of a batch.
pub(super) fn score_pair_batch(
    decoder: &Decoder,
    part: &PairBatch,
) -> Result<Vec<PairScore>, TrainError> {
    let scores = score_segments(decoder, &part.batch)?;
    let pairs = scores.as_chunks::<PAIR_SEGMENTS>().0.iter();
    let pairs = pairs.map(|&[_, chosen, rejected]| PairScore { chosen, rejected });
    Ok(pairs.collect())
}

/// Scores every pair, in order, in passes of at most `max_positions` positions.
pub fn score_pairs(
    decoder: &Decoder,
    pairs: &[TokenizedPair],
    max_positions: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<PairScore>, TrainError> {
    let pairs: Vec<&TokenizedPair> = pairs.iter().collect();
    let mut scores = Vec::with_capacity(pairs.len());
    for part in pair_batches(&pairs, max_positions) {
        scores.extend(score_pair_batch(decoder, &part)?);
        progress(scores.len())?;
    }
    Ok(scores)
}

/// Scores the replies of every document, in order; documents are cut to `max_seq_len` tokens.
pub fn score_documents(
    decoder: &Decoder,
    examples: &[TokenizedExample],
    max_seq_len: usize,
    max_positions: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<ReplyScore>, TrainError> {
    let mut scores = Vec::with_capacity(examples.len());
    for (_, batch) in document_batches(examples, max_seq_len, max_positions) {
        scores.extend(score_segments(decoder, &batch)?);
        progress(scores.len())?;
    }
    Ok(scores)
}
