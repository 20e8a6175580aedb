//! The forward pass over one segment.

use super::tiles::{
    Block, Bounds, Buffers, at_least, binary_cap, bounds, capped, fold, gather, mask, stride_of,
    tokens_of_block,
};
use crate::isa::{Simd, kernel};
use crate::lanes::{LANES, lane_sum, row_max};
use crate::real::Real;
use crate::shape::AttentionShape;
use crate::small_gemm::{NARROW, PANEL, Packed, pack};
use std::f64::consts::LOG2_E;

/// Turns a line of dot products into `2^(s - top)`, zero outside `lo..hi`; returns `(top, sum)`,
/// where `top` is the line's maximum.
#[inline(always)]
fn softmax_line<F: Real, S: Simd>(
    line: &mut [F],
    (lo, hi): (usize, usize),
    cap: Option<F>,
    bounds: &Bounds<F>,
) -> (F, F) {
    let (line, unseen) = line.split_at_mut(hi.next_multiple_of(LANES));
    if let Some(cap) = cap {
        for v in line.iter_mut() {
            *v = cap * capped::<F, S>(*v);
        }
    }
    mask(line, (lo, hi), bounds);
    let top = row_max(line);
    let mut acc = [F::ZERO; LANES];
    for c in line.chunks_exact_mut(LANES) {
        for i in 0..LANES {
            c[i] = (c[i] - top).exp2_if::<S>();
            acc[i] += c[i];
        }
    }
    for c in unseen.chunks_exact_mut(LANES) {
        c.fill(F::ZERO);
    }
    (top, lane_sum(acc))
}

kernel! {
    /// Attention of the last `q` tokens of a sequence over all its `k` and `v`; `out` and `lse` are
    /// those of the queries.
    pub(super) fn segment_forward<F>[simd](
        shape: &AttentionShape, q: &[F], k: &[F], v: &[F], out: &mut [F], lse: &mut [F], ws: &mut Buffers<F>,
    ) {
        let (e, qw, kw) = (shape.head_dim, shape.q_width(), shape.kv_width());
        let (rows, len, group) = (q.len() / qw, k.len() / kw, shape.heads / shape.kv_heads);
        let skip = len - rows;
        let (wide, ep) = (len.next_multiple_of(PANEL), e.next_multiple_of(NARROW));
        let (stride, bounds) = (stride_of(wide), bounds::<F>());
        let (tokens, factor, cap) = (tokens_of_block(group), fold::<F>(shape), binary_cap(shape));
        let scores = at_least(&mut ws.scores, tokens.min(rows) * group * stride);
        let mixed = at_least(&mut ws.mixed, tokens * group * ep);
        let sums = at_least(&mut ws.sums, tokens * group);
        let tops = at_least(&mut ws.tops, tokens * group);
        for kv in 0..if rows > 0 { shape.kv_heads } else { 0 } {
            pack(&k[kv * e..], (e, len), (1, kw), wide, &mut ws.k_by_key);
            pack(&v[kv * e..], (len, e), (kw, 1), ep, &mut ws.v_by_dim);
            for start in (0..rows).step_by(tokens) {
                let end = (start + tokens).min(rows);
                let (lines, base) = ((end - start) * group, shape.first_key(skip + start) / PANEL * PANEL);
                let cols = (skip + end).next_multiple_of(PANEL) - base;
                let block = Block { group, lines, sees: skip + start + 1, base, cols };
                gather(end - start, (&q[start * qw + kv * group * e..], qw, group * e), factor, &mut ws.queries);
                block.dots::<F, S>(simd, (&ws.queries, e), &ws.k_by_key[base * e..], scores, stride);
                for token in 0..end - start {
                    let seen = (shape.first_key(skip + start + token) - base, block.seen(token));
                    for line in token * group..(token + 1) * group {
                        let row = &mut scores[line * stride..line * stride + block.computed(line)];
                        let (top, sum) = softmax_line::<F, S>(row, seen, cap, &bounds);
                        tops[line] = top;
                        sums[line] = sum;
                    }
                }
                let values = Packed { data: &ws.v_by_dim, rows: len, first: base };
                block.mix::<F, S, false>(simd, (scores, stride), values, mixed, ep);
                for line in 0..lines {
                    let (token, head) = (start + line / group, kv * group + line % group);
                    lse[token * shape.heads + head] = tops[line] + sums[line].log() * F::of(LOG2_E);
                    let norm = F::ONE / sums[line];
                    let from = &mixed[line * ep..line * ep + e];
                    let at = token * qw + head * e;
                    for (to, &from) in out[at..at + e].iter_mut().zip(from) {
                        *to = from * norm;
                    }
                }
            }
        }
    }
}
