//! Numbers, instruction sets and vector-friendly loops for the CPU kernels.
//!
//! A kernel is written once as plain loops and compiled for three instruction sets by `kernel!`;
//! the set is chosen at run time, so one binary runs everywhere. Reductions keep a fixed number of
//! lanes, so a result depends on the machine's instruction set at most through fused
//! multiply-add, never on the number of threads.

use crate::model::ops::bf16;
use candle_core::WithDType;

/// Partial sums kept by every reduction; a multiple of each vector width.
pub(super) const LANES: usize = 16;

/// A float that the fused kernels work on: `f32` in training, `f64` in gradient checks.
pub trait Real: WithDType + std::ops::Neg<Output = Self> {
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// `self * a + b`, fused if the instruction set has it.
    #[must_use]
    fn mul_add_if<const FMA: bool>(self, a: Self, b: Self) -> Self;
    /// `e^self`; relative error below 2e-7 in `f32`, correctly zero at minus infinity.
    #[must_use]
    fn exp_if<const FMA: bool>(self) -> Self;
    /// `2^self` for exponents up to 127, as softmax has them; cheaper than [`Self::exp_if`] and as
    /// exact. In `f32` zero below -126, so at minus infinity too.
    #[must_use]
    fn exp2_if<const FMA: bool>(self) -> Self;
    /// Natural logarithm.
    #[must_use]
    fn log(self) -> Self;
    /// Square root.
    #[must_use]
    fn root(self) -> Self;
    /// The bits of the nearest bf16.
    #[must_use]
    fn to_bf16(self) -> u16;
    /// The value of a bf16.
    #[must_use]
    fn from_bf16(bits: u16) -> Self;
}

impl Real for f64 {
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn mul_add_if<const FMA: bool>(self, a: Self, b: Self) -> Self {
        if FMA {
            self.mul_add(a, b)
        } else {
            self * a + b
        }
    }

