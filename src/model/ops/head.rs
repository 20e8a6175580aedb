//! The product with the vocabulary, a chunk of rows and a block of the vocabulary at a time.
//!
//! Logits of a chunk are kept block by block, each block a matrix of its own, so that what is done
//! to a block (product, scores, gradient) finds it in a cache. What a row needs of all its logits
//! is gathered over the blocks in order, as in online softmax (Milakov & Gimelshein 2018).

use crate::model::ops::Real;
use crate::model::ops::matmul::{Into, Mat, PackedRight, matmul_packed, matmul_with, threads};
use crate::model::ops::simd::{LANES, kernel, lane_sum, row_max, tanh};
use rayon::prelude::*;
use std::ops::Range;

/// Widest block of the vocabulary.
const BLOCK: usize = 512;

/// Rows whose logits are held at once. Those of a small vocabulary stay in the cache: about a quarter
/// of a million. Those of a large one cannot; there the head is read anew for each chunk, so chunks
/// are as long as 128 MiB of `f32` logits allow, and 256 rows at least.
pub(super) fn chunk_rows(vocab: usize) -> usize {
    const SMALL: usize = 1024;
    let held = if vocab <= SMALL { 1 << 18 } else { 1 << 25 };
    (held / vocab.max(1)).clamp(256, 1024)
}

/// Parts of a vocabulary: as equal as can be, whole vectors but for the last.
fn blocks(vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let width = vocab.div_ceil(vocab.div_ceil(BLOCK).max(1));
    let width = width.next_multiple_of(2 * LANES);
    (0..vocab)
        .step_by(width)
        .map(move |first| first..(first + width).min(vocab))
}

/// What one row of logits says about its target.
#[derive(Clone, Copy)]
pub(super) struct Scored<F> {
    pub(super) logp: F,
    pub(super) lse: F,
    pub(super) entropy: F,
    pub(super) correct: bool,
}

/// What is known of a row after some blocks.
#[derive(Clone, Copy)]
struct Part<F> {
    /// Largest logit.
    top: F,
    /// `sum(exp(z - top))`.
    sum: F,
    /// `sum(exp(z - top) (z - top))`.
    weighted: F,
    /// The target's logit.
    target: F,
}

impl<F: Real> Part<F> {
    fn nothing() -> Self {
        Self {
            top: F::NEG_INFINITY,
            sum: F::zero(),
            weighted: F::zero(),
            target: F::NEG_INFINITY,
        }
    }

    #[inline(always)]
    fn merge<const FMA: bool>(&mut self, (top, sum, weighted): (F, F, F)) {
        // By the sum, which a NaN has reached even where the maximum has passed it over.
        if self.sum == F::zero() {
            (self.top, self.sum, self.weighted) = (top, sum, weighted);
            return;
        }
        let both = if top > self.top { top } else { self.top };
        let (old, new) = (self.top - both, top - both);
        let (old_factor, new_factor) = (old.exp_if::<FMA>(), new.exp_if::<FMA>());
        self.weighted = old_factor * old.mul_add_if::<FMA>(self.sum, self.weighted)
            + new_factor * new.mul_add_if::<FMA>(sum, weighted);
        self.sum = old_factor * self.sum + new_factor * sum;
        self.top = both;
    }

    fn scored(&self) -> Scored<F> {
        let log_sum = self.sum.log();
        Scored {
            logp: (self.target - self.top) - log_sum,
            lse: self.top + log_sum,
            entropy: log_sum - self.weighted / self.sum,
            correct: self.target >= self.top,
        }
    }
}

/// Rows that predict, and the head.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, F> {
    /// `(V, D)`.
    pub(super) weight: &'a [F],
    /// D.
    pub(super) width: usize,
    /// V.
    pub(super) vocab: usize,
    /// Logits are bounded by `cap * tanh(logit / cap)`.
    pub(super) softcap: Option<f64>,
}

/// Logits of a chunk of rows, later their exponentials, later their gradients.
pub(super) struct Logits<F> {
    /// Block by block, each `(n, block)`.
    values: Vec<F>,
    /// Without a softcap, the largest logit of each row of each block, which its exponentials are
    /// relative to; block by block, `(n,)` each.
    tops: Vec<F>,
    /// The rows, `(n, D)`.
    x: Vec<F>,
}

impl<F: Real> Logits<F> {
    pub(super) fn new() -> Self {
        Self {
            values: Vec::new(),
            tops: Vec::new(),
            x: Vec::new(),
        }
    }

