//! Gated linear units (Shazeer 2020): `y = act(gate) * up`.

use crate::arch::GateActivation;
use crate::model::kernels::gated::{GELU_CUBIC, GELU_SCALE, gated_backward, gated_forward};
use crate::model::kernels::rows::{for_row_blocks, for_row_blocks2};
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

/// `act(gate) * up`, elementwise over equal shapes.
///
/// # Errors
/// Shapes or dtypes differ.
pub fn gated(gate: &Tensor, up: &Tensor, activation: GateActivation) -> Result<Tensor> {
    match path(gate) {
        Path::F32 | Path::F64 => gate
            .contiguous()?
            .apply_op2(&up.contiguous()?, GatedOp { activation }),
        Path::Upcast => {
            let (gate32, up32) = (gate.to_dtype(DType::F32)?, up.to_dtype(DType::F32)?);
            gated(&gate32, &up32, activation)?.to_dtype(gate.dtype())
        }
        Path::Naive => gated_naive(gate, up, activation),
    }
}

/// [`gated`] out of candle's own ops.
///
/// # Errors
/// Shapes or dtypes differ.
pub fn gated_naive(gate: &Tensor, up: &Tensor, activation: GateActivation) -> Result<Tensor> {
    match activation {
        GateActivation::Silu => gate.silu()? * up,
        GateActivation::GeluTanh => {
            let inner = ((gate + (gate.powf(3.0)? * GELU_CUBIC)?)? * GELU_SCALE)?;
            (((inner.tanh()? + 1.0)? * 0.5)? * gate)? * up
        }
    }
}

struct GatedOp {
    activation: GateActivation,
}

/// Elements that make one row for the split over threads.
const SPAN: usize = 64;

impl CustomOp2 for GatedOp {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gl: &Layout,
        up: &CpuStorage,
        ul: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if gl.dims() != ul.dims() {
            candle_core::bail!("gated: shapes {:?} and {:?} differ", gl.shape(), ul.shape());
        }
        by_dtype!(gate.dtype(), F => {
            let (gate, up) = (operand::<F>("gated", gate, gl)?, operand::<F>("gated", up, ul)?);
            let mut y = vec![0.0; gate.len()];
            for_row_blocks(&mut y, SPAN, |first, y| {
                let span = first * SPAN..first * SPAN + y.len();
                gated_forward(self.activation, &gate[span.clone()], &up[span], y);
            });
            Ok(result(y, gl.shape()))
        })
    }

    /// See [`gated_backward`] for the formula.
    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_dtype!(gate.dtype(), F => {
            let (dg, du) = with_slice::<F, _>("gated", gate, |gs| {
                with_slice("gated", up, |us| {
                    with_slice("gated", grad, |rs| {
                        let (mut dg, mut du) = (vec![0.0; gs.len()], vec![0.0; gs.len()]);
                        for_row_blocks2((&mut dg, SPAN), (&mut du, SPAN), |first, dg, du| {
                            let at = first * SPAN..first * SPAN + dg.len();
                            let (g, u, r) = (&gs[at.clone()], &us[at.clone()], &rs[at]);
                            gated_backward(self.activation, g, u, r, dg, du);
                        });
                        Ok((dg, du))
                    })
                })
            })?;
            Ok((Some(gradient(dg, gate)?), Some(gradient(du, up)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check::{agree, gradients_match, noise};

    #[test]
    fn gated_units_are_their_naive_twins() -> Result<()> {
        let gate = (noise(&[9, 37], 1, DType::F32)? * 6.0)?;
        let up = noise(&[9, 37], 2, DType::F32)?;
        for act in [GateActivation::Silu, GateActivation::GeluTanh] {
            agree(
                &[&gate, &up],
                |t| gated(&t[0], &t[1], act),
                |t| gated_naive(&t[0], &t[1], act),
            )?;
        }
        Ok(())
    }

    #[test]
    fn gated_gradients_match_central_differences() -> Result<()> {
        let gate = (noise(&[2, 19], 1, DType::F64)? * 4.0)?;
        let up = noise(&[2, 19], 2, DType::F64)?;
        for act in [GateActivation::Silu, GateActivation::GeluTanh] {
            gradients_match(&[&gate, &up], |t| gated(&t[0], &t[1], act))?;
        }
        Ok(())
    }
}
