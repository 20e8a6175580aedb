//! Rotary position embedding (Su et al. 2021, equation 34), half-split as in Hugging Face models.
//!
//! With `x = [a, b]` (halves of a head) and angle `t = position * inv_freq`:
//! `y = [a cos t - b sin t, b cos t + a sin t]`. Angles are computed in `f64`, whatever the dtype
//! of the activations.

use crate::model::kernels::real::Real;
use crate::model::kernels::rope::{Rotation, rotate_rows};
use crate::model::kernels::rows::for_row_blocks;
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

/// Rotates every head of `x (T, H * E)` by its token's position.
///
/// # Errors
/// `x` has another number of rows than the rotation, or a width that is no multiple of `E`.
pub fn rope(x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    match path(x) {
        Path::F32 | Path::F64 => x.contiguous()?.apply_op1(RopeOp {
            rotation: rotation.clone(),
        }),
        Path::Upcast => rope(&x.to_dtype(DType::F32)?, rotation)?.to_dtype(x.dtype()),
        Path::Naive => rope_naive(x, rotation),
    }
}

/// [`rope`] out of candle's own ops.
///
/// # Errors
/// As [`rope`].
pub fn rope_naive(x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let half = rotation.half;
    let heads = width / (2 * half).max(1);
    let table = |v: &[f64]| -> Result<Tensor> {
        let v: Vec<f32> = v.iter().map(|&v| v as f32).collect();
        let wide = Tensor::from_vec(v, (t, 1, half), x.device())?;
        let dtype = if x.dtype() == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        wide.to_dtype(dtype)
    };
    let (cos, sin) = (table(&rotation.cos)?, table(&rotation.sin)?); // (T, 1, E/2)
    let wide = x.to_dtype(cos.dtype())?.reshape((t, heads, 2, half))?;
    let a = wide.narrow(2, 0, 1)?.squeeze(2)?; // (T, H, E/2)
    let b = wide.narrow(2, 1, 1)?.squeeze(2)?;
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], 2)? // (T, H, E)
        .reshape((t, width))?
        .to_dtype(x.dtype())
}

struct RopeOp {
    rotation: Rotation,
}

impl RopeOp {
    fn rotate<F: Real>(&self, x: &[F], width: usize, direction: f64) -> Vec<F> {
        let half = self.rotation.half;
        let (cos, sin) = self.rotation.table::<F>(direction);
        let mut y = x.to_vec();
        for_row_blocks(&mut y, width, |first, rows| {
            let tokens = rows.len() / width;
            let angles = first * half..(first + tokens) * half;
            rotate_rows(rows, width, &cos[angles.clone()], &sin[angles], half);
        });
        y
    }
}

impl CustomOp1 for RopeOp {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (t, width) = xl.shape().dims2()?;
        let half = self.rotation.half;
        if t != self.rotation.tokens() || half == 0 || width % (2 * half) != 0 {
            candle_core::bail!(
                "rope: {} positions of head size {} for input of shape {:?}",
                self.rotation.tokens(),
                2 * half,
                xl.shape()
            );
        }
        by_dtype!(x.dtype(), F => {
            Ok(result(self.rotate::<F>(operand("rope", x, xl)?, width, 1.0), xl.shape()))
        })
    }

    /// The rotation back: `dL/dx` is `g` rotated by the negative angle.
    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        by_dtype!(x.dtype(), F => {
            let dx = with_slice("rope", g, |g| Ok(self.rotate::<F>(g, width, -1.0)))?;
            Ok(Some(gradient(dx, x)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check::{agree, gradients_match, noise};

    fn rotation() -> Rotation {
        Rotation::new(&[0, 1, 2, 0, 1, 700], &[1.0, 0.1, 0.01], 1.0)
    }

    #[test]
    fn rope_is_its_naive_twin() -> Result<()> {
        let x = noise(&[6, 12], 1, DType::F32)?;
        agree(
            &[&x],
            |t| rope(&t[0], &rotation()),
            |t| rope_naive(&t[0], &rotation()),
        )
    }

    #[test]
    fn rope_gradient_matches_central_differences() -> Result<()> {
        let x = noise(&[6, 12], 1, DType::F64)?;
        gradients_match(&[&x], |t| rope(&t[0], &rotation()))
    }

    // Head [1, 0] at angle 700 * 1 turns to [cos 700, sin 700].
    #[test]
    fn rope_turns_by_the_tokens_own_position() -> Result<()> {
        let x = Tensor::from_vec(vec![1.0f64, 0.0], (1, 2), &candle_core::Device::Cpu)?;
        let y = rope(&x, &Rotation::new(&[700], &[1.0], 1.0))?
            .flatten_all()?
            .to_vec1::<f64>()?;
        assert!((y[0] - 700f64.cos()).abs() < 1e-12 && (y[1] - 700f64.sin()).abs() < 1e-12);
        Ok(())
    }
}
