//! Attention of one new token a row over cached keys and values; no gradient.

use crate::model::ops::AttentionShape;
use crate::model::ops::Real;
use crate::model::ops::matmul::threads;
use crate::model::ops::simd::{LANES, dot, kernel, lane_sum, row_max, tanh};
use rayon::prelude::*;

/// For each row of `queries (B, width)`, attention over the cache that `of(row)` gives: keys and
/// values as `K * E` lines of `stride` positions, of which the first `len` are seen (or those of
/// the window). The new token is the last of them.
pub(crate) fn decode_attention<'a>(
    shape: &AttentionShape,
    queries: &[f32],
    out: &mut [f32],
    width: usize,
    of: impl Fn(usize) -> (&'a [f32], &'a [f32], usize, usize) + Sync,
) {
    let one = |scores: &mut Vec<f32>, (row, (q, out)): (usize, (&[f32], &mut [f32]))| {
        let (keys, values, stride, len) = of(row);
        attend_row(shape, q, keys, values, stride, len, scores, out);
    };
    if threads() == 1 {
        let mut scores = Vec::new();
        queries
            .chunks_exact(width)
            .zip(out.chunks_exact_mut(width))
            .enumerate()
            .for_each(|task| one(&mut scores, task));
    } else {
        queries
            .par_chunks_exact(width)
            .zip(out.par_chunks_exact_mut(width))
            .enumerate()
            .for_each_init(Vec::new, one);
    }
}

/// Lines of values that are summed in one pass over the weights.
const BLOCK: usize = 4;

/// `scores[i] = sum_d q[d] keys[d * stride + i]` for at most [`LANES`] positions, sums in registers.
#[inline(always)]
fn score_chunk<F: Real, const FMA: bool>(q: &[F], keys: &[F], stride: usize, scores: &mut [F]) {
    let mut acc = [F::zero(); LANES];
    if scores.len() == LANES {
        for (d, &q) in q.iter().enumerate() {
            for (acc, &k) in acc.iter_mut().zip(&keys[d * stride..d * stride + LANES]) {
                *acc = q.mul_add_if::<FMA>(k, *acc);
            }
        }
    } else {
        for (d, &q) in q.iter().enumerate() {
            let line = &keys[d * stride..d * stride + scores.len()];
            for (acc, &k) in acc.iter_mut().zip(line) {
                *acc = q.mul_add_if::<FMA>(k, *acc);
            }
        }
    }
    scores.copy_from_slice(&acc[..scores.len()]);
}

/// [`dot`] of `x` with several lines at once, each with the sum order of `dot`.
#[inline(always)]
fn dots<F: Real, const FMA: bool>(x: &[F], lines: [&[F]; BLOCK]) -> [F; BLOCK] {
    let mut acc = [[F::zero(); LANES]; BLOCK];
    let whole = x.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let x = &x[at..at + LANES];
        for (acc, line) in acc.iter_mut().zip(lines) {
            let line = &line[at..at + LANES];
            for i in 0..LANES {
                acc[i] = x[i].mul_add_if::<FMA>(line[i], acc[i]);
            }
        }
    }
    for (acc, line) in acc.iter_mut().zip(lines) {
        for (acc, (&x, &y)) in acc.iter_mut().zip(x[whole..].iter().zip(&line[whole..])) {
            *acc = x.mul_add_if::<FMA>(y, *acc);
        }
    }
    acc.map(lane_sum)
}

kernel! {
    /// One row: for each head, scores along the positions, softmax, weighted sum of values.
    fn attend_row<F>(
        shape: &AttentionShape, q: &[F], keys: &[F], values: &[F], stride: usize, len: usize,
        scores: &mut Vec<F>, out: &mut [F],
    ) {
        let e = shape.head_dim;
        let group = shape.heads / shape.kv_heads.max(1);
        let first = shape.first_key(len - 1);
        scores.clear();
        scores.resize(len - first, F::zero());
        for (head, (q, out)) in q.chunks_exact(e).zip(out.chunks_exact_mut(e)).enumerate() {
            let lines = head / group * e * stride;
            for (c, scores) in scores.chunks_mut(LANES).enumerate() {
                score_chunk::<F, FMA>(q, &keys[lines + first + c * LANES..], stride, scores);
            }
            let scale = F::from_f64(shape.scale);
            for s in scores.iter_mut() {
                *s *= scale;
            }
            if let Some(cap) = shape.softcap {
                let (cap, over) = (F::from_f64(cap), F::from_f64(1.0 / cap));
                for s in scores.iter_mut() {
                    *s = cap * tanh::<F, FMA>(*s * over);
                }
            }
            let top = row_max(scores);
            let mut sums = [F::zero(); LANES];
            for chunk in scores.chunks_mut(LANES) {
                for (s, sum) in chunk.iter_mut().zip(&mut sums) {
                    *s = (*s - top).exp_if::<FMA>();
                    *sum += *s;
                }
            }
            let norm = F::one() / lane_sum(sums);
            for (b, out) in out.chunks_mut(BLOCK).enumerate() {
                let line = |d: usize| {
                    let at = lines + (b * BLOCK + d) * stride;
                    &values[at + first..at + len]
                };
                if out.len() == BLOCK {
                    let sums = dots::<F, FMA>(scores, std::array::from_fn(line));
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = sum * norm;
                    }
                } else {
                    for (d, out) in out.iter_mut().enumerate() {
                        *out = dot::<F, FMA>(scores, line(d)) * norm;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::simd::axpy;

    kernel! {
        fn compare<F>(q: &[F], lines: &[F], stride: usize, len: usize, found: &mut Vec<(F, F)>) {
            let mut plain = vec![F::zero(); len];
            for (d, &q) in q.iter().enumerate() {
                axpy::<F, FMA>(q, &lines[d * stride..d * stride + len], &mut plain);
            }
            let mut scores = vec![F::zero(); len];
            for (c, scores) in scores.chunks_mut(LANES).enumerate() {
                score_chunk::<F, FMA>(q, &lines[c * LANES..], stride, scores);
            }
            let line = |d: usize| &lines[d * stride..d * stride + len];
            let sums = dots::<F, FMA>(&scores, std::array::from_fn(line));
            found.extend(scores.iter().copied().zip(plain));
            for (d, sum) in sums.into_iter().enumerate() {
                found.push((sum, dot::<F, FMA>(&scores, line(d))));
            }
        }
    }

    #[test]
    fn blocks_give_the_bits_of_one_line_after_the_other() {
        let stride = 64;
        let lines: Vec<f32> = (0..8 * stride).map(|i| (i as f32 * 0.37).sin()).collect();
        let q: Vec<f32> = (0..8).map(|i| (i as f32 * 0.9).cos()).collect();
        for len in [1, 15, 16, 17, 50, 64] {
            let mut found = Vec::new();
            compare(&q, &lines, stride, len, &mut found);
            assert_eq!(found.len(), len + BLOCK);
            for (got, want) in found {
                assert_eq!(got.to_bits(), want.to_bits(), "{len} positions");
            }
        }
    }
}
