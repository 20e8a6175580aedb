//! The backward pass over one segment.

use super::inputs::SegmentInputs;
use super::tiles::{
    Block, Bounds, Buffers, at_least, binary_cap, bounds, capped, fold, gather, mask, stride_of,
    tokens_of_block, unfold,
};
use crate::isa::{Simd, kernel};
use crate::lanes::LANES;
use crate::real::Real;
use crate::shape::AttentionShape;
use crate::small_gemm::{NARROW, PANEL, Packed, pack, transpose};

/// Keys that a block of lines meets at a time; its scores and their gradients stay in the cache
/// from the first product to the last.
const KEY_BLOCK: usize = 64;

/// Turns a line of dot products into probabilities `p = 2^(s - lse)`, and `dp`, the gradients of
/// these, into those of the scores, `p (dp - delta)` (times the slope of the cap); both are zero
/// outside `lo..hi`.
#[inline(always)]
fn gradient_line<F: Real, S: Simd>(
    (p, dp): (&mut [F], &mut [F]),
    (lo, hi): (usize, usize),
    (lse, delta): (F, F),
    cap: Option<F>,
    bounds: &Bounds<F>,
) {
    let used = hi.next_multiple_of(LANES);
    if cap.is_none() {
        mask(&mut p[..used], (lo, hi), bounds);
    }
    let lines = p[..used]
        .chunks_exact_mut(LANES)
        .zip(dp[..used].chunks_exact_mut(LANES));
    if let Some(cap) = cap {
        for (p, dp) in lines {
            for i in 0..LANES {
                let capped = capped::<F, S>(p[i]);
                p[i] = (cap * capped - lse).exp2_if::<S>();
                dp[i] = p[i] * (dp[i] - delta) * (F::ONE - capped * capped);
            }
        }
    } else {
        for (p, dp) in lines {
            for i in 0..LANES {
                p[i] = (p[i] - lse).exp2_if::<S>();
                dp[i] = p[i] * (dp[i] - delta);
            }
        }
    }
    for line in [p, dp] {
        if cap.is_some() {
            line[..lo].fill(F::ZERO);
            line[hi..used].fill(F::ZERO);
        }
        for c in line[used..].chunks_exact_mut(LANES) {
            c.fill(F::ZERO);
        }
    }
}

/// `sum(x * y)` of heads, which are rarely wider than a multiple of 8.
#[inline(always)]
fn dot<F: Real, S: Simd>(x: &[F], y: &[F]) -> F {
    let (xs, xr) = x.as_chunks::<NARROW>();
    let (ys, yr) = y.as_chunks::<NARROW>();
    let mut acc = [F::ZERO; NARROW];
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..NARROW {
            acc[i] = x[i].mul_add_if::<S>(y[i], acc[i]);
        }
    }
    let mut rest = F::ZERO;
    for (&x, &y) in xr.iter().zip(yr) {
        rest = x.mul_add_if::<S>(y, rest);
    }
    let mut width = NARROW / 2;
    while width > 0 {
        for i in 0..width {
            acc[i] += acc[i + width];
        }
        width /= 2;
    }
    acc[0] + rest
}

