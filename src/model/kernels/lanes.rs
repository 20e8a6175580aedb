//! Reductions in a fixed number of lanes, whatever the width of vectors.

use crate::isa::Simd;
use crate::real::Real;

/// Partial sums kept by every reduction; a multiple of each vector width.
pub const LANES: usize = 16;

/// Sum of `LANES` partial sums, pairwise.
#[inline(always)]
pub fn lane_sum<F: Real>(mut acc: [F; LANES]) -> F {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            acc[i] += acc[i + width];
        }
        width /= 2;
    }
    acc[0]
}

/// `sum(x * y)` in a fixed order.
#[inline(always)]
pub fn dot<F: Real, S: Simd>(x: &[F], y: &[F]) -> F {
    let mut acc = [F::ZERO; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (xr, yr) = (xs.remainder(), ys.remainder());
    for (a, b) in xs.zip(ys) {
        for i in 0..LANES {
            acc[i] = a[i].mul_add_if::<S>(b[i], acc[i]);
        }
    }
    for (i, (&a, &b)) in xr.iter().zip(yr).enumerate() {
        acc[i] = a.mul_add_if::<S>(b, acc[i]);
    }
    lane_sum(acc)
}

/// Largest element; minus infinity if there is none. NaN is skipped: sums carry it.
#[inline(always)]
pub fn row_max<F: Real>(x: &[F]) -> F {
    let mut acc = [F::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for c in chunks {
        for i in 0..LANES {
            acc[i] = if c[i] > acc[i] { c[i] } else { acc[i] };
        }
    }
    for (i, &v) in rest.iter().enumerate() {
        acc[i] = if v > acc[i] { v } else { acc[i] };
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            acc[i] = if acc[i + width] > acc[i] {
                acc[i + width]
            } else {
                acc[i]
            };
        }
        width /= 2;
    }
    acc[0]
}

/// Hyperbolic tangent through the exponential, so that loops vectorise; absolute error 1e-7.
#[inline(always)]
pub fn tanh<F: Real, S: Simd>(x: F) -> F {
    let two = F::of(2.0);
    F::ONE - two / (F::ONE + (two * x).exp_if::<S>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Baseline;

    #[test]
    fn sums_keep_every_remainder_element() {
        let x: Vec<f64> = (1..=37).map(f64::from).collect();
        let ones = vec![1.0; 37];
        assert!((dot::<f64, Baseline>(&x, &ones) - 703.0).abs() < 1e-12);
        assert!((row_max(&x) - 37.0).abs() < 1e-12);
    }
}