    #[inline(always)]
    fn exp_if<const FMA: bool>(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn exp2_if<const FMA: bool>(self) -> Self {
        self.exp2()
    }

    #[inline(always)]
    fn log(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn to_bf16(self) -> u16 {
        bf16::bits(self as f32)
    }

    #[inline(always)]
    fn from_bf16(bits: u16) -> Self {
        f64::from(bf16::value(bits))
    }
}

impl Real for f32 {
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn mul_add_if<const FMA: bool>(self, a: Self, b: Self) -> Self {
        if FMA {
            self.mul_add(a, b)
        } else {
            self * a + b
        }
    }

    /// Cephes' `expf`: `2^n * p(r)` with `x = n ln 2 + r`, free of branches so that loops vectorise.
    #[inline(always)]
    fn exp_if<const FMA: bool>(self) -> Self {
        const LOW: f32 = -87.336_54;
        const HIGH: f32 = 88.722_83;
        // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
        const ROUND: f32 = 12_582_912.0;
        let x = self;
        // Comparisons rather than `clamp`, so that a NaN passes through.
        let y = if x > HIGH { HIGH } else { x };
        let y = if y < LOW { LOW } else { y };
        let n = y.mul_add_if::<FMA>(std::f32::consts::LOG2_E, ROUND) - ROUND;
        let r = n.mul_add_if::<FMA>(-0.693_359_4, y);
        let r = n.mul_add_if::<FMA>(2.121_944_4e-4, r);
        let p = 1.987_569_1e-4_f32;
        let p = p.mul_add_if::<FMA>(r, 1.398_2e-3);
        let p = p.mul_add_if::<FMA>(r, 8.333_452e-3);
        let p = p.mul_add_if::<FMA>(r, 4.166_579_6e-2);
        let p = p.mul_add_if::<FMA>(r, 0.166_666_66);
        let p = p.mul_add_if::<FMA>(r, 0.5);
        let p = p.mul_add_if::<FMA>(r * r, r + 1.0);
        // 2^n in two factors: n = 128 at the top of the range has no single f32 power.
        let half = (n as i32) >> 1;
        let rest = (n as i32) - half;
        let scale = f32::from_bits(((half + 127) << 23) as u32);
        let scale_rest = f32::from_bits(((rest + 127) << 23) as u32);
        let e = p * scale * scale_rest;
        if x < LOW { 0.0 } else { e }
    }

    /// `2^n * p(r)` with `self = n + r`, `|r| <= 0.5`; `p` is the minimax polynomial with `p(0) = 1`.
    #[inline(always)]
    fn exp2_if<const FMA: bool>(self) -> Self {
        // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the lowest bits; the
        // exponent's bias added to it makes those bits the exponent of 2^n.
        const ROUND: f32 = 12_582_912.0 + 127.0;
        let rounded = self + ROUND;
        let r = self - (rounded - ROUND);
        let p = 1.559_467_2e-4_f32;
        let p = p.mul_add_if::<FMA>(r, 1.340_664_3e-3);
        let p = p.mul_add_if::<FMA>(r, 9.617_693e-3);
        let p = p.mul_add_if::<FMA>(r, 5.550_310_4e-2);
        let p = p.mul_add_if::<FMA>(r, 0.240_226_52);
        let p = p.mul_add_if::<FMA>(r, 0.693_147_24);
        let p = p.mul_add_if::<FMA>(r, 1.0);
        let e = p * f32::from_bits(rounded.to_bits() << 23);
        if self < -126.0 { 0.0 } else { e }
    }

    #[inline(always)]
    fn log(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn to_bf16(self) -> u16 {
        bf16::bits(self)
    }

    #[inline(always)]
    fn from_bf16(bits: u16) -> Self {
        bf16::value(bits)
    }
}

/// What the processor can do beyond the compile-time baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler was told to assume.
    Baseline,
}

/// Whether the compile-time baseline multiplies and adds in one instruction.
pub(super) const BASELINE_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// The best instruction set here; the answer is cached by the standard library.
#[inline]
pub(super) fn isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Isa::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Isa::Avx2;
        }
    }
    Isa::Baseline
}

/// Defines a function whose body is compiled for each instruction set and chosen at run time.
///
/// The body may name the type `F: Real` and the constants `FMA` and `WIDE` (whether a vector has
/// 512 bits and there are 32 of them); everything it calls in its loops must be
/// `#[inline(always)]`, or it falls back to the baseline set.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<F>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<F: $crate::model::ops::Real>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters, clippy::too_many_arguments, reason = "shared shape of all kernels")]
            fn body<F: $crate::model::ops::Real, const FMA: bool, const WIDE: bool>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<F: $crate::model::ops::Real>($($arg: $ty),*) $(-> $ret)? {
                body::<F, true, true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<F: $crate::model::ops::Real>($($arg: $ty),*) $(-> $ret)? {
                body::<F, true, false>($($arg),*)
            }
            match $crate::model::ops::simd::isa() {
                #[cfg(target_arch = "x86_64")]
                $crate::model::ops::simd::Isa::Avx512 => {
                    #[expect(unsafe_code, reason = "code for the instruction set found at run time")]
                    // SAFETY: `isa` has just found these features on this processor.
                    unsafe {
                        avx512::<F>($($arg),*)
                    }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::model::ops::simd::Isa::Avx2 => {
                    #[expect(unsafe_code, reason = "code for the instruction set found at run time")]
                    // SAFETY: `isa` has just found these features on this processor.
                    unsafe {
                        avx2::<F>($($arg),*)
                    }
                }
                $crate::model::ops::simd::Isa::Baseline => {
                    body::<F, { $crate::model::ops::simd::BASELINE_FMA }, false>($($arg),*)
                }
            }
        }
    };
}
pub(super) use kernel;

