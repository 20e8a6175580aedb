//! bf16 as the format of what kernels keep and hand on, while they compute in `f32`.
//!
//! A value is rounded to the nearest bf16, ties to even, as hardware and PyTorch do. In memory that
//! is computed with, a rounded value stays an `f32`; what waits for the backward pass takes two
//! bytes.

use crate::isa::kernel;
use crate::real::Real;

kernel! {
    /// Rounds every value to one that bf16 can hold.
    pub fn round<F>(x: &mut [F]) {
        for x in x.iter_mut() {
            *x = x.rounded_to_bf16();
        }
    }
}

kernel! {
    /// Adds to every value, and rounds the sum.
    pub fn add_rounded<F>(x: &mut [F], more: &[F]) {
        for (x, &more) in x.iter_mut().zip(more) {
            *x = (*x + more).rounded_to_bf16();
        }
    }
}

/// Rounded values in two bytes each.
pub fn to_bf16<F: Real>(x: &[F]) -> Vec<u16> {
    let mut halves = vec![0; x.len()];
    halve(x, &mut halves);
    halves
}

/// The values again.
pub fn to_f32<F: Real>(x: &[u16]) -> Vec<F> {
    let mut values = vec![F::ZERO; x.len()];
    widen(x, &mut values);
    values
}

kernel! {
    fn halve<F>(x: &[F], halves: &mut [u16]) {
        for (half, x) in halves.iter_mut().zip(x) {
            *half = x.to_bf16();
        }
    }
}

kernel! {
    fn widen<F>(halves: &[u16], x: &mut [F]) {
        for (x, &half) in x.iter_mut().zip(halves) {
            *x = F::from_bf16(half);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::on_every_set;

    #[test]
    fn rounding_goes_to_nearest_even_and_keeps_infinities_and_nan() {
        // 1 + 2^-8 lies between 1 and 1 + 2^-7, 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
        let values = [
            1.003_906_3,
            1.011_718_8,
            -1.003_906_4,
            f32::MAX,
            -0.0,
            9e-41,
        ];
        let edges = [
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::from_bits(0x7F80_0001),
        ];
        let got = on_every_set(|| {
            let mut all = [&values[..], &edges].concat();
            round(&mut all);
            assert!(all.pop().is_some_and(f32::is_nan));
            all
        });
        let want = [
            1.0,
            1.015_625,
            -1.007_812_5,
            f32::INFINITY,
            -0.0,
            9.183_55e-41,
        ];
        let infinities = [f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(got, [&want[..], &infinities].concat());
        assert_eq!(to_f32::<f32>(&to_bf16(&got)), got);
        let sums = on_every_set(|| {
            let mut sums = vec![1.0f32, -1.0, 3.0];
            add_rounded(&mut sums, &[0.004, -0.000_1, 1.0]);
            sums
        });
        assert_eq!(sums, [1.007_812_5, -1.0, 4.0]);
    }
}
