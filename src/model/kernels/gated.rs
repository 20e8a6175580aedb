//! Gated linear units, forward, backward and both at once.

use crate::isa::{Simd, kernel};
use crate::lanes::tanh;
use crate::real::Real;
use crate::shape::GateActivation;

/// `sqrt(2 / pi)`.
pub const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
/// Factor of the cube in GELU's approximation.
pub const GELU_CUBIC: f64 = 0.044_715;

/// Value and slope of the activation.
#[inline(always)]
fn activate<F: Real, S: Simd, const SILU: bool>(x: F) -> (F, F) {
    if SILU {
        // s = sigmoid(x); (x s)' = s (1 + x (1 - s))
        let s = F::ONE / (F::ONE + (-x).exp_if::<S>());
        (x * s, s * (F::ONE + x * (F::ONE - s)))
    } else {
        // t = tanh(c (x + k x^3)); (x (1 + t) / 2)' = (1 + t) / 2 + x (1 - t^2) c (1 + 3 k x^2) / 2
        let (c, k, half) = (F::of(GELU_SCALE), F::of(GELU_CUBIC), F::of(0.5));
        let square = x * x;
        let t = tanh::<F, S>(c * x * (F::ONE + k * square));
        let plain = half * (F::ONE + t);
        let slope = half * x * (F::ONE - t * t) * c * (F::ONE + F::of(3.0) * k * square);
        (x * plain, plain + slope)
    }
}

#[inline(always)]
fn forward<F: Real, S: Simd, const SILU: bool>(gate: &[F], up: &[F], y: &mut [F]) {
    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
        *y = activate::<F, S, SILU>(g).0 * u;
    }
}

#[inline(always)]
fn backward<F: Real, S: Simd, const SILU: bool>(
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
        let (value, slope) = activate::<F, S, SILU>(g);
        *dg = r * u * slope;
        *du = r * value;
    }
}

kernel! {
    /// `y = act(gate) * up`.
    pub fn gated_forward<F>(activation: GateActivation, gate: &[F], up: &[F], y: &mut [F]) {
        match activation {
            GateActivation::Silu => forward::<F, S, true>(gate, up, y),
            GateActivation::GeluTanh => forward::<F, S, false>(gate, up, y),
        }
    }
}

kernel! {
    /// `d_gate = grad * up * act'(gate)`, `d_up = grad * act(gate)`.
    pub fn gated_backward<F>(
        activation: GateActivation, gate: &[F], up: &[F], grad: &[F], d_gate: &mut [F], d_up: &mut [F],
    ) {
        match activation {
            GateActivation::Silu => backward::<F, S, true>(gate, up, grad, d_gate, d_up),
            GateActivation::GeluTanh => backward::<F, S, false>(gate, up, grad, d_gate, d_up),
        }
    }
}

#[inline(always)]
fn recompute<F: Real, S: Simd, const SILU: bool>(
    (gate, up): (&mut [F], &mut [F]),
    grad: &[F],
    y: &mut [F],
) {
    for (((g, u), &r), y) in gate.iter_mut().zip(up).zip(grad).zip(y) {
        let (value, slope) = activate::<F, S, SILU>(*g);
        *y = value * *u;
        *g = r * *u * slope;
        *u = r * value;
    }
}

kernel! {
    /// Both passes at once, in place: `y` becomes the forward result, `gate` and `up` turn into
    /// their gradients.
    pub fn gated_both<F>(
        activation: GateActivation, gate: &mut [F], up: &mut [F], grad: &[F], y: &mut [F],
    ) {
        match activation {
            GateActivation::Silu => recompute::<F, S, true>((gate, up), grad, y),
            GateActivation::GeluTanh => recompute::<F, S, false>((gate, up), grad, y),
        }
    }
}
