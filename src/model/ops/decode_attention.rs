//! Attention of one new token a row over cached keys and values; no gradient.

use crate::model::ops::AttentionShape;
use crate::model::ops::matmul::threads;
use crate::model::ops::simd::{LANES, axpy, dot, kernel, lane_sum, row_max, tanh};
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
            scores.fill(F::zero());
            for (d, &q) in q.iter().enumerate() {
                let at = lines + d * stride;
                axpy::<F, FMA>(q, &keys[at + first..at + len], scores);
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
            for (d, out) in out.iter_mut().enumerate() {
                let at = lines + d * stride;
                *out = dot::<F, FMA>(scores, &values[at + first..at + len]) * norm;
            }
        }
    }
}
