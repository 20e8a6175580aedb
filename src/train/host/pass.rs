//! Passes by the decoder, with and without its graph.

use crate::data::TokenBatch;
use crate::model::{Decoder, Segments};
use crate::train::engine::{Learner, Nll, Weigh};
use crate::train::error::TrainError;
use crate::train::host::gradients::{Gradients, with_f32_slice};
use crate::train::loss::segment_sums;
use crate::train::score::{ReplyScore, Scorer, TokenScore};
use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;

/// Hidden states after the final norm of all positions of a batch, `(T, D)`.
///
/// # Errors
/// A token is outside the vocabulary, or the device refuses.
pub fn hidden_states(decoder: &Decoder, batch: &TokenBatch) -> candle_core::Result<Tensor> {
    let segments = Segments::with_prefixes(&batch.cu_seqlens, &batch.prefixes);
    decoder.hidden_in(&batch.tokens, &batch.positions, &segments)
}

impl Scorer for Decoder {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        if batch.targets.is_empty() {
            return Ok(Vec::new());
        }
        let hidden = hidden_states(self, batch)?; // (T, D)
        let (rows, targets) = (&batch.target_rows, &batch.targets);
        let (logps, stats) = self.token_logps_with_stats(&hidden, rows, targets)?; // (N,)
        let logps = logps.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let score = |(logp, likeliest)| TokenScore { logp, likeliest };
        Ok(logps.into_iter().zip(stats.correct).map(score).collect())
    }
}

/// A decoder that records its graph, and the gradients of its passes so far.
pub struct HostLearner {
    decoder: Decoder,
    /// What gradients are taken of.
    vars: BTreeMap<String, Var>,
    gradients: Gradients,
}

impl HostLearner {
    /// Without a pass yet; `vars` are those of the decoder that learn.
    pub fn new(decoder: Decoder, vars: BTreeMap<String, Var>) -> Self {
        Self {
            decoder,
            vars,
            gradients: Gradients::default(),
        }
    }

    /// The gradients alone: decoder and working copies of weights are gone then.
    pub(super) fn into_gradients(self) -> Gradients {
        self.gradients
    }
}

impl Scorer for HostLearner {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        self.decoder.token_scores(batch)
    }
}

impl Learner for HostLearner {
    fn nll(&mut self, batch: &TokenBatch, factor: f64) -> Result<Nll, TrainError> {
        let hidden = hidden_states(&self.decoder, batch)?; // (T, D)
        let (rows, targets) = (&batch.target_rows, &batch.targets);
        let nll = self.decoder.summed_nll(&hidden, rows, targets, factor)?;
        let found = Nll {
            logp: nll.logps.iter().sum(),
            hits: nll.stats.correct.iter().filter(|&&hit| hit).count(),
        };
        // The graph and its activations die here, before the next pass and before the update.
        let mut store = nll.loss.backward()?;
        drop((hidden, nll));
        self.gradients.accumulate(&self.vars, &mut store)?;
        Ok(found)
    }

    fn weighted(&mut self, batch: &TokenBatch, weigh: &mut Weigh<'_>) -> Result<(), TrainError> {
        let hidden = hidden_states(&self.decoder, batch)?; // (T, D)
        let (rows, targets) = (&batch.target_rows, &batch.targets);
        let logps = self.decoder.token_logps(&hidden, rows, targets)?; // (N,)
        let sums = segment_sums(&logps, &batch.target_segments, batch.segments())?; // (S,)
        let logp = sums.detach().to_vec1::<f64>()?.into_iter();
        let score = |logp| ReplyScore {
            logp,
            ..ReplyScore::default()
        };
        let mut scores: Vec<ReplyScore> = logp.map(score).collect();
        for &segment in &batch.target_segments {
            scores[segment as usize].tokens += 1;
        }
        // The gradient of this sum by the log-probabilities is the given one.
        let weights = Tensor::new(weigh(&scores)?, sums.device())?; // (S,)
        let mut store = (&sums * weights)?.sum_all()?.backward()?;
        drop((hidden, logps, sums));
        self.gradients.accumulate(&self.vars, &mut store)
    }

    fn take_gradients(&mut self, take: &mut dyn FnMut(&[f32])) -> Result<(), TrainError> {
        for (_, gradient) in std::mem::take(&mut self.gradients).iter() {
            with_f32_slice(&gradient.to_device(&candle_core::Device::Cpu)?, &mut *take)?;
        }
        Ok(())
    }
}