    /// Scores `tokens (n,)` by rows `rows (n,)` of `h (T, D)`; the values are ready for
    /// [`Logits::backward`] afterwards.
    pub(super) fn forward(
        &mut self,
        head: &Head<'_, F>,
        h: &[F],
        (rows, tokens): (&[u32], &[u32]),
    ) -> Vec<Scored<F>> {
        let (d, n) = (head.width, rows.len());
        self.x.clear();
        for &row in rows {
            let at = row as usize * d;
            self.x.extend_from_slice(&h[at..at + d]);
        }
        if self.values.len() < n * head.vocab {
            // Fresh memory is zero already; growing would write it.
            self.values = vec![F::zero(); n * head.vocab];
        }
        self.tops.clear();
        let mut parts = vec![Part::nothing(); n];
        for block in blocks(head.vocab) {
            let values = &mut self.values[n * block.start..n * block.end];
            let weight = &head.weight[block.start * d..block.end * d];
            let weight = PackedRight::new(Mat::transposed(weight, d), (d, block.len()));
            let (first, x) = (self.tops.len(), &self.x);
            self.tops.resize(first + n, F::zero());
            let tops = &mut self.tops[first..];
            for_rows(
                (values, block.len()),
                (&mut parts, 1),
                (tops, 1),
                |at, values, parts, tops| {
                    let here = at..at + parts.len();
                    let x = Mat::new(&x[here.start * d..here.end * d], d);
                    matmul_packed(here.len(), x, &weight, values, Into::Set);
                    score_block(
                        values,
                        block.clone(),
                        &tokens[here],
                        head.softcap,
                        parts,
                        tops,
                    );
                },
            );
        }
        parts.iter().map(Part::scored).collect()
    }

    /// Gradients of `sum(g_i logp_i)` after [`Logits::forward`] of the same rows: `dx (n, D)` is
    /// overwritten, `dw (V, D)` added to, if it is wanted.
    pub(super) fn backward(
        &mut self,
        head: &Head<'_, F>,
        tokens: &[u32],
        (lse, grad): (&[F], &[F]),
        (dx, dw): (&mut [F], Option<&mut [F]>),
    ) {
        let (d, n) = (head.width, tokens.len());
        let mut of_head = dw.map(|dw| (dw, PackedRight::new(Mat::new(&self.x, d), (n, d))));
        for (i, block) in blocks(head.vocab).enumerate() {
            let values = &mut self.values[n * block.start..n * block.end];
            let tops = &mut self.tops[i * n..(i + 1) * n];
            let own = block.start * d..block.end * d;
            let weight = Mat::new(&head.weight[own.clone()], d);
            let weight = PackedRight::new(weight, (block.len(), d));
            let into = if i == 0 { Into::Set } else { Into::Add };
            for_rows(
                (values, block.len()),
                (dx, d),
                (tops, 1),
                |at, values, dx, tops| {
                    let here = at..at + tops.len();
                    let of_rows = (&lse[here.clone()], &grad[here.clone()], &*tops);
                    gradient_block(values, block.clone(), &tokens[here], head.softcap, of_rows);
                    let dz = Mat::new(values, block.len());
                    matmul_packed(tops.len(), dz, &weight, dx, into);
                },
            );
            if let Some((dw, x)) = &mut of_head {
                let dz = Mat::transposed(values, block.len());
                matmul_with(block.len(), dz, x, &mut dw[own], Into::Add);
            }
        }
    }
}

/// Most rows of a block that one thread takes at a time: those of the widest block fit into a second
/// cache of 512 KiB.
const GROUP: usize = 240;

/// The same rows of three matrices.
type Group<'a, F, A, B> = ((&'a mut [F], &'a mut [A]), &'a mut [B]);

