//! bf16 as the format of what kernels keep and hand on, while they compute in `f32`.
//!
//! A value is rounded to the nearest bf16, ties to even, as hardware and PyTorch do. In memory that
//! is computed with, a rounded value stays an `f32`; what waits for the backward pass takes two
//! bytes.

use crate::model::ops::Real;
use crate::model::ops::simd::kernel;

/// The upper half of an `f32`, rounded to nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn bits(x: f32) -> u16 {
    let raw = x.to_bits();
    // Carries into the kept half if the dropped half is above one half, or is one half and the kept
    // half is odd.
    let nearest = raw.wrapping_add(0x7FFF + ((raw >> 16) & 1)) >> 16;
    let quiet = (raw >> 16) | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}

/// The `f32` that a bf16 stands for.
#[inline(always)]
pub(super) fn value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

kernel! {
    /// Rounds every value to one that bf16 can hold.
    pub(super) fn round<F>(x: &mut [F]) {
        for x in x.iter_mut() {
            *x = F::from_bf16(x.to_bf16());
        }
    }
}

/// Rounded values in two bytes each.
pub(super) fn shorten<F: Real>(x: &[F]) -> Vec<u16> {
    x.iter().map(|x| x.to_bf16()).collect()
}

/// The values again.
pub(super) fn widen<F: Real>(x: &[u16]) -> Vec<F> {
    x.iter().map(|&x| F::from_bf16(x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Result, Tensor};

    #[test]
    fn rounding_is_that_of_candle_and_keeps_infinities_and_nan() -> Result<()> {
        // Ties to either side, the largest value, denormals, and a sweep over all exponents.
        let mut values = vec![0.0, -0.0, 1.003_906_3, 1.011_718_8, f32::MAX, 1e-40, -3e-39];
        values.extend((0..4000).map(|i| f32::from_bits(i * 1_048_583)));
        values.retain(|v| !v.is_nan());
        let tensor = Tensor::new(&values[..], &Device::Cpu)?;
        let want = tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
        let mut got = values.clone();
        round(&mut got);
        assert_eq!(got, want.to_vec1::<f32>()?);
        assert_eq!(widen::<f32>(&shorten(&got)), got);
        let mut edge = [
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::from_bits(0x7F80_0001),
        ];
        round(&mut edge);
        assert_eq!(edge[..2], [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(edge[2].is_nan());
        Ok(())
    }
}
