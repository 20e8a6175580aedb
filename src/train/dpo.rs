//! Offline preference learning: a preference loss, mostly against stored reference
//! log-probabilities.

use crate::data::{PairBatch, PairPlan, TokenizedPair, pair_batches};
use crate::model::{Decoder, DecoderConfig};
use crate::train::error::TrainError;
use crate::train::loss::segment_sums;
use crate::train::pair_loss::{PairGradient, PairTerms, PreferenceLoss};
use crate::train::preference::PairMeasures;
use crate::train::reference::{ReferenceLogps, ReferencePair};
use crate::train::run::{Objective, StepOutput};
use crate::train::score::{PairScore, ReplyScore, forward_flops, score_pairs, score_segments};
use candle_core::Var;
use std::collections::BTreeMap;

/// Held-out pairs measured along training.
#[derive(Debug)]
pub struct PairMonitor {
    /// Metric keys begin with `eval_<name>/`.
    pub name: String,
    /// The pairs.
    pub pairs: Vec<TokenizedPair>,
}

/// Mean preference loss by pair, over the whole step. Both replies of a pair are segments of one
/// padding-free pass.
///
/// A loss that couples the pairs of a step needs all their log-probabilities before the first
/// gradient: a step that is split is then scored once without a graph, so that the split changes
/// nothing.
pub struct DpoObjective {
    /// Training pairs.
    pub pairs: Vec<TokenizedPair>,
    /// Which pairs each step sees.
    pub plan: PairPlan,
    /// Reference log-probabilities of training and held-out pairs; absent: taken as 0.
    pub reference: Option<ReferenceLogps>,
    /// The loss.
    pub loss: PreferenceLoss,
    /// Most positions in one pass.
    pub micro_batch_tokens: usize,
    /// Shape of the model, for counting operations.
    pub config: DecoderConfig,
    /// Held-out pairs.
    pub monitors: Vec<PairMonitor>,
    /// Steps between two measurements.
    pub monitor_every: Option<u64>,
}

impl DpoObjective {
    /// Checks that every pair, training and held-out, has its reference.
    ///
    /// # Errors
    /// [`TrainError::NoReference`] for the first that has none.
    pub fn check_references(&self) -> Result<(), TrainError> {
        let held_out = self.monitors.iter().flat_map(|m| &m.pairs);
        for pair in self.pairs.iter().chain(held_out) {
            self.reference_of(pair)?;
        }
        Ok(())
    }

    fn reference_of(&self, pair: &TokenizedPair) -> Result<ReferencePair, TrainError> {
        match &self.reference {
            Some(reference) => reference.of(pair),
            None => Ok(ReferencePair {
                chosen: 0.0,
                rejected: 0.0,
            }),
        }
    }

    /// What the loss needs of scored pairs; `mean_chosen_tokens` is that of their whole step.
    fn terms(
        &self,
        pairs: &[&TokenizedPair],
        scores: &[PairScore],
        mean_chosen_tokens: f64,
    ) -> Result<PairTerms, TrainError> {
        let references = pairs.iter().map(|pair| self.reference_of(pair));
        let references = references.collect::<Result<Vec<_>, _>>()?;
        Ok(PairTerms::new(scores, &references, mean_chosen_tokens)?)
    }

    /// Scores the whole step without a graph: its loss and the gradient of every pair.
    fn look_ahead(
        &self,
        decoder: &Decoder,
        pairs: &[&TokenizedPair],
        parts: &[PairBatch],
        out: &mut StepOutput,
    ) -> Result<PairGradient, TrainError> {
        let mut scores = Vec::with_capacity(pairs.len());
        for part in parts {
            out.flops += forward_flops(&self.config, &part.batch);
            let halves = score_segments(decoder, &part.batch)?;
            scores.extend(halves.chunks_exact(2).map(|half| PairScore {
                chosen: half[0],
                rejected: half[1],
            }));
        }
        let terms = self.terms(pairs, &scores, mean_chosen_tokens(pairs))?;
        Ok(self.loss.gradient(&terms, pairs.len())?)
    }

