//! Root-mean-square normalisation (Zhang & Sennrich 2019, equation 4).
//!
//! `y = x / sqrt(mean(x^2) + eps) * w`, or `* (1 + w)` in the Gemma family.

use crate::arch::NormWeight;
use crate::model::kernels::norm::{norm_backward, norm_rows};
use crate::model::kernels::real::Real;
use crate::model::kernels::rows::for_row_blocks;
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};

/// Normalises the last dimension of `x (.., D)` by `weight (D,)`.
///
/// # Errors
/// Shapes do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, kind: NormWeight) -> Result<Tensor> {
    match path(x) {
        Path::F32 | Path::F64 => x
            .contiguous()?
            .apply_op2(&weight.contiguous()?, RmsNormOp { eps, kind }),
        Path::Upcast => {
            let y = rms_norm(
                &x.to_dtype(DType::F32)?,
                &weight.to_dtype(DType::F32)?,
                eps,
                kind,
            )?;
            y.to_dtype(x.dtype())
        }
        Path::Naive => rms_norm_naive(x, weight, eps, kind),
    }
}

/// [`rms_norm`] out of candle's own ops; statistics in `f32` for half-precision inputs.
///
/// # Errors
/// Shapes do not fit.
pub fn rms_norm_naive(x: &Tensor, weight: &Tensor, eps: f64, kind: NormWeight) -> Result<Tensor> {
    let dtype = match x.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let wide = x.to_dtype(dtype)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?; // (.., 1)
    let normed = wide.broadcast_div(&(mean + eps)?.sqrt()?)?;
    let factor = (weight.to_dtype(dtype)? + kind.offset())?; // (D,)
    normed.broadcast_mul(&factor)?.to_dtype(x.dtype())
}

struct RmsNormOp {
    eps: f64,
    kind: NormWeight,
}

impl RmsNormOp {
    fn forward<F: Real>(&self, x: &[F], w: &[F]) -> Vec<F> {
        let d = w.len();
        let mut y = vec![F::ZERO; x.len()];
        for_row_blocks(&mut y, d, |first, rows| {
            let x = &x[first * d..first * d + rows.len()];
            norm_rows(x, w, self.kind.offset(), self.eps, rows);
        });
        y
    }
}

impl CustomOp2 for RmsNormOp {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let d = *xl.dims().last().unwrap_or(&0);
        if wl.dims() != [d] || d == 0 {
            candle_core::bail!(
                "rms-norm: weight of shape {:?} for input of shape {:?}",
                wl.shape(),
                xl.shape()
            );
        }
        by_dtype!(x.dtype(), F => {
            let y = self.forward::<F>(operand("rms-norm", x, xl)?, operand("rms-norm", w, wl)?);
            Ok(result(y, xl.shape()))
        })
    }

    /// See [`norm_backward`].
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_dtype!(x.dtype(), F => {
            let (dx, dw) = with_slice("rms-norm", x, |xs| {
                with_slice("rms-norm", w, |ws| {
                    with_slice("rms-norm", g, |gs| {
                        let mut dx = vec![F::ZERO; xs.len()];
                        let numbers = (self.kind.offset(), self.eps);
                        let dw = norm_backward::<F>((xs, ws), numbers, gs, &mut dx);
                        Ok((dx, dw))
                    })
                })
            })?;
            Ok((Some(gradient(dx, x)?), Some(gradient(dw, w)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check::{agree, gradients_match, noise};

    #[test]
    fn rms_norm_is_its_naive_twin() -> Result<()> {
        let (x, w) = (
            noise(&[37, 20], 1, DType::F32)?,
            noise(&[20], 2, DType::F32)?,
        );
        for kind in [NormWeight::Factor, NormWeight::FactorMinusOne] {
            agree(
                &[&x, &w],
                |t| rms_norm(&t[0], &t[1], 1e-5, kind),
                |t| rms_norm_naive(&t[0], &t[1], 1e-5, kind),
            )?;
        }
        Ok(())
    }

    #[test]
    fn rms_norm_gradient_matches_central_differences() -> Result<()> {
        let (x, w) = (
            noise(&[3, 18], 1, DType::F64)?,
            noise(&[18], 2, DType::F64)?,
        );
        gradients_match(&[&x, &w], |t| {
            rms_norm(&t[0], &t[1], 1e-5, NormWeight::FactorMinusOne)
        })
    }
}
