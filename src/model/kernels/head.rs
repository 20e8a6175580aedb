//! The product with the vocabulary, a chunk of rows and a block of the vocabulary at a time.
//!
//! Logits of a chunk are kept block by block, each block a matrix of its own, so that what is done
//! to a block (product, scores, gradient) finds it in a cache. What a row needs of all its logits
//! is gathered over the blocks in order, as in online softmax (Milakov & Gimelshein 2018).

use crate::isa::{Simd, kernel};
use crate::lanes::{LANES, lane_sum, row_max, tanh};
use crate::mat::{MatRef, Store};
use crate::matmul::{Operands, PackedB, matmul_packed, matmul_with};
use crate::real::Real;
use crate::rows::{TILE_ROWS, threads};
use rayon::prelude::*;
use std::ops::Range;

/// Widest block of the vocabulary.
const BLOCK: usize = 512;

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
pub struct Scored<F> {
    /// Log-probability, nats.
    pub logp: F,
    /// Logarithm of the sum of the exponentials of all logits.
    pub lse: F,
    /// Of the distribution, nats.
    pub entropy: F,
    /// Whether the target is the likeliest token.
    pub correct: bool,
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
            sum: F::ZERO,
            weighted: F::ZERO,
            target: F::NEG_INFINITY,
        }
    }

    #[inline(always)]
    fn merge<S: Simd>(&mut self, (top, sum, weighted): (F, F, F)) {
        // By the sum, which a NaN has reached even where the maximum has passed it over.
        if self.sum == F::ZERO {
            (self.top, self.sum, self.weighted) = (top, sum, weighted);
            return;
        }
        let both = if top > self.top { top } else { self.top };
        let (old, new) = (self.top - both, top - both);
        let (old_factor, new_factor) = (old.exp_if::<S>(), new.exp_if::<S>());
        self.weighted = old_factor * old.mul_add_if::<S>(self.sum, self.weighted)
            + new_factor * new.mul_add_if::<S>(sum, weighted);
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
pub struct Head<'a, F> {
    /// `(V, D)`.
    pub weight: &'a [F],
    /// D.
    pub width: usize,
    /// V.
    pub vocab: usize,
    /// Logits are bounded by `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// What its products make of their operands.
    pub operands: Operands,
}

/// Logits of a chunk of rows, later their exponentials, later their gradients.
pub struct Logits<F> {
    /// Block by block, each `(n, block)`.
    values: Vec<F>,
    /// Without a softcap, the largest logit of each row of each block, which its exponentials are
    /// relative to; block by block, `(n,)` each.
    tops: Vec<F>,
    /// The rows, `(n, D)`.
    x: Vec<F>,
}

impl<F> Default for Logits<F> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            tops: Vec::new(),
            x: Vec::new(),
        }
    }
}

