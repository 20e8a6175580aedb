//! The head: log-probabilities of targets and their gradient, some rows of logits at a time.

use crate::gpu::buf::Buf;
use crate::gpu::decoder::activations::{HeadBack, HeadRoom};
use crate::gpu::decoder::batch::Chunk;
use crate::gpu::decoder::linear::{Weight, product};
use crate::gpu::element::Stored;
use crate::gpu::ops::draw::{Drawing, draw};
use crate::gpu::ops::embedding::embedding_backward;
use crate::gpu::ops::head::{Scores, head_gradient, head_score};
use crate::gpu::ops::rows::gather;
use crate::gpu::{Gpu, Matrix, Result};
use std::ops::Range;

/// What a pass found of its targets, (N,) each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Log-probabilities, nats.
    pub logps: Vec<f32>,
    /// 1 where no token is likelier.
    pub correct: Vec<i32>,
}

/// The head in a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a, T> {
    /// `(V, D)`.
    pub(super) weight: &'a Weight<T>,
    pub(super) softcap: Option<f32>,
    /// `(T, D)`, behind the last norm.
    pub(super) hidden: Buf<T>,
    pub(super) width: usize,
    pub(super) room: &'a HeadRoom<T>,
}

impl<T: Stored> Head<'_, T> {
    /// Scores some targets; their logits stay until the next ones.
    pub(super) fn score(&self, gpu: &mut dyn Gpu, chunk: &Chunk) -> Result<()> {
        let logits = self.uncapped(gpu, chunk)?;
        let scores = self.scores(chunk);
        head_score(gpu, logits, chunk.targets, &scores, self.softcap)
    }

    /// The logits `(C, V)` of some rows, as tokens are drawn from them.
    pub(super) fn logits_of(&self, gpu: &mut dyn Gpu, chunk: &Chunk) -> Result<Buf<f32>> {
        if self.softcap.is_some() {
            // Scoring, of whatever targets, leaves them behind their cap.
            self.score(gpu, chunk)?;
            return Ok(self.logits(chunk.range.len()));
        }
        self.uncapped(gpu, chunk)
    }

    /// Draws tokens from the logits of some targets' rows, `drawn`, by their numbers among `uniforms`.
    pub(super) fn draw(
        &self,
        gpu: &mut dyn Gpu,
        chunk: &Chunk,
        (uniforms, drawn): (Buf<f64>, Range<usize>),
        how: Drawing,
    ) -> Result<()> {
        let logits = self.logits_of(gpu, chunk)?;
        let vocabulary = logits.len() / chunk.range.len();
        let logits = logits.part(0..drawn.len() * vocabulary);
        let to = self.drawn().part(drawn.clone());
        draw(gpu, logits, uniforms.part(drawn), to, how)
    }

    /// Where drawn tokens come to lie: nobody asks whether targets were right that are none.
    pub(super) fn drawn(&self) -> Buf<i32> {
        self.room.scores.correct
    }

    fn uncapped(&self, gpu: &mut dyn Gpu, chunk: &Chunk) -> Result<Buf<f32>> {
        let (n, d) = (chunk.range.len(), self.width);
        let (rows, logits) = (self.rows(n), self.logits(n));
        gather(gpu, self.hidden, chunk.rows, rows, d)?;
        let weight = Matrix::new(self.weight.value, d).transposed();
        let vocabulary = logits.len() / n;
        let all = (
            Matrix::new(rows, d),
            weight,
            Matrix::new(logits, vocabulary),
        );
        product(gpu, all, (n, vocabulary, d), (1.0, 0.0))?;
        Ok(logits)
    }

    /// Adds the gradients of what was scored last: of the hidden states to `back.hidden`, and of the head.
    pub(super) fn backward(
        &self,
        gpu: &mut dyn Gpu,
        chunk: &Chunk,
        back: &HeadBack<T>,
    ) -> Result<()> {
        let (n, d) = (chunk.range.len(), self.width);
        let (rows, logits) = (self.rows(n), self.logits(n));
        let vocabulary = logits.len() / n;
        let factors = back.factors.part(chunk.range.clone());
        let by = (self.scores(chunk).lse, factors);
        let dz = back.logits.part(0..logits.len());
        head_gradient(gpu, logits, chunk.targets, by, dz, self.softcap)?;
        let mdz = Matrix::new(dz, vocabulary);
        let d_rows = back.rows.part(0..n * d);
        let weight = Matrix::new(self.weight.value, d);
        let all = (mdz, weight, Matrix::new(d_rows, d));
        product(gpu, all, (n, d, vocabulary), (1.0, 0.0))?;
        if let Some(grad) = self.weight.grad {
            let all = (mdz.transposed(), Matrix::new(rows, d), Matrix::new(grad, d));
            product(gpu, all, (vocabulary, d, n), (1.0, 1.0))?;
        }
        // Rows are to positions what an embedding's are to tokens: several may be of one.
        embedding_backward(gpu, d_rows, &chunk.places, back.hidden, (d, 1.0))
    }

    fn rows(&self, n: usize) -> Buf<T> {
        self.room.rows.part(0..n * self.width)
    }

    fn logits(&self, n: usize) -> Buf<f32> {
        let vocabulary = self.weight.value.len() / self.width;
        self.room.logits.part(0..n * vocabulary)
    }

    fn scores(&self, chunk: &Chunk) -> Scores {
        let (all, range) = (&self.room.scores, &chunk.range);
        Scores {
            logp: all.logp.part(range.clone()),
            lse: all.lse.part(range.clone()),
            correct: all.correct.part(range.clone()),
        }
    }
}
