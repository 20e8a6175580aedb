//! Gated linear units (Shazeer 2020): `y = act(gate) * up`.

use crate::model::ops::matmul::{for_row_blocks, for_row_blocks2};
use crate::model::ops::simd::{kernel, tanh};
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use crate::model::ops::{GateActivation, Real};
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

/// `sqrt(2 / pi)`.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

struct GatedOp {
    activation: GateActivation,
}

/// Value and slope of the activation.
#[inline(always)]
fn activate<F: Real, const FMA: bool, const SILU: bool>(x: F) -> (F, F) {
    if SILU {
        // s = sigmoid(x); (x s)' = s (1 + x (1 - s))
        let s = F::one() / (F::one() + (-x).exp_if::<FMA>());
        (x * s, s * (F::one() + x * (F::one() - s)))
    } else {
        // t = tanh(c (x + k x^3)); (x (1 + t) / 2)' = (1 + t) / 2 + x (1 - t^2) c (1 + 3 k x^2) / 2
        let (c, k, half) = (
            F::from_f64(GELU_SCALE),
            F::from_f64(GELU_CUBIC),
            F::from_f64(0.5),
        );
        let square = x * x;
        let t = tanh::<F, FMA>(c * x * (F::one() + k * square));
        let plain = half * (F::one() + t);
        let slope = half * x * (F::one() - t * t) * c * (F::one() + F::from_f64(3.0) * k * square);
        (x * plain, plain + slope)
    }
}

#[inline(always)]
fn forward<F: Real, const FMA: bool, const SILU: bool>(gate: &[F], up: &[F], y: &mut [F]) {
    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
        *y = activate::<F, FMA, SILU>(g).0 * u;
    }
}

#[inline(always)]
fn backward<F: Real, const FMA: bool, const SILU: bool>(
    gate: &[F],
    up: &[F],
    grad: &[F],
    d_gate: &mut [F],
    d_up: &mut [F],
) {
    for (((dg, du), (&g, &u)), &r) in d_gate
        .iter_mut()
        .zip(d_up)
        .zip(gate.iter().zip(up))
        .zip(grad)
    {
        let (value, slope) = activate::<F, FMA, SILU>(g);
        *dg = r * u * slope;
        *du = r * value;
    }
}

kernel! {
    /// `y = act(gate) * up`.
    pub(super) fn gated_forward<F>(activation: GateActivation, gate: &[F], up: &[F], y: &mut [F]) {
        match activation {
            GateActivation::Silu => forward::<F, FMA, true>(gate, up, y),
            GateActivation::GeluTanh => forward::<F, FMA, false>(gate, up, y),
        }
    }
}

kernel! {
    /// `d_gate = grad * up * act'(gate)`, `d_up = grad * act(gate)`.
    pub(super) fn gated_backward<F>(
        activation: GateActivation, gate: &[F], up: &[F], grad: &[F], d_gate: &mut [F], d_up: &mut [F],
    ) {
        match activation {
            GateActivation::Silu => backward::<F, FMA, true>(gate, up, grad, d_gate, d_up),
            GateActivation::GeluTanh => backward::<F, FMA, false>(gate, up, grad, d_gate, d_up),
        }
    }
}

#[inline(always)]
fn recompute<F: Real, const FMA: bool, const SILU: bool>(
    (gate, up): (&mut [F], &mut [F]),
    grad: &[F],
    y: &mut [F],
) {
    for (((g, u), &r), y) in gate.iter_mut().zip(up).zip(grad).zip(y) {
        let (value, slope) = activate::<F, FMA, SILU>(*g);
        *y = value * *u;
        *g = r * *u * slope;
        *u = r * value;
    }
}

kernel! {
    /// Both passes at once, in place: `y` becomes the forward result, `gate` and `up` turn into
    /// their gradients.
    pub(super) fn gated_both<F>(
        activation: GateActivation, gate: &mut [F], up: &mut [F], grad: &[F], y: &mut [F],
    ) {
        match activation {
            GateActivation::Silu => recompute::<F, FMA, true>((gate, up), grad, y),
            GateActivation::GeluTanh => recompute::<F, FMA, false>((gate, up), grad, y),
        }
    }
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
