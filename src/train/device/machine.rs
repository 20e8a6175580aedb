//! A device and the passes on it, by batches of tokens.

use crate::data::TokenBatch;
use crate::gpu::decoder::{Batch, Found, Parts, Passes, Weight};
use crate::gpu::{Gpu, Stored};
use crate::model::DeviceModel;
use crate::train::engine::{Nll, Weigh};
use crate::train::error::TrainError;
use crate::train::score::{ReplyScore, Scorer, TokenScore, by_segment};

/// A device and what computes on it.
pub(super) struct Machine {
    pub(super) gpu: Box<dyn Gpu>,
    pub(super) passes: Passes,
}

fn view(batch: &TokenBatch) -> Batch<'_> {
    Batch {
        tokens: &batch.tokens,
        positions: &batch.positions,
        bounds: &batch.cu_seqlens,
        trunks: &batch.prefixes,
        target_rows: &batch.target_rows,
        targets: &batch.targets,
    }
}

fn scores(batch: &TokenBatch, found: &Found) -> Vec<ReplyScore> {
    by_segment(batch, targets(found))
}

/// What was found of each target.
fn targets(found: &Found) -> impl Iterator<Item = TokenScore> {
    let each = found.logps.iter().zip(&found.correct);
    each.map(|(&logp, &correct)| TokenScore {
        logp: f64::from(logp),
        likeliest: correct != 0,
    })
}

/// Scores of a batch's targets on a device.
fn token_scores<T: Stored>(
    (gpu, passes): (&mut dyn Gpu, &mut Passes),
    parts: &Parts<Weight<T>>,
    batch: &TokenBatch,
) -> Result<Vec<TokenScore>, TrainError> {
    if batch.targets.is_empty() {
        return Ok(Vec::new());
    }
    let found = passes.score(gpu, parts, &view(batch))?;
    Ok(targets(&found).collect())
}

impl Machine {
    pub(super) fn token_scores<T: Stored>(
        &mut self,
        parts: &Parts<Weight<T>>,
        batch: &TokenBatch,
    ) -> Result<Vec<TokenScore>, TrainError> {
        token_scores((&mut *self.gpu, &mut self.passes), parts, batch)
    }

    pub(super) fn nll<T: Stored>(
        &mut self,
        parts: &Parts<Weight<T>>,
        batch: &TokenBatch,
        factor: f64,
    ) -> Result<Nll, TrainError> {
        let (gpu, factor) = (&mut *self.gpu, -factor as f32);
        let found = self.passes.summed(gpu, parts, &view(batch), factor)?;
        Ok(Nll {
            logp: found.logps.iter().copied().map(f64::from).sum(),
            hits: found.correct.iter().filter(|&&hit| hit != 0).count(),
        })
    }

    pub(super) fn weighted<T: Stored>(
        &mut self,
        parts: &Parts<Weight<T>>,
        batch: &TokenBatch,
        weigh: &mut Weigh<'_>,
    ) -> Result<(), TrainError> {
        let by_target = |found: &Found| -> Result<Vec<f32>, TrainError> {
            let weights = weigh(&scores(batch, found))?;
            let segments = batch.target_segments.iter();
            Ok(segments.map(|&s| weights[s as usize] as f32).collect())
        };
        let gpu = &mut *self.gpu;
        self.passes.weighted(gpu, parts, &view(batch), by_target)?;
        Ok(())
    }
}

/// Weights on the machine of an engine that only score.
pub(super) struct Scoring<'a, T> {
    pub(super) machine: &'a mut Machine,
    pub(super) parts: Parts<Weight<T>>,
}

impl<T: Stored> Scorer for Scoring<'_, T> {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        self.machine.token_scores(&self.parts, batch)
    }
}

impl<T: Stored> Scorer for DeviceModel<T> {
    fn token_scores(&mut self, batch: &TokenBatch) -> Result<Vec<TokenScore>, TrainError> {
        token_scores((&mut *self.gpu, &mut self.passes), &self.parts, batch)
    }
}
