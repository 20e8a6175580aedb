//! Causal attention over packed segments, with grouped key and value heads.
//!
//! `o_i = sum_j p_ij v_j`, `p_i = softmax_j(cap(scale * q_i . k_j))` over the tokens `j <= i` of
//! the same segment, those of its trunk before them (and within the window, if there is one). Work
//! is proportional to the sum of squared segment lengths. The forward pass keeps only the log of each row's normaliser, the
//! backward pass recomputes the probabilities from it (Dao et al. 2022, algorithm 4).

use crate::model::ops::matmul::threads;
use crate::model::ops::panel::{Left, PANEL, Right, multiply, pack};
use crate::model::ops::simd::{LANES, dot, kernel, lane_sum, row_max, tanh};
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use crate::model::ops::{Real, Segments};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Shape and form of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads K; divides H.
    pub kv_heads: usize,
    /// Head width E.
    pub head_dim: usize,
    /// Factor on the dot products.
    pub scale: f64,
    /// Scores are bounded by `cap * tanh(score / cap)` (Gemma 2).
    pub softcap: Option<f64>,
    /// A token sees at most so many tokens, itself included (Mistral).
    pub window: Option<usize>,
}

impl AttentionShape {
    /// The first token that token `i` of a segment, its trunk included, sees.
    #[inline(always)]
    pub(super) fn first_key(&self, i: usize) -> usize {
        self.window.map_or(0, |w| (i + 1).saturating_sub(w))
    }

    fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Attention of `q (T, H * E)` over `k`, `v (T, K * E)`, blocked between the segments.
/// Result `(T, H * E)`.
///
/// # Errors
/// Shapes do not fit, or the segments do not cover the T tokens.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &Segments,
    shape: AttentionShape,
) -> Result<Tensor> {
    match path(q) {
        Path::F32 | Path::F64 => q.contiguous()?.apply_op3(
            &k.contiguous()?,
            &v.contiguous()?,
            AttentionOp {
                shape,
                segments: segments.clone(),
                lse: Mutex::new(None),
            },
        ),
        Path::Upcast => {
            let wide = |t: &Tensor| t.to_dtype(DType::F32);
            attention(&wide(q)?, &wide(k)?, &wide(v)?, segments, shape)?.to_dtype(q.dtype())
        }
        Path::Naive => attention_naive(q, k, v, segments, shape),
    }
}

/// [`attention`] out of candle's own ops, one segment after another.
///
/// # Errors
/// As [`attention`].
pub fn attention_naive(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &Segments,
    shape: AttentionShape,
) -> Result<Tensor> {
    segments.check(q.dim(0)?)?;
    let mut outputs = Vec::new();
    for group in segments.groups() {
        let trunk = (group[0] as usize, (group[1] - group[0]) as usize);
        for (n, bounds) in group.windows(2).enumerate() {
            let own = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
            if own.1 == 0 {
                continue;
            }
            let seen = |t: &Tensor| -> Result<Tensor> {
                let own = t.narrow(0, own.0, own.1)?;
                if n == 0 || trunk.1 == 0 {
                    return Ok(own);
                }
                Tensor::cat(&[&t.narrow(0, trunk.0, trunk.1)?, &own], 0)
            };
            let queries = q.narrow(0, own.0, own.1)?;
            outputs.push(last_rows_naive(&queries, &seen(k)?, &seen(v)?, shape)?);
        }
    }
    Tensor::cat(&outputs, 0)
}

