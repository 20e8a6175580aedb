//! Causal attention over packed segments, with grouped key and value heads.
//!
//! `o_i = sum_j p_ij v_j`, `p_i = softmax_j(cap(scale * q_i . k_j))` over the tokens `j <= i` of
//! the same segment, those of its prefix before them (and within the window, if there is one). Work
//! is proportional to the sum of squared segment lengths. The forward pass keeps only the log of
//! each row's normaliser, the backward pass recomputes the probabilities from it (Dao et al. 2022,
//! algorithm 4). Inside, scores are powers of two: the factor `log2 e` is folded into the queries.

use crate::arch::AttentionShape;
use crate::model::kernels::attention::{SegmentInputs, attention_backward, attention_forward};
use crate::model::kernels::segments::Segments;
use crate::model::ops::storage::{
    Path, by_dtype, check_segments, gradient, operand, path, result, with_slice,
};

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
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
    check_segments(segments, q.dim(0)?)?;
    let mut outputs = Vec::new();
    for group in segments.groups() {
        let prefix = (group[0] as usize, (group[1] - group[0]) as usize);
        for (n, bounds) in group.windows(2).enumerate() {
            let own = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
            if own.1 == 0 {
                continue;
            }
            let seen = |t: &Tensor| -> Result<Tensor> {
                let own = t.narrow(0, own.0, own.1)?;
                if n == 0 || prefix.1 == 0 {
                    return Ok(own);
                }
                Tensor::cat(&[&t.narrow(0, prefix.0, prefix.1)?, &own], 0)
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
        check_segments(&self.segments, t)?;
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
            attention_forward(&self.shape, &self.segments, inputs, &mut out, &mut lse);
            *self.lse.lock().unwrap_or_else(PoisonError::into_inner) = Some(result(lse, t).0);
            Ok(result(out, ql.shape()))
        })
    }

    /// See `kernels/attention/backward.rs` for the formula.
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
                                attention_backward(&self.shape, &self.segments, inputs, outputs);
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
