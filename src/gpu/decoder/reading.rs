//! Passes that read: logits and hidden states go to the host.

use crate::arch::{Extent, Keep};
use crate::gpu::decoder::activations::Activations;
use crate::gpu::decoder::batch::{Batch, grown};
use crate::gpu::decoder::key_values::KeyValues;
use crate::gpu::decoder::linear::{Weight, product};
use crate::gpu::decoder::parts::Parts;
use crate::gpu::decoder::passes::{Pass, Passes};
use crate::gpu::{Buf, Gpu, GpuError, Matrix, Region, Result, Stored};
use std::ops::Range;

impl Passes {
    /// The logits `(N, V)` at the rows of a batch's targets, whatever the targets.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn logits<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        batch: &Batch<'_>,
    ) -> Result<Vec<f32>> {
        let pass = self.begin_reading(gpu, parts, batch, None)?;
        let mut logits = Vec::new();
        self.read(gpu, &pass, batch.targets.len(), &mut logits)?;
        Ok(logits)
    }

    /// Sums of the hidden states behind the last norm over some ranges of a batch's positions, `(S, D)`, added in f32. They
    /// are a product with a matrix of ones, so that S rows go to the host and not T.
    ///
    /// # Errors
    /// As [`Self::score`]; or a range is not of the batch.
    pub fn sums<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        batch: &Batch<'_>,
        ranges: &[Range<usize>],
    ) -> Result<Vec<f32>> {
        let (count, rows, d) = (ranges.len(), batch.len(), self.config.hidden_size);
        if let Some(range) = ranges.iter().find(|range| range.end > rows) {
            return Err(GpuError::Request(format!("{range:?} of {rows} positions")));
        }
        let pass = self.begin_reading(gpu, parts, batch, None)?;
        self.forward(gpu, &pass)?;
        let mut ones = vec![T::default(); count * rows];
        for (row, range) in ones.chunks_exact_mut(rows).zip(ranges) {
            row[range.clone()].fill(T::of(1.0));
        }
        // Numbers of T, then of f32: both begin where either may.
        let factor = (count * rows * size_of::<T>()).next_multiple_of(256);
        let bytes = factor + count * d * size_of::<f32>();
        let memory = grown(gpu, &mut self.sums, bytes)?;
        let within = |start: usize, bytes| Region {
            at: memory.at + start as u64,
            bytes,
        };
        let left = Buf::<T>::new(within(0, count * rows * size_of::<T>()));
        let sums = Buf::<f32>::new(within(factor, count * d * size_of::<f32>()));
        gpu.upload(&ones, left)?;
        let hidden = Matrix::new(pass.activations.working.normed, d);
        let all = (Matrix::new(left, rows), hidden, Matrix::new(sums, d));
        product(gpu, all, (count, d, rows), (1.0, 0.0))?;
        let mut found = vec![0.0; count * d];
        gpu.download(sums, &mut found)?;
        Ok(found)
    }

    pub(super) fn reading(&self, positions: usize, rows: usize) -> Extent {
        Extent {
            positions,
            keep: Keep::Nothing,
            head_rows: self.shape.head_rows.min(rows.max(1)),
            rank: self.shape.rank,
        }
    }

    /// A pass without gradients, with no more rows of logits than it has targets; its keys and values go to slots of a cache
    /// if there is one.
    pub(super) fn begin_reading<'a, T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &'a Parts<Weight<T>>,
        batch: &Batch<'_>,
        to: Option<(&'a KeyValues<T>, Vec<i32>)>,
    ) -> Result<Pass<'a, T>> {
        self.check()?;
        batch.check(self.config.vocab_size)?;
        let extent = self.reading(batch.len(), batch.targets.len());
        let memory = self.memory::<T>(gpu, &extent)?;
        let (cache, slots) = to.unzip();
        Ok(Pass {
            parts,
            activations: Activations::within(memory, &self.config, &extent),
            batch: self.numbers.upload(gpu, batch, extent.head_rows, slots)?,
            angles: self.angles(gpu, batch.len())?,
            cache,
        })
    }

    /// Runs a pass, and reads the logits of the first `wanted` of its targets' rows.
    pub(super) fn read<T: Stored>(
        &self,
        gpu: &mut dyn Gpu,
        pass: &Pass<'_, T>,
        wanted: usize,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        self.forward(gpu, pass)?;
        let head = self.head(pass);
        for chunk in &pass.batch.chunks {
            let found = head.logits_of(gpu, chunk)?;
            let rows = chunk.range.end.min(wanted);
            let rows = rows.saturating_sub(chunk.range.start);
            let found = found.part(0..rows * self.config.vocab_size);
            let before = logits.len();
            logits.resize(before + found.len(), 0.0);
            gpu.download(found, &mut logits[before..])?;
        }
        Ok(())
    }
}
