//! Supervised fine-tuning: negative log-likelihood of the targets.

use crate::arch::{DecoderConfig, training_flops};
use crate::data::{SftPlan, TokenizedExample};
use crate::metrics::families::{HELD_OUT_LOSS, SFT_STEP, TargetHits};
use crate::metrics::values;
use crate::train::engine::Engine;
use crate::train::error::TrainError;
use crate::train::run::{Objective, StepOutput, monitored};
use crate::train::score::{Scorer, score_documents};
use std::collections::BTreeMap;

/// Held-out documents measured along training.
#[derive(Debug)]
pub struct SftMonitor {
    /// Metric keys begin with `eval_<name>/`.
    pub name: String,
    /// The documents.
    pub examples: Vec<TokenizedExample>,
}

/// Mean negative log-likelihood by target token, over the whole step.
pub struct SftObjective {
    /// What each step sees.
    pub plan: SftPlan,
    /// Documents are cut to so many tokens when measured.
    pub max_seq_len: usize,
    /// Most positions in one pass.
    pub micro_batch_tokens: usize,
    /// Shape of the model, for counting operations.
    pub config: DecoderConfig,
    /// Held-out documents.
    pub monitors: Vec<SftMonitor>,
    /// Steps between two measurements.
    pub monitor_every: Option<u64>,
}

impl Objective for SftObjective {
    fn backward(&mut self, engine: &mut dyn Engine, step: u64) -> Result<StepOutput, TrainError> {
        let data = self
            .plan
            .step(step)
            .ok_or_else(|| TrainError::Nothing(format!("step {} is behind the last", step + 1)))?;
        let total = data.targets();
        let mut out = StepOutput {
            examples: data.example_ids(),
            tokens: data.real_tokens() as u64,
            positions: data.positions() as u64,
            ..StepOutput::default()
        };
        let (mut correct, learned) = (0, engine.learned());
        let mut batches = Vec::new();
        for batch in data.micro_batches(self.micro_batch_tokens) {
            out.flops += training_flops(&self.config, &batch.pass(), &learned);
            if !batch.targets.is_empty() {
                batches.push(batch); // else rows inside a long prompt: nothing to learn from
            }
        }
        // Divided by the targets of the whole step, so that its micro-batches add up to the mean.
        for nll in engine.nll_of(&batches, 1.0 / total as f64)? {
            correct += nll.hits;
            out.loss -= nll.logp / total as f64;
        }
        let hits = TargetHits {
            correct,
            targets: total,
        };
        out.metrics.extend(values(SFT_STEP, &hits));
        Ok(out)
    }

    fn monitor_every(&self) -> Option<u64> {
        self.monitor_every
    }

    fn monitor(&mut self, model: &mut dyn Scorer) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut metrics = BTreeMap::new();
        for set in &self.monitors {
            let limit = self.micro_batch_tokens;
            let max = self.max_seq_len;
            let scores = score_documents(model, &set.examples, max, limit, &mut |_| Ok(()))?;
            let nll: f64 = scores.iter().map(|s| -s.logp).sum();
            let tokens: usize = scores.iter().map(|s| s.tokens).sum();
            let loss = nll / tokens.max(1) as f64;
            metrics.extend(monitored(&set.name, values(HELD_OUT_LOSS, &loss)));
        }
        Ok(metrics)
    }
}
