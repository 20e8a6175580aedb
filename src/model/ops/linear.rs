//! Linear layer `y = x W^T + b` without transposed copies.

use crate::model::kernels::mat::{MatRef, Store};
use crate::model::kernels::matmul::{Operands, matmul};
use crate::model::kernels::real::Real;
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

/// `x (T, D) -> (T, N)` by `weight (N, D)` and an optional `bias (N,)`.
///
/// # Errors
/// Shapes or dtypes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = |x: &Tensor, weight: &Tensor, operands| {
        x.contiguous()?
            .apply_op2(&weight.contiguous()?, LinearOp { operands })
    };
    let y = match path(x) {
        Path::F32 | Path::F64 => product(x, weight, Operands::Exact)?,
        Path::Upcast => {
            let operands = Operands::of(x.dtype() == DType::BF16);
            let wide = |t: &Tensor| t.to_dtype(DType::F32);
            let y = product(&wide(x)?, &wide(weight)?, operands)?;
            let y = match bias {
                Some(bias) => y.broadcast_add(&wide(bias)?)?,
                None => y,
            };
            return y.to_dtype(x.dtype());
        }
        Path::Naive => return linear_naive(x, weight, bias),
    };
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// [`linear`] out of candle's own ops.
///
/// # Errors
/// Shapes or dtypes do not fit.
pub fn linear_naive(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

struct LinearOp {
    operands: Operands,
}

impl LinearOp {
    /// `dx = g W`, `dW = g^T x`.
    fn backward<F: Real>(
        &self,
        x: &[F],
        w: &[F],
        g: &[F],
        (t, d, n): (usize, usize, usize),
    ) -> (Vec<F>, Vec<F>) {
        let (mut dx, mut dw) = (vec![F::ZERO; t * d], vec![F::ZERO; n * d]);
        matmul(
            self.operands,
            (t, d, n),
            MatRef::new(g, n),
            MatRef::new(w, d),
            &mut dx,
            Store::Set,
        );
        matmul(
            self.operands,
            (n, d, t),
            MatRef::transposed(g, n),
            MatRef::new(x, d),
            &mut dw,
            Store::Set,
        );
        (dx, dw)
    }
}

impl CustomOp2 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((t, d), (n, inner)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        if inner != d {
            candle_core::bail!("linear: weight {:?} for input {:?}", wl.shape(), xl.shape());
        }
        by_dtype!(x.dtype(), F => {
            let (x, w) = (operand::<F>("linear", x, xl)?, operand::<F>("linear", w, wl)?);
            let mut y = vec![0.0; t * n];
            let w = MatRef::transposed(w, d);
            matmul(self.operands, (t, n, d), MatRef::new(x, d), w, &mut y, Store::Set);
            Ok(result(y, (t, n)))
        })
    }

    /// `dL/dx = g W`, `dL/dW = g^T x`.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((t, d), (n, _)) = (x.dims2()?, w.dims2()?);
        by_dtype!(x.dtype(), F => {
            let (dx, dw) = with_slice::<F, _>("linear", x, |xs| {
                with_slice("linear", w, |ws| {
                    with_slice("linear", g, |gs| Ok(self.backward(xs, ws, gs, (t, d, n))))
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
    fn linear_is_its_naive_twin() -> Result<()> {
        let (x, w) = (
            noise(&[37, 20], 1, DType::F32)?,
            noise(&[11, 20], 2, DType::F32)?,
        );
        let b = noise(&[11], 3, DType::F32)?;
        agree(
            &[&x, &w, &b],
            |t| linear(&t[0], &t[1], Some(&t[2])),
            |t| linear_naive(&t[0], &t[1], Some(&t[2])),
        )
    }

    #[test]
    fn linear_gradients_match_central_differences() -> Result<()> {
        let (x, w) = (
            noise(&[3, 5], 1, DType::F64)?,
            noise(&[4, 5], 2, DType::F64)?,
        );
        gradients_match(&[&x, &w], |t| linear(&t[0], &t[1], None))
    }
}