/// Calls `f(first_row, values, a, b)` on groups of rows of three matrices of given widths, in
/// parallel.
fn for_rows<F: Real, A: Send, B: Send>(
    (values, width): (&mut [F], usize),
    (a, a_width): (&mut [A], usize),
    (b, b_width): (&mut [B], usize),
    f: impl Fn(usize, &mut [F], &mut [A], &mut [B]) + Sync + Send,
) {
    let rows = (values.len() / width).div_ceil(threads());
    let rows = rows.next_multiple_of(12).min(GROUP);
    let one = |(i, group): (usize, Group<'_, F, A, B>)| f(i * rows, group.0.0, group.0.1, group.1);
    if threads() == 1 {
        // Without the pool, so that a program without threads stays without them.
        let groups = values.chunks_mut(rows * width);
        let groups = groups.zip(a.chunks_mut(rows * a_width));
        let groups = groups.zip(b.chunks_mut(rows * b_width));
        groups.enumerate().for_each(one);
    } else {
        let groups = values.par_chunks_mut(rows * width);
        let groups = groups.zip(a.par_chunks_mut(rows * a_width));
        let groups = groups.zip(b.par_chunks_mut(rows * b_width));
        groups.enumerate().for_each(one);
    }
}

/// Place of a token in a block, if it is there.
#[inline(always)]
fn place(token: u32, block: &Range<usize>) -> Option<usize> {
    let token = token as usize;
    block.contains(&token).then(|| token - block.start)
}

kernel! {
    /// Takes the rows of a block of logits `(n, block)` into their parts. Without a softcap the
    /// logits become `exp(z - top)`; with one they are bounded by it.
    fn score_block<F>(
        logits: &mut [F], block: Range<usize>, tokens: &[u32], softcap: Option<f64>,
        parts: &mut [Part<F>], tops: &mut [F],
    ) {
        let rows = logits.chunks_exact_mut(block.len()).zip(tokens).zip(parts.iter_mut().zip(tops));
        for ((row, &token), (part, row_top)) in rows {
            if let Some(cap) = softcap {
                let (cap, over) = (F::from_f64(cap), F::from_f64(1.0 / cap));
                for v in row.iter_mut() {
                    *v = cap * tanh::<F, FMA>(*v * over);
                }
            }
            if let Some(at) = place(token, &block) {
                part.target = row[at];
            }
            let top = row_max(row);
            *row_top = top;
            let (mut sum, mut weighted) = ([F::zero(); LANES], [F::zero(); LANES]);
            let (keep, log2_e) = (softcap.is_some(), F::from_f64(std::f64::consts::LOG2_E));
            let mut chunks = row.chunks_exact_mut(LANES);
            for c in &mut chunks {
                for i in 0..LANES {
                    let below = c[i] - top;
                    let e = (below * log2_e).exp2_if::<FMA>();
                    sum[i] += e;
                    weighted[i] = e.mul_add_if::<FMA>(below, weighted[i]);
                    c[i] = if keep { c[i] } else { e };
                }
            }
            for (i, z) in chunks.into_remainder().iter_mut().enumerate() {
                let below = *z - top;
                let e = (below * log2_e).exp2_if::<FMA>();
                sum[i] += e;
                weighted[i] = e.mul_add_if::<FMA>(below, weighted[i]);
                *z = if keep { *z } else { e };
            }
            part.merge::<FMA>((top, lane_sum(sum), lane_sum(weighted)));
        }
    }
}

kernel! {
    /// Turns what [`score_block`] left into the gradient of `sum(g_i logp_i)` by the logits:
    /// `dz = g (onehot - softmax(z))`, times the slope `1 - (z / cap)^2` of the cap.
    fn gradient_block<F>(
        values: &mut [F], block: Range<usize>, tokens: &[u32], softcap: Option<f64>,
        of_rows: (&[F], &[F], &[F]),
    ) {
        let (lse, grad, tops) = of_rows;
        for (i, (row, &token)) in values.chunks_exact_mut(block.len()).zip(tokens).enumerate() {
            let (lse, g) = (lse[i], grad[i]);
            let target = place(token, &block);
            if let Some(cap) = softcap {
                let over = F::from_f64(1.0 / cap);
                let slope = target.map(|at| {
                    let z = row[at] * over;
                    F::one() - z * z
                });
                for v in row.iter_mut() {
                    let z = *v * over;
                    *v = -g * (*v - lse).exp_if::<FMA>() * (F::one() - z * z);
                }
                if let Some((at, slope)) = target.zip(slope) {
                    row[at] += g * slope;
                }
            } else {
                let factor = -g * (tops[i] - lse).exp_if::<FMA>();
                for v in row.iter_mut() {
                    *v *= factor;
                }
                if let Some(at) = target {
                    row[at] += g;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_vocabulary_and_are_about_equal() {
        for vocab in [1, 31, 512, 513, 1000, 32_000, 256_000] {
            let all: Vec<_> = blocks(vocab).collect();
            assert!(all.iter().all(|b| !b.is_empty() && b.len() <= BLOCK));
            assert!(all.windows(2).all(|w| w[0].end == w[1].start));
            assert_eq!((all[0].start, all[all.len() - 1].end), (0, vocab));
        }
    }

    #[test]
    fn a_nan_in_any_block_makes_the_row_nan() {
        for at in [0, 1, 2] {
            let (mut part, mut top) = ([Part::nothing()], [0.0]);
            for i in 0..3 {
                let mut block = if i == at { [f32::NAN; 32] } else { [0.5; 32] };
                score_block(
                    &mut block,
                    i * 32..(i + 1) * 32,
                    &[40],
                    None,
                    &mut part,
                    &mut top,
                );
            }
            assert!(part[0].scored().lse.is_nan(), "block {at}");
        }
    }

    #[test]
    fn a_row_knows_the_same_of_its_logits_in_one_block_or_in_several() {
        let logits: Vec<f64> = (0..100).map(|i| (f64::from(i) * 0.7).sin() * 9.0).collect();
        let score = |width: usize| {
            let mut part = [Part::nothing()];
            let mut top = [0.0];
            for (i, block) in logits.chunks(width).enumerate() {
                let range = i * width..i * width + block.len();
                let mut block = block.to_vec();
                score_block(&mut block, range, &[63], None, &mut part, &mut top);
            }
            part[0].scored()
        };
        let (one, several) = (score(100), score(32));
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        for got in [one, several] {
            assert!((got.lse - sum.ln()).abs() < 1e-12);
            assert!((got.logp - (logits[63] - sum.ln())).abs() < 1e-12);
            let entropy: f64 = logits.iter().map(|z| -(z - sum.ln()) * z.exp() / sum).sum();
            assert!((got.entropy - entropy).abs() < 1e-12);
        }
        assert_eq!(one.correct, several.correct);
    }
}