/// Sum of `LANES` partial sums, pairwise.
#[inline(always)]
pub(super) fn lane_sum<F: Real>(mut acc: [F; LANES]) -> F {
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
pub(super) fn dot<F: Real, const FMA: bool>(x: &[F], y: &[F]) -> F {
    let mut acc = [F::zero(); LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (xr, yr) = (xs.remainder(), ys.remainder());
    for (a, b) in xs.zip(ys) {
        for i in 0..LANES {
            acc[i] = a[i].mul_add_if::<FMA>(b[i], acc[i]);
        }
    }
    for (i, (&a, &b)) in xr.iter().zip(yr).enumerate() {
        acc[i] = a.mul_add_if::<FMA>(b, acc[i]);
    }
    lane_sum(acc)
}

/// Largest element; minus infinity if there is none. NaN is skipped: sums carry it.
#[inline(always)]
pub(super) fn row_max<F: Real>(x: &[F]) -> F {
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
pub(super) fn tanh<F: Real, const FMA: bool>(x: F) -> F {
    let two = F::from_f64(2.0);
    F::one() - two / (F::one() + (two * x).exp_if::<FMA>())
}

#[cfg(test)]
mod tests {
    use super::*;

    kernel! {
        fn exp_all<F>(x: &mut [F]) {
            for v in x.iter_mut() {
                *v = v.exp_if::<FMA>();
            }
        }
    }

    kernel! {
        fn exp2_all<F>(x: &mut [F]) {
            for v in x.iter_mut() {
                *v = v.exp2_if::<FMA>();
            }
        }
    }

    #[test]
    fn powers_of_two_agree_with_the_library_and_keep_zeros_and_nan() {
        let mut worst = 0.0f64;
        let inputs: Vec<f32> = (0..200_000).map(|i| 1.0 - i as f32 * 6.35e-4).collect();
        let mut got = inputs.clone();
        exp2_all(&mut got);
        for (&x, &y) in inputs.iter().zip(&got) {
            let want = f64::from(x).exp2();
            worst = worst.max(((f64::from(y) - want) / want).abs());
        }
        assert!(worst < 2e-7, "relative error {worst:e}");
        let mut edge = [
            f32::NEG_INFINITY,
            -1e30,
            -127.0,
            -126.0,
            0.0,
            127.0,
            f32::NAN,
            -f32::from_bits(0x7fff_ffff),
        ];
        exp2_all(&mut edge);
        let lowest = f32::MIN_POSITIVE;
        assert_eq!(edge[..6], [0.0, 0.0, 0.0, lowest, 1.0, 127f32.exp2()]);
        assert!(edge[6].is_nan() && edge[7].is_nan());
    }

    #[test]
    fn vector_exp_agrees_with_the_library_to_two_ulps_and_keeps_infinities() {
        let mut worst = 0.0f64;
        let inputs: Vec<f32> = (0..200_000).map(|i| -87.0 + i as f32 * 8.75e-4).collect();
        let mut got = inputs.clone();
        exp_all(&mut got);
        for (&x, &y) in inputs.iter().zip(&got) {
            let want = f64::from(x).exp();
            worst = worst.max(((f64::from(y) - want) / want).abs());
        }
        assert!(worst < 2.4e-7, "relative error {worst:e}");
        let mut edge = [f32::NEG_INFINITY, -1000.0, 0.0, f32::NAN, f32::INFINITY];
        exp_all(&mut edge);
        assert_eq!(edge[..3], [0.0, 0.0, 1.0]);
        assert!(edge[3].is_nan());
        assert!(edge[4] > 3.4e38);
    }

    #[test]
    fn sums_keep_every_remainder_element() {
        let x: Vec<f64> = (1..=37).map(f64::from).collect();
        let ones = vec![1.0; 37];
        assert!((dot::<f64, false>(&x, &ones) - 703.0).abs() < 1e-12);
        assert!((row_max(&x) - 37.0).abs() < 1e-12);
    }
}
