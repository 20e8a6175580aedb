//! Offline preference learning: DPO against stored reference log-probabilities.

use crate::config::spec::DpoLoss;
use crate::data::{PairBatch, PairPlan, TokenizedPair, pair_batches};
use crate::model::{Decoder, DecoderConfig};
use crate::train::error::TrainError;
use crate::train::loss::{PairLogps, PreferenceOutput, dpo_sigmoid, segment_sums};
use crate::train::preference::PairMeasures;
use crate::train::reference::ReferenceLogps;
use crate::train::run::{Objective, StepOutput};
use crate::train::score::{PairScore, ReplyScore, forward_flops, score_pairs};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;

/// The preference loss and its numbers.
#[derive(Clone, Copy, Debug)]
pub struct PreferenceLoss {
    /// Which loss.
    pub kind: DpoLoss,
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// Probability that a label is taken as flipped.
    pub label_smoothing: f64,
}

impl PreferenceLoss {
    /// Loss and rewards of B pairs.
    pub fn apply(
        &self,
        policy: &PairLogps,
        reference: &PairLogps,
    ) -> candle_core::Result<PreferenceOutput> {
        match self.kind {
            DpoLoss::Sigmoid => dpo_sigmoid(policy, reference, self.beta, self.label_smoothing),
        }
    }
}

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
pub struct DpoObjective {
    /// Training pairs.
    pub pairs: Vec<TokenizedPair>,
    /// Which pairs each step sees.
    pub plan: PairPlan,
    /// Reference log-probabilities of training and held-out pairs.
    pub reference: ReferenceLogps,
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
            self.reference.of(pair)?;
        }
        Ok(())
    }

    /// Stored log-probabilities of `pairs` as (B,) f64 tensors.
    fn reference_logps(
        &self,
        pairs: &[&TokenizedPair],
        device: &Device,
    ) -> Result<PairLogps, TrainError> {
        let found = pairs.iter().map(|pair| self.reference.of(pair));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let row = |values: Vec<f64>| Tensor::new(values, device);
        Ok(PairLogps {
            chosen: row(found.iter().map(|r| r.chosen).collect())?,
            rejected: row(found.iter().map(|r| r.rejected).collect())?,
        })
    }

    /// One pass: adds its gradients and loss to `out`, its pairs' measures to `measures`.
    fn micro_step(
        &self,
        decoder: &Decoder,
        vars: &BTreeMap<String, Var>,
        pairs: &[&TokenizedPair],
        part: &PairBatch,
        out: &mut StepOutput,
        measures: &mut Vec<PairMeasures>,
    ) -> Result<(), TrainError> {
        let batch = &part.batch;
        out.flops += 3.0 * forward_flops(&self.config, batch);
        let total = pairs.len() as f64;
        let pairs = &pairs[part.pairs.clone()];
        let hidden = decoder.hidden(&batch.tokens, &batch.positions, &batch.cu_seqlens)?; // (T, D)
        let logps = decoder.token_logps(&hidden, &batch.target_rows, &batch.targets)?; // (N,)
        let sums = segment_sums(&logps, &batch.target_segments, batch.segments())?; // (2 B,)
        let halves = sums.reshape((pairs.len(), 2))?; // (B, 2)
        let policy = PairLogps {
            chosen: halves.narrow(1, 0, 1)?.squeeze(1)?,   // (B,)
            rejected: halves.narrow(1, 1, 1)?.squeeze(1)?, // (B,)
        };
        let reference = self.reference_logps(pairs, sums.device())?;
        let losses = self.loss.apply(&policy, &reference)?.losses; // (B,)
        let loss = losses.sum_all()?.affine(1.0 / total, 0.0)?; // ()
        out.loss += loss.to_scalar::<f64>()?;
        for (pair, logps) in pairs.iter().zip(halves.detach().to_vec2::<f64>()?) {
            let reply = |logp, reply: &[u32]| ReplyScore {
                logp,
                tokens: reply.len(),
            };
            let score = PairScore {
                chosen: reply(logps[0], &pair.chosen),
                rejected: reply(logps[1], &pair.rejected),
            };
            measures.push(PairMeasures::new(
                &score,
                self.reference.of(pair)?,
                self.loss.beta,
            ));
        }
        let mut store = loss.backward()?;
        drop((hidden, logps, sums, halves, policy, losses, loss));
        out.grads.accumulate(vars, &mut store)
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
        for part in pair_batches(&pairs, self.micro_batch_tokens) {
            self.micro_step(decoder, vars, &pairs, &part, &mut out, &mut measures)?;
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
            let references: Vec<&TokenizedPair> = set.pairs.iter().collect();
            let reference = self.reference_logps(&references, &Device::Cpu)?;
            let row = |pick: fn(&PairScore) -> f64| {
                Tensor::from_iter(scores.iter().map(pick), &Device::Cpu)
            };
            let policy = PairLogps {
                chosen: row(|s| s.chosen.logp)?,
                rejected: row(|s| s.rejected.logp)?,
            };
            let loss = self.loss.apply(&policy, &reference)?.losses.mean_all()?;
            let measures = scores.iter().zip(&set.pairs).map(|(score, pair)| {
                Ok(PairMeasures::new(
                    score,
                    self.reference.of(pair)?,
                    self.loss.beta,
                ))
            });
            let measures = measures.collect::<Result<Vec<_>, TrainError>>()?;
            let prefix = format!("eval_{}/", set.name);
            metrics.extend(mean_measures(&measures, &prefix));
            metrics.insert(format!("{prefix}loss"), loss.to_scalar::<f64>()?);
        }
        Ok(metrics)
    }
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