kernel! {
    /// With `d_i = g_i . o_i` and `dp_ij = g_i . v_j`: `ds = p (dp - d) scale` (times the slope of
    /// the cap), `dq = ds k`, `dk = ds^T q`, `dv = p^T g`. Outputs are overwritten; `dk` and `dv`
    /// are those of the whole sequence.
    pub(super) fn segment_backward<F>[simd](
        shape: &AttentionShape, s: SegmentInputs<'_, F>, dq: &mut [F], dk: &mut [F], dv: &mut [F], ws: &mut Buffers<F>,
    ) {
        let (e, qw, kw) = (shape.head_dim, shape.q_width(), shape.kv_width());
        let (rows, len, group) = (s.q.len() / qw, s.k.len() / kw, shape.heads / shape.kv_heads);
        let skip = len - rows;
        let (wide, ep) = (len.next_multiple_of(PANEL), e.next_multiple_of(NARROW));
        let (stride, bounds) = (stride_of(wide), bounds::<F>());
        let (tokens, factor, cap) = (tokens_of_block(group), fold::<F>(shape), binary_cap(shape));
        let p = at_least(&mut ws.scores, tokens * group * KEY_BLOCK);
        let ds = at_least(&mut ws.d_scores, tokens * group * KEY_BLOCK);
        let mixed = at_least(&mut ws.mixed, tokens * group * ep);
        let deltas = at_least(&mut ws.sums, tokens * group);
        let (scale, unfold) = (F::of(shape.scale), unfold::<F>(shape));
        for kv in 0..if rows > 0 { shape.kv_heads } else { 0 } {
            pack(&s.k[kv * e..], (e, len), (1, kw), wide, &mut ws.k_by_key);
            pack(&s.v[kv * e..], (e, len), (1, kw), wide, &mut ws.v_by_key);
            pack(&s.k[kv * e..], (len, e), (kw, 1), ep, &mut ws.k_by_dim);
            let dk_sums = at_least(&mut ws.dk, e * stride);
            dk_sums.fill(F::ZERO);
            let dv_sums = at_least(&mut ws.dv, e * stride);
            dv_sums.fill(F::ZERO);
            for start in (0..rows).step_by(tokens) {
                let end = (start + tokens).min(rows);
                let (lines, at) = ((end - start) * group, start * qw + kv * group * e);
                gather(end - start, (&s.q[at..], qw, group * e), factor, &mut ws.queries);
                gather(end - start, (&s.grad[at..], qw, group * e), F::ONE, &mut ws.grads);
                for (line, delta) in deltas.iter_mut().enumerate().take(lines) {
                    let at = at + line / group * qw + line % group * e;
                    *delta = dot::<F, S>(&s.grad[at..at + e], &s.out[at..at + e]);
                }
                mixed[..lines * ep].fill(F::ZERO);
                let first = shape.first_key(skip + start) / PANEL * PANEL;
                for base in (first..skip + end).step_by(KEY_BLOCK) {
                    let cols = KEY_BLOCK.min((skip + end).next_multiple_of(PANEL) - base);
                    let block = Block { group, lines, sees: skip + start + 1, base, cols };
                    block.dots::<F, S>(simd, (&ws.queries, e), &ws.k_by_key[base * e..], p, KEY_BLOCK);
                    block.dots::<F, S>(simd, (&ws.grads, e), &ws.v_by_key[base * e..], ds, KEY_BLOCK);
                    for token in block.first_row(0) / group..end - start {
                        let hi = block.seen(token);
                        let lo = shape.first_key(skip + start + token).saturating_sub(base).min(hi);
                        let lse = (start + token) * shape.heads + kv * group;
                        for (line, &lse) in (token * group..).zip(&s.lse[lse..lse + group]) {
                            let span = line * KEY_BLOCK..line * KEY_BLOCK + block.computed(line);
                            let scores = (&mut p[span.clone()], &mut ds[span]);
                            gradient_line::<F, S>(scores, (lo, hi), (lse, deltas[line]), cap, &bounds);
                        }
                    }
                    let keys = Packed { data: &ws.k_by_dim, rows: len, first: base };
                    block.mix::<F, S, true>(simd, (ds, KEY_BLOCK), keys, mixed, ep);
                    block.mix_lines::<F, S>(simd, (ds, KEY_BLOCK), (&ws.queries, e), &mut dk_sums[base..], stride);
                    block.mix_lines::<F, S>(simd, (p, KEY_BLOCK), (&ws.grads, e), &mut dv_sums[base..], stride);
                }
                for line in 0..lines {
                    let at = at + line / group * qw + line % group * e;
                    for (to, &v) in dq[at..at + e].iter_mut().zip(&mixed[line * ep..line * ep + e]) {
                        *to = v * scale;
                    }
                }
            }
            transpose(dk_sums, stride, (e, len), &mut dk[kv * e..], kw, unfold);
            transpose(dv_sums, stride, (e, len), &mut dv[kv * e..], kw, F::ONE);
        }
    }
}
