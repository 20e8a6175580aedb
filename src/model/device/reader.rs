//! A decoder on a device asked about whole sequences.

use crate::config::select::Pooling;
use crate::gpu::Stored;
use crate::gpu::decoder::Batch;
use crate::model::device::frozen::DeviceModel;
use crate::model::error::ModelError;
use crate::model::sequences::{Packed, SequenceReader};
use std::ops::Range;

impl<T: Stored> SequenceReader for DeviceModel<T> {
    fn embed(
        &mut self,
        sequences: &[Vec<u32>],
        pooling: Pooling,
    ) -> Result<Vec<Vec<f64>>, ModelError> {
        let pass = Packed::new(sequences)?;
        let spans = pass.cu_seqlens.windows(2);
        let spans = spans.map(|span| span[0] as usize..span[1] as usize);
        let ranges: Vec<Range<usize>> = match pooling {
            Pooling::Last => spans.map(|span| span.end - 1..span.end).collect(),
            Pooling::Mean => spans.collect(),
        };
        let sums = self.sums(&pass, &ranges)?;
        let states = sums.chunks_exact(self.config.hidden_size).zip(&ranges);
        let mean = |(sum, range): (&[f32], &Range<usize>)| {
            let count = range.len() as f64;
            sum.iter().map(|&x| f64::from(x) / count).collect()
        };
        Ok(states.map(mean).collect())
    }

    fn next_logits(
        &mut self,
        sequences: &[Vec<u32>],
        tokens: &[u32],
    ) -> Result<Vec<Vec<f64>>, ModelError> {
        let pass = Packed::new(sequences)?;
        let vocabulary = self.config.vocab_size;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            let why = format!("token {token} of {vocabulary}");
            return Err(crate::gpu::GpuError::Request(why).into());
        }
        let (last, trunks) = (pass.last(), pass.itself());
        // Of logits nothing is asked; a token is a target as good as any.
        let targets = vec![0; last.len()];
        let batch = Batch {
            target_rows: &last,
            targets: &targets,
            ..view(&pass, &trunks)
        };
        let logits = self.passes.logits(&mut *self.gpu, &self.parts, &batch)?;
        let rows = logits.chunks_exact(vocabulary);
        let chosen = |row: &[f32]| {
            let logit = |&token: &u32| f64::from(row[token as usize]);
            tokens.iter().map(logit).collect()
        };
        Ok(rows.map(chosen).collect())
    }
}

impl<T: Stored> DeviceModel<T> {
    /// Sums of the hidden states over ranges of a pass's positions, (S, D).
    pub(super) fn sums(
        &mut self,
        pass: &Packed,
        ranges: &[Range<usize>],
    ) -> Result<Vec<f32>, ModelError> {
        let trunks = pass.itself();
        let batch = view(pass, &trunks);
        let gpu = &mut *self.gpu;
        Ok(self.passes.sums(gpu, &self.parts, &batch, ranges)?)
    }
}

/// A pass that predicts nothing.
fn view<'a>(pass: &'a Packed, trunks: &'a [u32]) -> Batch<'a> {
    Batch {
        tokens: &pass.tokens,
        positions: &pass.positions,
        bounds: &pass.cu_seqlens,
        trunks,
        target_rows: &[],
        targets: &[],
    }
}
