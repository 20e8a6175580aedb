//! Offline preference learning: a preference loss, mostly against stored reference
//! log-probabilities.

use crate::arch::{DecoderConfig, forward_flops, training_flops};
use crate::config::spec::{PreferenceLoss, ReferenceUpdate};
use crate::data::{PAIR_SEGMENTS, PairBatch, PairPlan, TokenizedPair, pair_batches};
use crate::metrics::families::{HELD_OUT_LOSS, PAIR, PairMeasures};
use crate::metrics::values;
use crate::train::engine::Engine;
use crate::train::error::TrainError;
use crate::train::pair_loss::{PairGradient, PairTerms};
use crate::train::preference::pair_measures;
use crate::train::reference::{ReferenceLogps, ReferencePair};
use crate::train::run::{Objective, StepOutput, monitored};
use crate::train::score::{PairScore, Scorer, pair_scores, score_pair_batch, score_pairs};
use std::collections::BTreeMap;

/// Held-out pairs measured along training.
#[derive(Debug)]
pub struct PairMonitor {
    /// Metric keys begin with `eval_<name>/`.
    pub name: String,
    /// The pairs.
    pub pairs: Vec<TokenizedPair>,
}

/// Mean preference loss by pair, over the whole step, in padding-free passes. Both replies of a pair
/// continue one prompt, which is computed once.
///
/// A loss that couples the pairs of a step needs all their log-probabilities before the first
/// gradient: a step that is split is then scored once without a graph, so that the split changes
/// nothing.
///
/// With a moving reference the pairs of a step are scored under it when the step is computed, from
/// its first move on; the training metrics are relative to it. Held-out pairs are measured against
/// the stored reference throughout, so that their lines can be read from end to end.
pub struct DpoObjective {
    /// Training pairs.
    pub pairs: Vec<TokenizedPair>,
    /// Which pairs each step sees.
    pub plan: PairPlan,
    /// Reference log-probabilities of training and held-out pairs; absent: taken as 0.
    pub reference: Option<ReferenceLogps>,
    /// When the reference that the engine keeps follows the policy; absent: the stored numbers hold to
    /// the end.
    pub moving: Option<ReferenceUpdate>,
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
            reference_of(self.reference.as_ref(), pair)?;
        }
        Ok(())
    }

    /// The reference of a step's pairs if it has moved by then.
    fn moved(
        &self,
        engine: &mut dyn Engine,
        step: u64,
        pairs: &[&TokenizedPair],
        parts: &[PairBatch],
        out: &mut StepOutput,
    ) -> Result<Option<ReferenceLogps>, TrainError> {
        let has_moved = |update: ReferenceUpdate| step >= update.every_steps.get();
        if !self.moving.is_some_and(has_moved) {
            return Ok(None);
        }
        let passes = parts.iter().map(|part| part.batch.pass());
        out.flops += passes.map(|p| forward_flops(&self.config, &p)).sum::<f64>();
        let pairs: Vec<TokenizedPair> = pairs.iter().map(|&pair| pair.clone()).collect();
        let mut reference = engine.reference()?;
        let limit = self.micro_batch_tokens;
        let scores = score_pairs(&mut *reference, &pairs, limit, &mut |_| Ok(()))?;
        let keys = pairs.iter().map(|pair| pair.key.as_str());
        Ok(Some(ReferenceLogps::from_scores(keys.zip(&scores))))
    }

    /// What the loss needs of scored pairs; `mean_chosen_tokens` is that of their whole step.
    fn terms(
        reference: Option<&ReferenceLogps>,
        pairs: &[&TokenizedPair],
        scores: &[PairScore],
        mean_chosen_tokens: f64,
    ) -> Result<PairTerms, TrainError> {
        let references = pairs.iter().map(|pair| reference_of(reference, pair));
        let references = references.collect::<Result<Vec<_>, _>>()?;
        Ok(PairTerms::new(scores, &references, mean_chosen_tokens)?)
    }

    /// Scores the whole step without its gradients: its loss and the slope of every pair.
    fn look_ahead(
        &self,
        model: &mut dyn Scorer,
        reference: Option<&ReferenceLogps>,
        pairs: &[&TokenizedPair],
        parts: &[PairBatch],
        out: &mut StepOutput,
    ) -> Result<PairGradient, TrainError> {
        let mut scores = Vec::with_capacity(pairs.len());
        for part in parts {
            out.flops += forward_flops(&self.config, &part.batch.pass());
            scores.extend(score_pair_batch(model, part)?);
        }
        let terms = Self::terms(reference, pairs, &scores, mean_chosen_tokens(pairs))?;
        Ok(self.loss.gradient(&terms, pairs.len())?)
    }

    /// The passes of a step with their gradients; the scores of the pairs of each. `gradient` says, given the number of a pass
    /// and its scores, how the loss changes with the log-probabilities.
    fn micro_steps(
        &self,
        engine: &mut dyn Engine,
        (pairs, parts): (&[&TokenizedPair], &[PairBatch]),
        out: &mut StepOutput,
        gradient: impl Fn(usize, &[PairScore]) -> Result<PairGradient, TrainError>,
    ) -> Result<Vec<Vec<PairScore>>, TrainError> {
        let learned = engine.learned();
        for part in parts {
            out.flops += training_flops(&self.config, &part.batch.pass(), &learned);
        }
        let batches: Vec<_> = parts.iter().map(|part| &part.batch).collect();
        let mut found = Vec::with_capacity(parts.len());
        engine.weighted_of(&batches, &mut |at, segments| {
            let mut scores = pair_scores(segments);
            // A first token that no prompt predicts counts in the length of its reply.
            for (score, pair) in scores.iter_mut().zip(&pairs[parts[at].pairs.clone()]) {
                score.chosen.tokens = pair.chosen.len();
                score.rejected.tokens = pair.rejected.len();
            }
            let gradient = gradient(at, &scores)?;
            found.push(scores);
            out.loss += gradient.loss;
            // A prompt has no targets.
            let by_segment = |&[chosen, rejected]: &[f64; 2]| -> [f64; PAIR_SEGMENTS] {
                [0.0, chosen, rejected]
            };
            Ok(gradient.pairs.iter().flat_map(by_segment).collect())
        })?;
        Ok(found)
    }

    fn measure(
        &self,
        reference: Option<&ReferenceLogps>,
        pair: &TokenizedPair,
        score: &PairScore,
    ) -> Result<PairMeasures, TrainError> {
        let reference = reference_of(reference, pair)?;
        let rewards = self.loss.rewards(score, reference);
        Ok(pair_measures(score, reference, rewards))
    }
}

