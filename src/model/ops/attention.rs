//! Causal attention over packed segments, with grouped key and value heads.
//!
//! `o_i = sum_j p_ij v_j`, `p_i = softmax_j(cap(scale * q_i . k_j))` over the tokens `j <= i` of
//! the same segment (and of the window, if there is one). Work is proportional to the sum of
//! squared segment lengths. The forward pass keeps only the log of each row's normaliser, the
//! backward pass recomputes the probabilities from it (Dao et al. 2022, algorithm 4).

use crate::model::ops::Real;
use crate::model::ops::matmul::threads;
use crate::model::ops::panel::{Left, PANEL, Right, multiply, pack};
use crate::model::ops::simd::{LANES, dot, kernel, lane_sum, row_max, tanh};
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// The first token that token `i` of a segment sees.
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

/// Attention of `q (T, H * E)` over `k`, `v (T, K * E)`, blocked between the segments
/// `cu_seqlens (S + 1,)`. Result `(T, H * E)`.
///
/// # Errors
/// Shapes do not fit, or the segments do not cover the T tokens.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    cu_seqlens: &Arc<[u32]>,
    shape: AttentionShape,
) -> Result<Tensor> {
    match path(q) {
        Path::F32 | Path::F64 => q.contiguous()?.apply_op3(
            &k.contiguous()?,
            &v.contiguous()?,
            AttentionOp {
                shape,
                cu_seqlens: cu_seqlens.clone(),
                lse: Mutex::new(None),
            },
        ),
        Path::Upcast => {
            let wide = |t: &Tensor| t.to_dtype(DType::F32);
            attention(&wide(q)?, &wide(k)?, &wide(v)?, cu_seqlens, shape)?.to_dtype(q.dtype())
        }
        Path::Naive => attention_naive(q, k, v, cu_seqlens, shape),
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
    cu_seqlens: &Arc<[u32]>,
    shape: AttentionShape,
) -> Result<Tensor> {
    let (heads, kv_heads, e) = (shape.heads, shape.kv_heads, shape.head_dim);
    let group = heads / kv_heads;
    let mut outputs = Vec::new();
    for bounds in cu_seqlens.windows(2) {
        let (start, len) = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
        if len == 0 {
            continue;
        }
        let part = |t: &Tensor, n: usize| -> Result<Tensor> {
            let t = t
                .narrow(0, start, len)?
                .reshape((len, n, e))?
                .transpose(0, 1)?; // (n, L, E)
            let t = t.unsqueeze(1)?.expand((n, heads / n, len, e))?;
            t.reshape((heads, len, e))?.contiguous() // (H, L, E)
        };
        debug_assert_eq!(group * kv_heads, heads);
        let (q, k, v) = (part(q, heads)?, part(k, kv_heads)?, part(v, kv_heads)?);
        let mut scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * shape.scale)?; // (H, L, L)
        if let Some(cap) = shape.softcap {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        let mask: Vec<f32> = (0..len * len)
            .map(|at| {
                let (i, j) = (at / len, at % len);
                if j <= i && j >= shape.first_key(i) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
            .collect();
        let mask = Tensor::from_vec(mask, (1, len, len), q.device())?.to_dtype(q.dtype())?;
        let probs = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
        let out = probs.matmul(&v)?.transpose(0, 1)?; // (L, H, E)
        outputs.push(out.reshape((len, heads * e))?);
    }
    Tensor::cat(&outputs, 0)
}

struct AttentionOp {
    shape: AttentionShape,
    cu_seqlens: Arc<[u32]>,
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
    /// Attention inside one segment; `q`, `k`, `v`, `out` and `lse` are its rows.
    pub(super) fn segment_forward<F>(
        shape: &AttentionShape, q: &[F], k: &[F], v: &[F], out: &mut [F], lse: &mut [F], ws: &mut Workspace<F>,
    ) {
        let (e, qw, kw) = (shape.head_dim, shape.q_width(), shape.kv_width());
        let len = q.len() / qw;
        if len == 0 {
            return;
        }
        let (wide, ep) = (len.next_multiple_of(PANEL), e.next_multiple_of(PANEL));
        ws.scores.resize(BLOCK * wide, F::zero());
        ws.block.resize(BLOCK * ep, F::zero());
        for kv in 0..shape.kv_heads {
            pack(&k[kv * e..], (e, len), (1, kw), &mut ws.k_by_key);
            pack(&v[kv * e..], (len, e), (kw, 1), &mut ws.v_by_dim);
            let group = shape.heads / shape.kv_heads;
            for head in kv * group..(kv + 1) * group {
                for start in (0..len).step_by(BLOCK) {
                    let end = (start + BLOCK).min(len);
                    let base = shape.first_key(start) / PANEL * PANEL;
                    let cols = end.next_multiple_of(PANEL) - base;
                    let queries = Left { data: &q[start * qw + head * e..], row_stride: qw, col_stride: 1 };
                    let keys = Right { data: &ws.k_by_key[base * e..], stride: e * PANEL, panels: cols / PANEL };
                    multiply::<F, FMA, false>((end - start, e), queries, keys, &mut ws.scores, wide);
                    let mut sums = [F::zero(); BLOCK];
                    for i in start..end {
                        let row = &mut ws.scores[(i - start) * wide..(i - start) * wide + cols];
                        let (top, sum) = softmax_row::<F, FMA>(row, (shape.first_key(i) - base, i + 1 - base), shape);
                        sums[i - start] = sum;
                        lse[i * shape.heads + head] = top + sum.log();
                    }
                    let probs = Left { data: &ws.scores, row_stride: wide, col_stride: 1 };
                    let values = Right { data: &ws.v_by_dim[base * PANEL..], stride: len * PANEL, panels: ep / PANEL };
                    multiply::<F, FMA, false>((end - start, end - base), probs, values, &mut ws.block, ep);
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

/// The rows of one segment that its backward pass reads.
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
    /// the cap), `dq = ds k`, `dk = ds^T q`, `dv = p^T g`. Outputs are overwritten.
    pub(super) fn segment_backward<F>(
        shape: &AttentionShape, s: SegmentInputs<'_, F>, dq: &mut [F], dk: &mut [F], dv: &mut [F], ws: &mut Workspace<F>,
    ) {
        let (e, qw, kw) = (shape.head_dim, shape.q_width(), shape.kv_width());
        let len = s.q.len() / qw;
        if len == 0 {
            return;
        }
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
                for start in (0..len).step_by(BLOCK) {
                    let end = (start + BLOCK).min(len);
                    let rows = end - start;
                    let base = shape.first_key(start) / PANEL * PANEL;
                    let cols = end.next_multiple_of(PANEL) - base;
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
                        scale_row::<F, FMA>(p, (shape.first_key(i) - base, i + 1 - base), shape);
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
                    multiply::<F, FMA, false>((rows, end - base), ds, keys, &mut ws.block, ep);
                    for i in 0..rows {
                        dq[at + i * qw..at + i * qw + e].copy_from_slice(&ws.block[i * ep..i * ep + e]);
                    }
                    pack(&s.q[at..], (rows, e), (qw, 1), &mut ws.q_by_dim);
                    pack(&s.grad[at..], (rows, e), (qw, 1), &mut ws.o_by_dim);
                    let ds_t = Left { data: &ws.d_scores, row_stride: 1, col_stride: wide };
                    let p_t = Left { data: &ws.scores, row_stride: 1, col_stride: wide };
                    let queries = Right { data: &ws.q_by_dim, stride: rows * PANEL, panels: ep / PANEL };
                    let grads = Right { data: &ws.o_by_dim, stride: rows * PANEL, panels: ep / PANEL };
                    multiply::<F, FMA, true>((end - base, rows), ds_t, queries, &mut ws.dk[base * ep..], ep);
                    multiply::<F, FMA, true>((end - base, rows), p_t, grads, &mut ws.dv[base * ep..], ep);
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

/// Cuts rows of `width` into the parts of the segments.
fn split<'a, F>(mut rows: &'a mut [F], cu: &[u32], width: usize) -> Vec<&'a mut [F]> {
    let mut parts = Vec::with_capacity(cu.len());
    for bounds in cu.windows(2) {
        let (part, rest) = rows.split_at_mut((bounds[1] - bounds[0]) as usize * width);
        parts.push(part);
        rows = rest;
    }
    parts
}

/// The elements of one segment's rows.
fn rows<'a, F>(all: &'a [F], cu: &[u32], segment: usize, width: usize) -> &'a [F] {
    &all[cu[segment] as usize * width..cu[segment + 1] as usize * width]
}

/// Forward pass over all segments: `out (T, H * E)` and `lse (T, H)` are overwritten.
pub(super) fn forward<F: Real>(
    shape: &AttentionShape,
    cu: &[u32],
    (q, k, v): (&[F], &[F], &[F]),
    out: &mut [F],
    lse: &mut [F],
) {
    let (qw, kw) = (shape.q_width(), shape.kv_width());
    let tasks: Vec<_> = split(out, cu, qw)
        .into_iter()
        .zip(split(lse, cu, shape.heads))
        .enumerate()
        .collect();
    let one = |ws: &mut Workspace<F>, (s, (out, lse)): (usize, (&mut [F], &mut [F]))| {
        let (q, k, v) = (rows(q, cu, s, qw), rows(k, cu, s, kw), rows(v, cu, s, kw));
        segment_forward(shape, q, k, v, out, lse, ws);
    };
    if threads() == 1 {
        let mut ws = Workspace::new();
        for task in tasks {
            one(&mut ws, task);
        }
    } else {
        tasks.into_par_iter().for_each_init(Workspace::new, one);
    }
}

/// Number of a segment and its rows of the three gradients.
type BackwardTask<'a, F> = (usize, (&'a mut [F], (&'a mut [F], &'a mut [F])));

/// Backward pass over all segments; the three gradients are overwritten.
pub(super) fn backward<F: Real>(
    shape: &AttentionShape,
    cu: &[u32],
    inputs: SegmentInputs<'_, F>,
    (dq, dk, dv): (&mut [F], &mut [F], &mut [F]),
) {
    let (qw, kw) = (shape.q_width(), shape.kv_width());
    let tasks: Vec<_> = split(dq, cu, qw)
        .into_iter()
        .zip(split(dk, cu, kw).into_iter().zip(split(dv, cu, kw)))
        .enumerate()
        .collect();
    let one = |ws: &mut Workspace<F>, (s, (dq, (dk, dv))): BackwardTask<'_, F>| {
        let part = SegmentInputs {
            q: rows(inputs.q, cu, s, qw),
            k: rows(inputs.k, cu, s, kw),
            v: rows(inputs.v, cu, s, kw),
            out: rows(inputs.out, cu, s, qw),
            lse: rows(inputs.lse, cu, s, shape.heads),
            grad: rows(inputs.grad, cu, s, qw),
        };
        segment_backward(shape, part, dq, dk, dv, ws);
    };
    if threads() == 1 {
        let mut ws = Workspace::new();
        for task in tasks {
            one(&mut ws, task);
        }
    } else {
        tasks.into_par_iter().for_each_init(Workspace::new, one);
    }
}

/// Refuses segments that do not run from 0 to `tokens` without going back.
pub(super) fn check_segments(cu: &[u32], tokens: usize) -> Result<()> {
    let covers = cu.first() == Some(&0) && cu.last().map(|&l| l as usize) == Some(tokens);
    if !covers || cu.windows(2).any(|b| b[0] > b[1]) {
        candle_core::bail!("attention: segments {cu:?} do not cover {tokens} tokens in order");
    }
    Ok(())
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
        check_segments(&self.cu_seqlens, t)?;
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
            forward(&self.shape, &self.cu_seqlens, inputs, &mut out, &mut lse);
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
                                backward(&self.shape, &self.cu_seqlens, inputs, outputs);
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

    fn segments(lens: &[u32]) -> Arc<[u32]> {
        let mut at = 0;
        std::iter::once(0)
            .chain(lens.iter().map(|l| {
                at += l;
                at
            }))
            .collect()
    }

    fn twins_agree(shape: AttentionShape, lens: &[u32]) -> Result<()> {
        let cu = segments(lens);
        let t = *cu.last().unwrap() as usize;
        let q = (noise(&[t, shape.q_width()], 1, DType::F32)? * 3.0)?;
        let k = (noise(&[t, shape.kv_width()], 2, DType::F32)? * 3.0)?;
        let v = noise(&[t, shape.kv_width()], 3, DType::F32)?;
        agree(
            &[&q, &k, &v],
            |t| attention(&t[0], &t[1], &t[2], &cu, shape),
            |t| attention_naive(&t[0], &t[1], &t[2], &cu, shape),
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
