//! Log-probabilities of given replies under frozen weights.

use crate::data::{TokenBatch, TokenizedExample, TokenizedPair, document_batches, pair_batches};
use crate::model::{Decoder, DecoderConfig, flops_per_token};
use crate::train::error::TrainError;
use candle_core::DType;

/// How likely a model finds one reply, or all replies of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplyScore {
    /// Log-probability, nats, summed in f64 over the tokens.
    pub logp: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

impl ReplyScore {
    /// Probability of the reply by token, `π(y) = exp(mean token log-probability)`: its scale does
    /// not depend on the length.
    pub fn probability(&self) -> f64 {
        self.mean_logp().exp()
    }

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

/// Estimated floating-point operations of one forward pass over a batch; a training step costs
/// three times as much.
pub fn forward_flops(config: &DecoderConfig, batch: &TokenBatch) -> f64 {
    let lengths = batch.cu_seqlens.windows(2).map(|w| f64::from(w[1] - w[0]));
    let seen: f64 = lengths.map(|len| len * (len + 1.0) / 2.0).sum();
    let positions = batch.len().max(1) as f64;
    flops_per_token(config, seen / positions) * positions
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
    let hidden = decoder.hidden(&batch.tokens, &batch.positions, &batch.cu_seqlens)?; // (T, D)
    let logps = decoder.token_logps(&hidden, &batch.target_rows, &batch.targets)?; // (N,)
    let logps = logps.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    for (logp, &segment) in logps.into_iter().zip(&batch.target_segments) {
        let score = &mut scores[segment as usize];
        score.logp += logp;
        score.tokens += 1;
    }
    Ok(scores)
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
        let halves = score_segments(decoder, &part.batch)?;
        scores.extend(halves.chunks_exact(2).map(|half| PairScore {
            chosen: half[0],
            rejected: half[1],
        }));
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