/// What the reference says of a pair; 0 without one.
fn reference_of(
    reference: Option<&ReferenceLogps>,
    pair: &TokenizedPair,
) -> Result<ReferencePair, TrainError> {
    match reference {
        Some(reference) => reference.of(pair),
        None => Ok(ReferencePair {
            chosen: 0.0,
            rejected: 0.0,
        }),
    }
}

impl Objective for DpoObjective {
    fn backward(&mut self, engine: &mut dyn Engine, step: u64) -> Result<StepOutput, TrainError> {
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
        let moved = self.moved(engine, step, &pairs, &parts, &mut out)?;
        let reference = moved.as_ref().or(self.reference.as_ref());
        let known = if self.loss.couples_pairs() && parts.len() > 1 {
            Some(self.look_ahead(engine, reference, &pairs, &parts, &mut out)?)
        } else {
            None
        };
        out.loss = known.as_ref().map_or(0.0, |whole| whole.loss);
        let mean_chosen = mean_chosen_tokens(&pairs);
        let gradient = |at: usize, scores: &[PairScore]| {
            let own = parts[at].pairs.clone();
            if let Some(whole) = &known {
                return Ok(whole.part(own));
            }
            let terms = Self::terms(reference, &pairs[own], scores, mean_chosen)?;
            Ok(self.loss.gradient(&terms, pairs.len())?)
        };
        let found = self.micro_steps(engine, (&pairs[..], &parts[..]), &mut out, gradient)?;
        for (pair, score) in pairs.iter().zip(found.iter().flatten()) {
            measures.push(self.measure(reference, pair, score)?);
        }
        out.metrics = mean_metrics(&measures);
        Ok(out)
    }

    fn monitor_every(&self) -> Option<u64> {
        self.monitor_every
    }

    fn monitor(&mut self, model: &mut dyn Scorer) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut metrics = BTreeMap::new();
        for set in &self.monitors {
            let limit = self.micro_batch_tokens;
            let scores = score_pairs(model, &set.pairs, limit, &mut |_| Ok(()))?;
            let pairs: Vec<&TokenizedPair> = set.pairs.iter().collect();
            let reference = self.reference.as_ref();
            let terms = Self::terms(reference, &pairs, &scores, mean_chosen_tokens(&pairs))?;
            let loss = self.loss.losses(&terms)?.mean_all()?;
            let measures = scores.iter().zip(&set.pairs);
            let measures = measures.map(|(score, pair)| self.measure(reference, pair, score));
            let measures = measures.collect::<Result<Vec<_>, TrainError>>()?;
            let mut own = mean_metrics(&measures);
            let loss = loss.to_scalar::<f64>()?;
            own.extend(values(HELD_OUT_LOSS, &loss));
            metrics.extend(monitored(&set.name, own));
        }
        Ok(metrics)
    }

    fn after_update(&mut self, engine: &mut dyn Engine, step: u64) -> Result<(), TrainError> {
        let due = |update: ReferenceUpdate| step.is_multiple_of(update.every_steps.get());
        if self.moving.is_some_and(due) {
            engine.move_reference()?;
        }
        Ok(())
    }
}

/// Tokens of a preferred reply, on average.
fn mean_chosen_tokens(pairs: &[&TokenizedPair]) -> f64 {
    let tokens: usize = pairs.iter().map(|pair| pair.chosen.len()).sum();
    tokens.max(1) as f64 / pairs.len().max(1) as f64
}

/// Mean of every metric over the pairs.
fn mean_metrics(pairs: &[PairMeasures]) -> BTreeMap<&'static str, f64> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for (key, value) in pairs.iter().flat_map(|pair| values(PAIR, pair)) {
        *sums.entry(key).or_default() += value;
    }
    for sum in sums.values_mut() {
        *sum /= pairs.len().max(1) as f64;
    }
    sums
}