/// Attention of the last `q (R, H * E)` tokens of a sequence over all its `k`, `v (L, K * E)`.
fn last_rows_naive(q: &Tensor, k: &Tensor, v: &Tensor, shape: AttentionShape) -> Result<Tensor> {
    let (heads, e) = (shape.heads, shape.head_dim);
    let (rows, len) = (q.dim(0)?, k.dim(0)?);
    let by_head = |t: &Tensor, n: usize| -> Result<Tensor> {
        let len = t.dim(0)?;
        let t = t.reshape((len, n, e))?.transpose(0, 1)?; // (n, L, E)
        let t = t.unsqueeze(1)?.expand((n, heads / n, len, e))?;
        t.reshape((heads, len, e))?.contiguous() // (H, L, E)
    };
    let (k, v) = (by_head(k, shape.kv_heads)?, by_head(v, shape.kv_heads)?);
    let keys = k.transpose(1, 2)?.contiguous()?; // (H, E, L)
    let mut scores = (by_head(q, heads)?.matmul(&keys)? * shape.scale)?; // (H, R, L)
    if let Some(cap) = shape.softcap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    let mask: Vec<f32> = (0..rows * len)
        .map(|at| {
            let (i, j) = (at / len + len - rows, at % len);
            if j <= i && j >= shape.first_key(i) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
        .collect();
    let mask = Tensor::from_vec(mask, (1, rows, len), q.device())?.to_dtype(q.dtype())?;
    let probs = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
    let out = probs.matmul(&v)?.transpose(0, 1)?; // (R, H, E)
    out.reshape((rows, heads * e))
}

struct AttentionOp {
    shape: AttentionShape,
    segments: Segments,
    /// Log of each row's normaliser `(T, H)`, kept by the forward pass in `f64` or `f32`.
    lse: Mutex<Option<CpuStorage>>,
}

/// Query rows of one block.
const BLOCK: usize = 32;

/// Buffers that one thread reuses over its segments.
pub(super) struct Workspace<F> {
    k_by_key: Vec<F>,
    v_by_key: Vec<F>,
    k_by_dim: Vec<F>,
    v_by_dim: Vec<F>,
    q_by_dim: Vec<F>,
    o_by_dim: Vec<F>,
    scores: Vec<F>,
    d_scores: Vec<F>,
    block: Vec<F>,
    dk: Vec<F>,
    dv: Vec<F>,
    branch: Branch<F>,
}

/// Keys and values of a trunk and one of its branches behind one another, and their gradients.
struct Branch<F> {
    k: Vec<F>,
    v: Vec<F>,
    dk: Vec<F>,
    dv: Vec<F>,
}

impl<F: Real> Workspace<F> {
    pub(super) fn new() -> Self {
        Self {
            k_by_key: Vec::new(),
            v_by_key: Vec::new(),
            k_by_dim: Vec::new(),
            v_by_dim: Vec::new(),
            q_by_dim: Vec::new(),
            o_by_dim: Vec::new(),
            scores: Vec::new(),
            d_scores: Vec::new(),
            block: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
            branch: Branch::new(),
        }
    }
}

impl<F: Real> Branch<F> {
    fn new() -> Self {
        Self {
            k: Vec::new(),
            v: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
        }
    }

    /// Fills in the keys and values: `trunk` values from the beginning, then those from `own`.
    fn join(&mut self, (k, v): (&[F], &[F]), trunk: usize, own: Range<usize>) {
        for (joined, all) in [(&mut self.k, k), (&mut self.v, v)] {
            joined.clear();
            joined.extend_from_slice(&all[..trunk]);
            joined.extend_from_slice(&all[own.clone()]);
        }
    }
}

/// Turns a row of dot products into `exp(cap(scale * s) - top)` with zeros outside `lo..hi`;
/// returns `(top, sum)`, where `top` is the row's maximum.
#[inline(always)]
fn softmax_row<F: Real, const FMA: bool>(
    row: &mut [F],
    (lo, hi): (usize, usize),
    shape: &AttentionShape,
) -> (F, F) {
    scale_row::<F, FMA>(row, (lo, hi), shape);
    let top = row_max(row);
    let mut acc = [F::zero(); LANES];
    for c in row.chunks_exact_mut(LANES) {
        for i in 0..LANES {
            c[i] = (c[i] - top).exp_if::<FMA>();
            acc[i] += c[i];
        }
    }
    (top, lane_sum(acc))
}

/// Scales and caps a row of dot products; minus infinity outside `lo..hi`.
#[inline(always)]
fn scale_row<F: Real, const FMA: bool>(
    row: &mut [F],
    (lo, hi): (usize, usize),
    shape: &AttentionShape,
) {
    let scale = F::from_f64(shape.scale);
    if let Some(cap) = shape.softcap {
        let (cap, over) = (F::from_f64(cap), F::from_f64(shape.scale / cap));
        for v in row.iter_mut() {
            *v = cap * tanh::<F, FMA>(*v * over);
        }
    } else {
        for v in row.iter_mut() {
            *v *= scale;
        }
    }
    row[..lo].fill(F::NEG_INFINITY);
    row[hi..].fill(F::NEG_INFINITY);
}

kernel! {
    /// Attention of the last `q` tokens of a sequence over all its `k` and `v`; `out` and `lse` are
    /// those of the queries.
    pub(super) fn segment_forward<F>(
        shape: &AttentionShape, q: &[F], k: &[F], v: &[F], out: &mut [F], lse: &mut [F], ws: &mut Workspace<F>,
    ) {
        let (e, qw, kw) = (shape.head_dim, shape.q_width(), shape.kv_width());
        let (rows, len) = (q.len() / qw, k.len() / kw);
        if rows == 0 {
            return;
        }
        let skip = len - rows;
        let (wide, ep) = (len.next_multiple_of(PANEL), e.next_multiple_of(PANEL));
        ws.scores.resize(BLOCK * wide, F::zero());
        ws.block.resize(BLOCK * ep, F::zero());
        for kv in 0..shape.kv_heads {
            pack(&k[kv * e..], (e, len), (1, kw), &mut ws.k_by_key);
            pack(&v[kv * e..], (len, e), (kw, 1), &mut ws.v_by_dim);
            let group = shape.heads / shape.kv_heads;
            for head in kv * group..(kv + 1) * group {
                for start in (0..rows).step_by(BLOCK) {
                    let end = (start + BLOCK).min(rows);
                    let base = shape.first_key(skip + start) / PANEL * PANEL;
                    let cols = (skip + end).next_multiple_of(PANEL) - base;
                    let queries = Left { data: &q[start * qw + head * e..], row_stride: qw, col_stride: 1 };
                    let keys = Right { data: &ws.k_by_key[base * e..], stride: e * PANEL, panels: cols / PANEL };
                    multiply::<F, FMA, false>((end - start, e), queries, keys, &mut ws.scores, wide);
                    let mut sums = [F::zero(); BLOCK];
                    for i in start..end {
                        let row = &mut ws.scores[(i - start) * wide..(i - start) * wide + cols];
                        let seen = (shape.first_key(skip + i) - base, skip + i + 1 - base);
                        let (top, sum) = softmax_row::<F, FMA>(row, seen, shape);
                        sums[i - start] = sum;
                        lse[i * shape.heads + head] = top + sum.log();
                    }
                    let probs = Left { data: &ws.scores, row_stride: wide, col_stride: 1 };
                    let values = Right { data: &ws.v_by_dim[base * PANEL..], stride: len * PANEL, panels: ep / PANEL };
                    multiply::<F, FMA, false>((end - start, skip + end - base), probs, values, &mut ws.block, ep);
                    for i in start..end {
                        let norm = F::one() / sums[i - start];
                        let from = &ws.block[(i - start) * ep..(i - start) * ep + e];
                        let to = &mut out[i * qw + head * e..i * qw + head * e + e];
                        for (to, &from) in to.iter_mut().zip(from) {
                            *to = from * norm;
                        }
                    }
                }
            }
        }
    }
}

/// What a backward pass reads: `k` and `v` of a sequence, the rest of its last tokens.
#[derive(Clone, Copy)]
pub(super) struct SegmentInputs<'a, F> {
    pub(super) q: &'a [F],
    pub(super) k: &'a [F],
    pub(super) v: &'a [F],
    pub(super) out: &'a [F],
    pub(super) lse: &'a [F],
    pub(super) grad: &'a [F],
}

kernel! {
    /// With `d_i = g_i . o_i` and `dp_ij = g_i . v_j`: `ds = p (dp - d) scale` (times the slope of
    /// the cap), `dq = ds k`, `dk = ds^T q`, `dv = p^T g`. Outputs are overwritten; `dk` and `dv`
    /// are those of the whole sequence.
    pub(super) fn segment_backward<F>(
        shape: &AttentionShape, s: SegmentInputs<'_, F>, dq: &mut [F], dk: &mut [F], dv: &mut [F], ws: &mut Workspace<F>,
    ) {
        let (e, qw, kw) = (shape.head_dim, shape.q_width(), shape.kv_width());
        let (rows, len) = (s.q.len() / qw, s.k.len() / kw);
        if rows == 0 {
            return;
        }
        let skip = len - rows;
        let (wide, ep) = (len.next_multiple_of(PANEL), e.next_multiple_of(PANEL));
        ws.scores.resize(BLOCK * wide, F::zero());
        ws.d_scores.resize(BLOCK * wide, F::zero());
        ws.block.resize(BLOCK * ep, F::zero());
        let scale = F::from_f64(shape.scale);
        for kv in 0..shape.kv_heads {
            pack(&s.k[kv * e..], (e, len), (1, kw), &mut ws.k_by_key);
            pack(&s.v[kv * e..], (e, len), (1, kw), &mut ws.v_by_key);
            pack(&s.k[kv * e..], (len, e), (kw, 1), &mut ws.k_by_dim);
            ws.dk.clear();
            ws.dk.resize(len * ep, F::zero());
            ws.dv.clear();
            ws.dv.resize(len * ep, F::zero());
            let group = shape.heads / shape.kv_heads;
            for head in kv * group..(kv + 1) * group {
                for start in (0..rows).step_by(BLOCK) {
                    let end = (start + BLOCK).min(rows);
                    let (rows, sees) = (end - start, skip + end);
                    let base = shape.first_key(skip + start) / PANEL * PANEL;
                    let cols = sees.next_multiple_of(PANEL) - base;
                    let panels = cols / PANEL;
                    let at = start * qw + head * e;
                    let queries = Left { data: &s.q[at..], row_stride: qw, col_stride: 1 };
                    let grads = Left { data: &s.grad[at..], row_stride: qw, col_stride: 1 };
                    let keys = Right { data: &ws.k_by_key[base * e..], stride: e * PANEL, panels };
                    let values = Right { data: &ws.v_by_key[base * e..], stride: e * PANEL, panels };
                    multiply::<F, FMA, false>((rows, e), queries, keys, &mut ws.scores, wide);
                    multiply::<F, FMA, false>((rows, e), grads, values, &mut ws.d_scores, wide);
                    for i in start..end {
                        let span = (i - start) * wide..(i - start) * wide + cols;
                        let (p, dp) = (&mut ws.scores[span.clone()], &mut ws.d_scores[span]);
                        let seen = (shape.first_key(skip + i) - base, skip + i + 1 - base);
                        scale_row::<F, FMA>(p, seen, shape);
                        let here = i * qw + head * e..i * qw + head * e + e;
                        let delta = dot::<F, FMA>(&s.grad[here.clone()], &s.out[here]);
                        let lse = s.lse[i * shape.heads + head];
                        if let Some(cap) = shape.softcap {
                            let over = F::one() / F::from_f64(cap);
                            for (p, dp) in p.iter_mut().zip(dp) {
                                // Outside the row's keys `p` is minus infinity; its slope is not used.
                                let capped = if *p > F::NEG_INFINITY { *p * over } else { F::zero() };
                                let slope = (F::one() - capped * capped) * scale;
                                *p = (*p - lse).exp_if::<FMA>();
                                *dp = *p * (*dp - delta) * slope;
                            }
                        } else {
                            for (p, dp) in p.iter_mut().zip(dp) {
                                *p = (*p - lse).exp_if::<FMA>();
                                *dp = *p * (*dp - delta) * scale;
                            }
                        }
                    }
                    let ds = Left { data: &ws.d_scores, row_stride: wide, col_stride: 1 };
                    let keys = Right { data: &ws.k_by_dim[base * PANEL..], stride: len * PANEL, panels: ep / PANEL };
                    multiply::<F, FMA, false>((rows, sees - base), ds, keys, &mut ws.block, ep);
                    for i in 0..rows {
                        dq[at + i * qw..at + i * qw + e].copy_from_slice(&ws.block[i * ep..i * ep + e]);
                    }
                    pack(&s.q[at..], (rows, e), (qw, 1), &mut ws.q_by_dim);
                    pack(&s.grad[at..], (rows, e), (qw, 1), &mut ws.o_by_dim);
                    let ds_t = Left { data: &ws.d_scores, row_stride: 1, col_stride: wide };
                    let p_t = Left { data: &ws.scores, row_stride: 1, col_stride: wide };
                    let queries = Right { data: &ws.q_by_dim, stride: rows * PANEL, panels: ep / PANEL };
                    let grads = Right { data: &ws.o_by_dim, stride: rows * PANEL, panels: ep / PANEL };
                    multiply::<F, FMA, true>((sees - base, rows), ds_t, queries, &mut ws.dk[base * ep..], ep);
                    multiply::<F, FMA, true>((sees - base, rows), p_t, grads, &mut ws.dv[base * ep..], ep);
                }
            }
            for j in 0..len {
                let to = j * kw + kv * e..j * kw + kv * e + e;
                dk[to.clone()].copy_from_slice(&ws.dk[j * ep..j * ep + e]);
                dv[to].copy_from_slice(&ws.dv[j * ep..j * ep + e]);
            }
        }
    }
}

/// Rows of a group, from its first.
#[derive(Clone, Copy)]
struct Group<'a> {
    /// Boundaries of the trunk and of its branches, in rows of the pass.
    bounds: &'a [u32],
}

