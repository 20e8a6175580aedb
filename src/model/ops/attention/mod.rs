//! Causal attention over packed segments, with grouped key and value heads.
//!
//! `o_i = sum_j p_ij v_j`, `p_i = softmax_j(cap(scale * q_i . k_j))` over the tokens `j <= i` of
//! the same segment, those of its trunk before them (and within the window, if there is one). Work
//! is proportional to the sum of squared segment lengths. The forward pass keeps only the log of
//! each row's normaliser, the backward pass recomputes the probabilities from it (Dao et al. 2022,
//! algorithm 4). Inside, scores are powers of two: the factor `log2 e` is folded into the queries.

mod backward;
mod block;
mod forward;

use self::backward::segment_backward;
use self::block::Buffers;
use self::forward::segment_forward;
use crate::model::ops::matmul::threads;
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use crate::model::ops::{AttentionShape, Real, Segments};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

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
    /// Binary log of each row's normaliser `(T, H)`, kept by the forward pass in `f64` or `f32`.
    lse: Mutex<Option<CpuStorage>>,
}

/// Buffers that one thread reuses over its segments.
struct Workspace<F> {
    buffers: Buffers<F>,
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
    fn new() -> Self {
        Self {
            buffers: Buffers::new(),
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

/// Forward pass over all segments: `out (T, H * E)` and `lse (T, H)`, the binary logs of the
/// normalisers, are overwritten.
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
    for_groups(
        tasks,
        |Workspace { buffers, branch }, (group, (out, lse))| {
            let (q, k, v) = (group.part(q, qw), group.part(k, kw), group.part(v, kw));
            let trunk = group.trunk();
            segment_forward(
                shape,
                &q[..trunk * qw],
                &k[..trunk * kw],
                &v[..trunk * kw],
                &mut out[..trunk * qw],
                &mut lse[..trunk * heads],
                buffers,
            );
            for own in group.branches() {
                branch.join((k, v), trunk * kw, scaled(&own, kw));
                segment_forward(
                    shape,
                    &q[scaled(&own, qw)],
                    &branch.k,
                    &branch.v,
                    &mut out[scaled(&own, qw)],
                    &mut lse[scaled(&own, heads)],
                    buffers,
                );
            }
        },
    );
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
    for_groups(
        tasks,
        |Workspace { buffers, branch }, (group, (dq, (dk, dv)))| {
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
                buffers,
            );
            for own in group.branches() {
                branch.join((k, v), of_trunk.end, scaled(&own, kw));
                branch.dk.resize(branch.k.len(), F::zero());
                branch.dv.resize(branch.v.len(), F::zero());
                let inputs = SegmentInputs {
                    k: &branch.k,
                    v: &branch.v,
                    ..rows(&own)
                };
                let dq = &mut dq[scaled(&own, qw)];
                segment_backward(shape, inputs, dq, &mut branch.dk, &mut branch.dv, buffers);
                // The trunk's keys and values have the gradients of all that saw them.
                for (all, part) in [(&mut *dk, &branch.dk), (&mut *dv, &branch.dv)] {
                    let (of_trunk_part, of_own) = part.split_at(of_trunk.end);
                    let sums = all[of_trunk.clone()].iter_mut().zip(of_trunk_part);
                    sums.for_each(|(sum, &g)| *sum += g);
                    all[scaled(&own, kw)].copy_from_slice(of_own);
                }
            }
        },
    );
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
mod tests;