    /// One pass: adds its gradients to `out`; the scores of its pairs. `gradient` says, given
    /// those, how the loss changes with the log-probabilities.
    fn micro_step(
        &self,
        decoder: &Decoder,
        vars: &BTreeMap<String, Var>,
        pairs: &[&TokenizedPair],
        part: &PairBatch,
        out: &mut StepOutput,
        gradient: impl FnOnce(&[PairScore]) -> Result<PairGradient, TrainError>,
    ) -> Result<Vec<PairScore>, TrainError> {
        let batch = &part.batch;
        out.flops += 3.0 * forward_flops(&self.config, batch);
        let hidden = decoder.hidden(&batch.tokens, &batch.positions, &batch.cu_seqlens)?; // (T, D)
        let logps = decoder.token_logps(&hidden, &batch.target_rows, &batch.targets)?; // (N,)
        let sums = segment_sums(&logps, &batch.target_segments, batch.segments())?; // (2 B,)
        let halves = sums.detach().to_vec1::<f64>()?;
        let scores: Vec<PairScore> = halves
            .chunks_exact(2)
            .zip(pairs)
            .map(|(half, pair)| PairScore {
                chosen: ReplyScore {
                    logp: half[0],
                    tokens: pair.chosen.len(),
                },
                rejected: ReplyScore {
                    logp: half[1],
                    tokens: pair.rejected.len(),
                },
            })
            .collect();
        let gradient = gradient(&scores)?;
        out.loss += gradient.loss;
        // The gradient of this sum by the log-probabilities is the given one.
        let weights = gradient.interleaved(sums.device())?; // (2 B,)
        let mut store = (&sums * weights)?.sum_all()?.backward()?;
        drop((hidden, logps, sums));
        out.grads.accumulate(vars, &mut store)?;
        Ok(scores)
    }

    fn measure(&self, pair: &TokenizedPair, score: &PairScore) -> Result<PairMeasures, TrainError> {
        let (chosen, rejected) = self.loss.rewards(score, self.reference_of(pair)?);
        Ok(PairMeasures::with_rewards(score, chosen, rejected))
    }
}

impl Objective for DpoObjective {
    fn backward(
        &mut self,
        decoder: &Decoder,
        vars: &BTreeMap<String, Var>,
        step: u64,
    ) -> Result<StepOutput, TrainError> {
        let indices = self
            .plan
            .step(step)
            .ok_or_else(|| TrainError::Nothing(format!("step {} is behind the last", step + 1)))?;
        let pairs: Vec<&TokenizedPair> = indices.iter().map(|&i| &self.pairs[i]).collect();
        let positions: usize = pairs.iter().map(|pair| pair.positions()).sum();
        let mut out = StepOutput {
            examples: pairs.iter().map(|pair| pair.id.clone()).collect(),
            tokens: positions as u64,
            positions: positions as u64,
            ..StepOutput::default()
        };
        let mut measures = Vec::with_capacity(pairs.len());
        let parts = pair_batches(&pairs, self.micro_batch_tokens);
        let known = if self.loss.couples_pairs() && parts.len() > 1 {
            Some(self.look_ahead(decoder, &pairs, &parts, &mut out)?)
        } else {
            None
        };
        out.loss = known.as_ref().map_or(0.0, |whole| whole.loss);
        let mean_chosen = mean_chosen_tokens(&pairs);
        for part in &parts {
            let own = &pairs[part.pairs.clone()];
            let gradient = |scores: &[PairScore]| {
                if let Some(whole) = &known {
                    return Ok(whole.part(part.pairs.clone()));
                }
                let terms = self.terms(own, scores, mean_chosen)?;
                Ok(self.loss.gradient(&terms, pairs.len())?)
            };
            let scores = self.micro_step(decoder, vars, own, part, &mut out, gradient)?;
            for (pair, score) in own.iter().zip(&scores) {
                measures.push(self.measure(pair, score)?);
            }
        }
        out.metrics = mean_measures(&measures, "");
        Ok(out)
    }

    fn monitor_every(&self) -> Option<u64> {
        self.monitor_every
    }

    fn monitor(&mut self, decoder: &Decoder) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut metrics = BTreeMap::new();
        for set in &self.monitors {
            let limit = self.micro_batch_tokens;
            let scores = score_pairs(decoder, &set.pairs, limit, &mut |_| Ok(()))?;
            let pairs: Vec<&TokenizedPair> = set.pairs.iter().collect();
            let terms = self.terms(&pairs, &scores, mean_chosen_tokens(&pairs))?;
            let loss = self.loss.losses(&terms)?.mean_all()?;
            let measures = scores.iter().zip(&set.pairs);
            let measures = measures.map(|(score, pair)| self.measure(pair, score));
            let measures = measures.collect::<Result<Vec<_>, TrainError>>()?;
            let prefix = format!("eval_{}/", set.name);
            metrics.extend(mean_measures(&measures, &prefix));
            metrics.insert(format!("{prefix}loss"), loss.to_scalar::<f64>()?);
        }
        Ok(metrics)
    }
}

/// Tokens of a preferred reply, on average.
fn mean_chosen_tokens(pairs: &[&TokenizedPair]) -> f64 {
    let tokens: usize = pairs.iter().map(|pair| pair.chosen.len()).sum();
    tokens.max(1) as f64 / pairs.len().max(1) as f64
}

/// Mean of every measure, under its key behind `prefix`.
fn mean_measures(measures: &[PairMeasures], prefix: &str) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for (key, value) in measures.iter().flat_map(PairMeasures::by_key) {
        *sums.entry(format!("{prefix}{key}")).or_default() += value;
    }
    for sum in sums.values_mut() {
        *sum /= measures.len().max(1) as f64;
    }
    sums
}