impl<F: Real> Logits<F> {
    /// Scores `tokens (n,)` by rows `rows (n,)` of `h (T, D)`; the values are ready for
    /// [`Logits::backward`] afterwards.
    pub fn forward(
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
            self.values = Vec::with_capacity(n * head.vocab);
        }
        self.tops.clear();
        let mut parts = vec![Part::nothing(); n];
        for block in blocks(head.vocab) {
            if self.values.len() < n * block.end {
                // Block by block, since a cache holds one: memory that was in use before is not zero.
                self.values.resize(n * block.end, F::ZERO);
            }
            let values = &mut self.values[n * block.start..n * block.end];
            let weight = &head.weight[block.start * d..block.end * d];
            let weight = PackedB::new(
                head.operands,
                MatRef::transposed(weight, d),
                (d, block.len()),
            );
            let (first, x) = (self.tops.len(), &self.x);
            self.tops.resize(first + n, F::ZERO);
            let tops = &mut self.tops[first..];
            for_rows(
                (values, block.len()),
                (&mut parts, 1),
                (tops, 1),
                |at, values, parts, tops| {
                    let here = at..at + parts.len();
                    let x = MatRef::new(&x[here.start * d..here.end * d], d);
                    matmul_packed(here.len(), x, &weight, values, Store::Set);
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
    pub fn backward(
        &mut self,
        head: &Head<'_, F>,
        tokens: &[u32],
        (lse, grad): (&[F], &[F]),
        (dx, dw): (&mut [F], Option<&mut [F]>),
    ) {
        let (d, n) = (head.width, tokens.len());
        let mut of_head = dw.map(|dw| {
            (
                dw,
                PackedB::new(head.operands, MatRef::new(&self.x, d), (n, d)),
            )
        });
        for (i, block) in blocks(head.vocab).enumerate() {
            let values = &mut self.values[n * block.start..n * block.end];
            let tops = &mut self.tops[i * n..(i + 1) * n];
            let own = block.start * d..block.end * d;
            let weight = MatRef::new(&head.weight[own.clone()], d);
            let weight = PackedB::new(head.operands, weight, (block.len(), d));
            let store = if i == 0 { Store::Set } else { Store::Add };
            for_rows(
                (values, block.len()),
                (dx, d),
                (tops, 1),
                |at, values, dx, tops| {
                    let here = at..at + tops.len();
                    let of_rows = (&lse[here.clone()], &grad[here.clone()], &*tops);
                    gradient_block(values, block.clone(), &tokens[here], head.softcap, of_rows);
                    let dz = MatRef::new(values, block.len());
                    matmul_packed(tops.len(), dz, &weight, dx, store);
                },
            );
            if let Some((dw, x)) = &mut of_head {
                let dz = MatRef::transposed(values, block.len());
                matmul_with(block.len(), dz, x, &mut dw[own], Store::Add);
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
    let rows = rows.next_multiple_of(TILE_ROWS).min(GROUP);
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
                let (cap, over) = (F::of(cap), F::of(1.0 / cap));
                for v in row.iter_mut() {
                    *v = cap * tanh::<F, S>(*v * over);
                }
            }
            if let Some(at) = place(token, &block) {
                part.target = row[at];
            }
            let top = row_max(row);
            *row_top = top;
            let (mut sum, mut weighted) = ([F::ZERO; LANES], [F::ZERO; LANES]);
            let (keep, log2_e) = (softcap.is_some(), F::of(std::f64::consts::LOG2_E));
            let mut chunks = row.chunks_exact_mut(LANES);
            for c in &mut chunks {
                for i in 0..LANES {
                    let below = c[i] - top;
                    let e = (below * log2_e).exp2_if::<S>();
                    sum[i] += e;
                    weighted[i] = e.mul_add_if::<S>(below, weighted[i]);
                    c[i] = if keep { c[i] } else { e };
                }
            }
            for (i, z) in chunks.into_remainder().iter_mut().enumerate() {
                let below = *z - top;
                let e = (below * log2_e).exp2_if::<S>();
                sum[i] += e;
                weighted[i] = e.mul_add_if::<S>(below, weighted[i]);
                *z = if keep { *z } else { e };
            }
            part.merge::<S>((top, lane_sum(sum), lane_sum(weighted)));
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
                let over = F::of(1.0 / cap);
                let slope = target.map(|at| {
                    let z = row[at] * over;
                    F::ONE - z * z
                });
                for v in row.iter_mut() {
                    let z = *v * over;
                    *v = -g * (*v - lse).exp_if::<S>() * (F::ONE - z * z);
                }
                if let Some((at, slope)) = target.zip(slope) {
                    row[at] += g * slope;
                }
            } else {
                let factor = -g * (tops[i] - lse).exp_if::<S>();
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
    use crate::testing::on_every_set;

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
        on_every_set(|| {
            for at in [0, 1, 2] {
                let (mut part, mut top) = ([Part::nothing()], [0.0]);
                for i in 0..3 {
                    let mut block = if i == at { [f32::NAN; 32] } else { [0.5; 32] };
                    let range = i * 32..(i + 1) * 32;
                    score_block(&mut block, range, &[40], None, &mut part, &mut top);
                }
                assert!(part[0].scored().lse.is_nan(), "block {at}");
            }
        });
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
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        on_every_set(|| {
            let (one, several) = (score(100), score(32));
            for got in [one, several] {
                assert!((got.lse - sum.ln()).abs() < 1e-12);
                assert!((got.logp - (logits[63] - sum.ln())).abs() < 1e-12);
                let entropy: f64 = logits.iter().map(|z| -(z - sum.ln()) * z.exp() / sum).sum();
                assert!((got.entropy - entropy).abs() < 1e-12);
            }
            assert_eq!(one.correct, several.correct);
            [one, several]
                .map(|s| vec![s.lse, s.logp, s.entropy])
                .to_vec()
        });
    }

    // Three blocks of a vocabulary, with and without a cap: what ops and losses are made of.
    #[test]
    fn logits_and_their_gradients_have_the_same_bits_on_every_set() {
        let (d, vocab, rows) = (7, if cfg!(miri) { 40 } else { 1100 }, [3u32, 0, 2, 3]);
        let wave = |len: usize, step: f32| -> Vec<f32> {
            (0..len).map(|i| (i as f32 * step).sin()).collect()
        };
        let (h, weight) = (wave(4 * d, 0.37), wave(vocab * d, 0.59));
        let tokens = [1, 39, vocab as u32 - 1, 0];
        for softcap in [None, Some(1.5)] {
            let head = Head {
                weight: &weight,
                width: d,
                vocab,
                softcap,
                operands: Operands::Exact,
            };
            on_every_set(|| {
                let mut logits = Logits::default();
                let scored = logits.forward(&head, &h, (&rows, &tokens));
                let lse: Vec<f32> = scored.iter().map(|s| s.lse).collect();
                let (mut dx, mut dw) = (vec![0.0; 4 * d], vec![0.0; vocab * d]);
                let grad = [0.5, -1.0, 2.0, 0.1];
                logits.backward(&head, &tokens, (&lse, &grad), (&mut dx, Some(&mut dw)));
                // Gradients of log-probabilities by all logits sum to zero, so those by a constant
                // shift of the head do too.
                for at in 0..d {
                    let sum: f32 = (0..vocab).map(|v| dw[v * d + at]).sum();
                    assert!(softcap.is_some() || sum.abs() < 1e-4, "{sum}");
                }
                ((lse, dx), dw)
            });
        }
    }
}