impl<'a> Group<'a> {
    fn len(self) -> usize {
        self.bounds.last().map_or(0, |end| end - self.bounds[0]) as usize
    }

    /// The elements of the group's rows.
    fn part<F>(self, all: &[F], width: usize) -> &[F] {
        let start = self.bounds[0] as usize * width;
        &all[start..start + self.len() * width]
    }

    /// Rows of the trunk.
    fn trunk(self) -> usize {
        (self.bounds[1] - self.bounds[0]) as usize
    }

    /// Rows of each branch, from the group's first; none is empty.
    fn branches(self) -> impl Iterator<Item = Range<usize>> + 'a {
        let (first, branches) = (self.bounds[0], self.bounds[1..].windows(2));
        branches
            .map(move |b| (b[0] - first) as usize..(b[1] - first) as usize)
            .filter(|own| !own.is_empty())
    }
}

/// Elements of a range of rows.
fn scaled(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// Cuts rows of `width` into the parts of the groups.
fn split<'a, F>(mut rows: &'a mut [F], groups: &[Group<'_>], width: usize) -> Vec<&'a mut [F]> {
    let mut parts = Vec::with_capacity(groups.len());
    for group in groups {
        let (part, rest) = rows.split_at_mut(group.len() * width);
        parts.push(part);
        rows = rest;
    }
    parts
}

/// Calls `one` on every task, in parallel; each thread has its workspace.
fn for_groups<F: Real, T: Send>(tasks: Vec<T>, one: impl Fn(&mut Workspace<F>, T) + Sync + Send) {
    if threads() == 1 {
        let mut ws = Workspace::new();
        for task in tasks {
            one(&mut ws, task);
        }
    } else {
        tasks.into_par_iter().for_each_init(Workspace::new, one);
    }
}

fn groups(segments: &Segments) -> Vec<Group<'_>> {
    let groups = segments.groups().into_iter();
    groups.map(|bounds| Group { bounds }).collect()
}

/// Forward pass over all segments: `out (T, H * E)` and `lse (T, H)` are overwritten.
pub(super) fn forward<F: Real>(
    shape: &AttentionShape,
    segments: &Segments,
    (q, k, v): (&[F], &[F], &[F]),
    out: &mut [F],
    lse: &mut [F],
) {
    let (qw, kw, heads) = (shape.q_width(), shape.kv_width(), shape.heads);
    let groups = groups(segments);
    let outputs = split(out, &groups, qw).into_iter();
    let outputs = outputs.zip(split(lse, &groups, heads));
    let tasks: Vec<_> = groups.iter().zip(outputs).collect();
    for_groups(tasks, |ws, (group, (out, lse))| {
        let (q, k, v) = (group.part(q, qw), group.part(k, kw), group.part(v, kw));
        let trunk = group.trunk();
        segment_forward(
            shape,
            &q[..trunk * qw],
            &k[..trunk * kw],
            &v[..trunk * kw],
            &mut out[..trunk * qw],
            &mut lse[..trunk * heads],
            ws,
        );
        let mut joined = std::mem::replace(&mut ws.branch, Branch::new());
        for own in group.branches() {
            joined.join((k, v), trunk * kw, scaled(&own, kw));
            segment_forward(
                shape,
                &q[scaled(&own, qw)],
                &joined.k,
                &joined.v,
                &mut out[scaled(&own, qw)],
                &mut lse[scaled(&own, heads)],
                ws,
            );
        }
        ws.branch = joined;
    });
}

/// Backward pass over all segments; the three gradients are overwritten.
pub(super) fn backward<F: Real>(
    shape: &AttentionShape,
    segments: &Segments,
    inputs: SegmentInputs<'_, F>,
    (dq, dk, dv): (&mut [F], &mut [F], &mut [F]),
) {
    let (qw, kw, heads) = (shape.q_width(), shape.kv_width(), shape.heads);
    let groups = groups(segments);
    let outputs = split(dk, &groups, kw).into_iter();
    let outputs = outputs.zip(split(dv, &groups, kw));
    let outputs = split(dq, &groups, qw).into_iter().zip(outputs);
    let tasks: Vec<_> = groups.iter().zip(outputs).collect();
    for_groups(tasks, |ws, (group, (dq, (dk, dv)))| {
        let (k, v) = (group.part(inputs.k, kw), group.part(inputs.v, kw));
        let rows = |own: &Range<usize>| SegmentInputs {
            q: &group.part(inputs.q, qw)[scaled(own, qw)],
            k: &k[scaled(own, kw)],
            v: &v[scaled(own, kw)],
            out: &group.part(inputs.out, qw)[scaled(own, qw)],
            lse: &group.part(inputs.lse, heads)[scaled(own, heads)],
            grad: &group.part(inputs.grad, qw)[scaled(own, qw)],
        };
        let trunk = 0..group.trunk();
        let of_trunk = scaled(&trunk, kw);
        segment_backward(
            shape,
            rows(&trunk),
            &mut dq[scaled(&trunk, qw)],
            &mut dk[of_trunk.clone()],
            &mut dv[of_trunk.clone()],
            ws,
        );
        let mut joined = std::mem::replace(&mut ws.branch, Branch::new());
        for own in group.branches() {
            joined.join((k, v), of_trunk.end, scaled(&own, kw));
            joined.dk.resize(joined.k.len(), F::zero());
            joined.dv.resize(joined.v.len(), F::zero());
            let inputs = SegmentInputs {
                k: &joined.k,
                v: &joined.v,
                ..rows(&own)
            };
            let dq = &mut dq[scaled(&own, qw)];
            segment_backward(shape, inputs, dq, &mut joined.dk, &mut joined.dv, ws);
            // The trunk's keys and values have the gradients of all that saw them.
            for (all, part) in [(&mut *dk, &joined.dk), (&mut *dv, &joined.dv)] {
                let (of_trunk_part, of_own) = part.split_at(of_trunk.end);
                let sums = all[of_trunk.clone()].iter_mut().zip(of_trunk_part);
                sums.for_each(|(sum, &g)| *sum += g);
                all[scaled(&own, kw)].copy_from_slice(of_own);
            }
        }
        ws.branch = joined;
    });
}

impl AttentionOp {
    fn check(&self, q: &Layout, k: &Layout, v: &Layout) -> Result<usize> {
        let shape = &self.shape;
        let (t, qw) = q.shape().dims2()?;
        let fits = qw == shape.q_width()
            && k.dims() == [t, shape.kv_width()]
            && v.dims() == k.dims()
            && shape.kv_heads > 0
            && shape.head_dim > 0
            && shape.heads.is_multiple_of(shape.kv_heads);
        if !fits {
            candle_core::bail!(
                "attention: q {:?}, k {:?}, v {:?} for {shape:?}",
                q.shape(),
                k.shape(),
                v.shape()
            );
        }
        self.segments.check(t)?;
        Ok(t)
    }
}

impl CustomOp3 for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let t = self.check(ql, kl, vl)?;
        by_dtype!(q.dtype(), F => {
            let inputs = (
                operand::<F>("attention", q, ql)?,
                operand::<F>("attention", k, kl)?,
                operand::<F>("attention", v, vl)?,
            );
            let (mut out, mut lse) = (vec![0.0; inputs.0.len()], vec![0.0; t * self.shape.heads]);
            forward(&self.shape, &self.segments, inputs, &mut out, &mut lse);
            *self.lse.lock().unwrap_or_else(PoisonError::into_inner) = Some(result(lse, t).0);
            Ok(result(out, ql.shape()))
        })
    }

    /// See [`segment_backward`] for the formula.
    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let saved = self.lse.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lse) = saved.as_ref() else {
            candle_core::bail!("attention: backward before forward");
        };
        by_dtype!(q.dtype(), F => {
            let lse = candle_core::WithDType::cpu_storage_as_slice(lse)?;
            let (dq, dk, dv) = with_slice::<F, _>("attention", q, |q| {
                with_slice("attention", k, |k| {
                    with_slice("attention", v, |v| {
                        with_slice("attention", out, |out| {
                            with_slice("attention", grad, |grad| {
                                let (mut dq, mut dk) = (vec![0.0; q.len()], vec![0.0; k.len()]);
                                let mut dv = vec![0.0; v.len()];
                                let inputs = SegmentInputs { q, k, v, out, lse, grad };
                                let outputs = (&mut dq[..], &mut dk[..], &mut dv[..]);
                                backward(&self.shape, &self.segments, inputs, outputs);
                                Ok((dq, dk, dv))
                            })
                        })
                    })
                })
            })?;
            Ok((Some(gradient(dq, q)?), Some(gradient(dk, k)?), Some(gradient(dv, v)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check::{agree, gradients_match, noise};

    fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
        AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            softcap: None,
            window: None,
        }
    }

    fn bounds(lens: &[u32]) -> Vec<u32> {
        let mut cu = vec![0];
        lens.iter().for_each(|len| cu.push(cu[cu.len() - 1] + len));
        cu
    }

    fn segments(lens: &[u32]) -> Segments {
        Segments::new(&bounds(lens))
    }

    /// Segments of given lengths and trunks.
    fn forked(segments: &[(u32, u32)]) -> (Segments, usize) {
        let lens: Vec<u32> = segments.iter().map(|(len, _)| *len).collect();
        let trunks: Vec<u32> = segments.iter().map(|(_, trunk)| *trunk).collect();
        let total = lens.iter().sum::<u32>() as usize;
        (Segments::forked(&bounds(&lens), &trunks), total)
    }

    fn twins_agree(shape: AttentionShape, lens: &[u32]) -> Result<()> {
        twins_agree_on(shape, &segments(lens), lens.iter().sum::<u32>() as usize)
    }

    fn twins_agree_on(shape: AttentionShape, cu: &Segments, t: usize) -> Result<()> {
        let q = (noise(&[t, shape.q_width()], 1, DType::F32)? * 3.0)?;
        let k = (noise(&[t, shape.kv_width()], 2, DType::F32)? * 3.0)?;
        let v = noise(&[t, shape.kv_width()], 3, DType::F32)?;
        agree(
            &[&q, &k, &v],
            |t| attention(&t[0], &t[1], &t[2], cu, shape),
            |t| attention_naive(&t[0], &t[1], &t[2], cu, shape),
        )
    }

    #[test]
    fn attention_is_its_naive_twin_over_segments_of_all_sizes() -> Result<()> {
        twins_agree(shape(4, 2, 8), &[1, 15, 16, 17, 0, 70])?;
        twins_agree(shape(3, 3, 20), &[33, 64])
    }

    #[test]
    fn windows_and_caps_are_their_naive_twins() -> Result<()> {
        let plain = shape(2, 1, 8);
        twins_agree(
            AttentionShape {
                window: Some(5),
                ..plain
            },
            &[40, 3, 77],
        )?;
        twins_agree(
            AttentionShape {
                softcap: Some(2.0),
                ..plain
            },
            &[40, 3],
        )
    }

    #[test]
    fn attention_gradients_match_central_differences() -> Result<()> {
        let cu = segments(&[4, 1, 19]);
        for (window, softcap) in [(None, None), (Some(3), Some(1.5))] {
            let shape = AttentionShape {
                softcap,
                window,
                ..shape(2, 1, 3)
            };
            let q = (noise(&[24, 6], 1, DType::F64)? * 2.0)?;
            let (k, v) = (
                noise(&[24, 3], 2, DType::F64)?,
                noise(&[24, 3], 3, DType::F64)?,
            );
            gradients_match(&[&q, &k, &v], |t| {
                attention(&t[0], &t[1], &t[2], &cu, shape)
            })?;
        }
        Ok(())
    }

    /// Prompts of all sizes with none, one or several replies; trunks by number of segment.
    const FORKS: &[(u32, u32)] = &[
        (37, 0),
        (40, 0),
        (3, 0),
        (5, 3),
        (16, 4),
        (0, 4),
        (33, 4),
        (1, 4),
        (0, 8),
        (18, 8),
        (1, 10),
        (2, 10),
    ];

    #[test]
    fn branches_are_their_naive_twins() -> Result<()> {
        let (cu, t) = forked(FORKS);
        let plain = shape(4, 2, 8);
        let window = Some(7);
        let softcap = Some(2.0);
        for shape in [
            plain,
            AttentionShape { window, ..plain },
            AttentionShape { softcap, ..plain },
        ] {
            twins_agree_on(shape, &cu, t)?;
        }
        Ok(())
    }

    #[test]
    fn gradients_of_trunks_and_branches_match_central_differences() -> Result<()> {
        let (cu, t) = forked(&[(5, 0), (4, 0), (6, 0), (2, 3), (1, 4), (3, 4)]);
        for (window, softcap) in [(None, None), (Some(4), Some(1.5))] {
            let shape = AttentionShape {
                softcap,
                window,
                ..shape(2, 1, 3)
            };
            let q = (noise(&[t, 6], 1, DType::F64)? * 2.0)?;
            let (k, v) = (
                noise(&[t, 3], 2, DType::F64)?,
                noise(&[t, 3], 3, DType::F64)?,
            );
            gradients_match(&[&q, &k, &v], |t| {
                attention(&t[0], &t[1], &t[2], &cu, shape)
            })?;
        }
        Ok(())
    }

    #[test]
    fn a_branch_has_the_bits_of_a_segment_of_its_own() -> Result<()> {
        let shape = shape(2, 2, 8);
        let (cu, t) = forked(&[(19, 0), (9, 0), (45, 0)]);
        let (q, k, v) = (
            noise(&[t, 16], 1, DType::F32)?,
            noise(&[t, 16], 2, DType::F32)?,
            noise(&[t, 16], 3, DType::F32)?,
        );
        let together = attention(&q, &k, &v, &cu, shape)?;
        let whole = |t: &Tensor| Tensor::cat(&[t.narrow(0, 0, 19)?, t.narrow(0, 28, 45)?], 0);
        let alone = attention(
            &whole(&q)?,
            &whole(&k)?,
            &whole(&v)?,
            &segments(&[64]),
            shape,
        )?;
        assert_eq!(whole(&together)?.to_vec2::<f32>()?, alone.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_token_sees_nothing_of_other_segments() -> Result<()> {
        let shape = shape(2, 2, 8);
        let (q, k, v) = (
            noise(&[20, 16], 1, DType::F32)?,
            noise(&[20, 16], 2, DType::F32)?,
            noise(&[20, 16], 3, DType::F32)?,
        );
        let packed = attention(&q, &k, &v, &segments(&[12, 8]), shape)?;
        let part = |t: &Tensor| t.narrow(0, 12, 8)?.contiguous();
        let alone = attention(&part(&q)?, &part(&k)?, &part(&v)?, &segments(&[8]), shape)?;
        let packed = packed.narrow(0, 12, 8)?.to_vec2::<f32>()?;
        assert_eq!(packed, alone.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn segments_that_do_not_cover_the_tokens_are_an_error() -> Result<()> {
        let x = noise(&[6, 8], 1, DType::F32)?;
        let error = attention(&x, &x, &x, &segments(&[5]), shape(1, 1, 8)).unwrap_err();
        assert!(
            error.to_string().contains("do not cover 6 tokens"),
            "{error}"
        );
        Ok(())
    }
}
