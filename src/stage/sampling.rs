//! Sampling with progress and a way to stop, for the stages that sample.

use crate::base::SeedTree;
use crate::config::spec::SamplingRecipe;
use crate::data::TextFormat;
use crate::generate::{Completion, SampleJob, sample};
use crate::model::Decoder;
use crate::stage::error::StageError;
use crate::stage::job::Job;
use crate::train::TrainError;

/// Rows decoded together; changes the speed and nothing else.
const SAMPLE_BATCH: usize = 32;

/// What is drawn.
pub(super) struct Draw<'a> {
    /// Tokens of each prompt.
    pub(super) prompts: &'a [Vec<u32>],
    /// Samples of each.
    pub(super) samples: usize,
    pub(super) sampling: &'a SamplingRecipe,
    pub(super) seed: &'a SeedTree,
    /// Units of progress that were done before.
    pub(super) before: usize,
}

impl Job<'_> {
    /// Draws, and tells how far it has come.
    pub(super) fn draw(
        &mut self,
        decoder: &Decoder,
        format: &TextFormat,
        draw: &Draw<'_>,
    ) -> Result<Vec<Completion>, StageError> {
        let sample_job = SampleJob {
            prompts: draw.prompts,
            samples: draw.samples,
            recipe: draw.sampling,
            stop: &[format.end_token()],
            seed: draw.seed,
            batch: SAMPLE_BATCH,
        };
        let mut failed = None;
        let completions = sample(decoder, &sample_job, &mut |done| {
            let told = self.report(draw.before + done);
            failed = failed.take().or(told.err());
            failed.is_none()
        });
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(completions?),
        }
    }

    /// Passes progress on; an error if someone asked to stop.
    pub(super) fn report(&mut self, done: usize) -> Result<(), TrainError> {
        if self.context.shutdown.requested() {
            return Err(TrainError::Stopped);
        }
        let told = self.telemetry.progress(done as u64);
        told.map_err(|e| TrainError::Observer(Box::new(e)))
    }
}
