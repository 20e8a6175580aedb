//! The floats that kernels compute with, and their elementary functions as vectors can take them.

use crate::isa::Simd;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// A float that the kernels work on: `f32` in training, `f64` in gradient checks.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
{
    /// Whether it is `f32`, for which instruction sets have tiles of their own. Kernels rest `unsafe`
    /// casts on it.
    const IS_F32: bool = false;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// The nearest value.
    #[must_use]
    fn of(x: f64) -> Self;
    /// The value.
    #[must_use]
    fn wide(self) -> f64;
    /// `self * a + b`, with one rounding if the instruction set has that.
    #[must_use]
    fn mul_add_if<S: Simd>(self, a: Self, b: Self) -> Self;
    /// `self * a + b` with one rounding, as products of bf16 add: in `f32` numbers below the smallest
    /// normal one are zero, those that are read and the one that comes out.
    #[must_use]
    fn mul_add_flushed(self, a: Self, b: Self) -> Self;
    /// `self + b`, likewise.
    #[must_use]
    fn add_flushed(self, b: Self) -> Self;
    /// The values themselves, if they are `f32`.
    fn as_f32(x: &[Self]) -> Option<&[f32]>;
    /// The values themselves to be changed, if they are `f32`.
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]>;
    /// `e^self`; relative error below 2e-7 in `f32`, correctly zero at minus infinity.
    #[must_use]
    fn exp_if<S: Simd>(self) -> Self;
    /// `2^self` for exponents up to 127, as softmax has them; cheaper than [`Self::exp_if`] and as
    /// exact. In `f32` zero below -126, so at minus infinity too.
    #[must_use]
    fn exp2_if<S: Simd>(self) -> Self;
    /// Natural logarithm.
    #[must_use]
    fn log(self) -> Self;
    /// Square root.
    #[must_use]
    fn root(self) -> Self;
    /// The bits of the nearest bf16, ties to even.
    #[must_use]
    fn to_bf16(self) -> u16;
    /// The value of a bf16.
    #[must_use]
    fn from_bf16(bits: u16) -> Self;
    /// The nearest value that bf16 can hold.
    #[must_use]
    fn rounded_to_bf16(self) -> Self;
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add_if<S: Simd>(self, a: Self, b: Self) -> Self {
        if S::FMA {
            self.mul_add(a, b)
        } else {
            self * a + b
        }
    }

    #[inline(always)]
    fn mul_add_flushed(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }

    #[inline(always)]
    fn add_flushed(self, b: Self) -> Self {
        self + b
    }

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    #[inline(always)]
    fn exp_if<S: Simd>(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn exp2_if<S: Simd>(self) -> Self {
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
        bf16_bits(self as f32)
    }

    #[inline(always)]
    fn from_bf16(bits: u16) -> Self {
        f64::from(bf16_value(bits))
    }

    #[inline(always)]
    fn rounded_to_bf16(self) -> Self {
        Self::from_bf16(self.to_bf16())
    }
}

impl Real for f32 {
    const IS_F32: bool = true;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn mul_add_if<S: Simd>(self, a: Self, b: Self) -> Self {
        if S::FMA {
            self.mul_add(a, b)
        } else {
            self * a + b
        }
    }

    #[inline(always)]
    fn mul_add_flushed(self, a: Self, b: Self) -> Self {
        let (x, a, b) = (flushed(self), flushed(a), flushed(b));
        let sum = x.mul_add(a, b);
        // What would round up to the smallest normal number only because those below are spaced wider
        // than normal ones near them is still below. The sum of `f64` tells: its error is far smaller.
        let (smallest, half) = (2f64.powi(-126), 2f64.powi(-151));
        let exact = f64::from(x) * f64::from(a) + f64::from(b);
        if sum.abs() <= f32::MIN_POSITIVE && exact.abs() < smallest - half {
            return 0f32.copysign(sum);
        }
        flushed(sum)
    }

    #[inline(always)]
    fn add_flushed(self, b: Self) -> Self {
        flushed(flushed(self) + flushed(b))
    }

    #[inline(always)]
    fn as_f32(x: &[Self]) -> Option<&[f32]> {
        Some(x)
    }

    #[inline(always)]
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]> {
        Some(x)
    }

    /// Cephes' `expf`: `2^n * p(r)` with `x = n ln 2 + r`, free of branches so that loops vectorise.
    #[inline(always)]
    fn exp_if<S: Simd>(self) -> Self {
        const LOW: f32 = -87.336_54;
        const HIGH: f32 = 88.722_83;
        // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
        const ROUND: f32 = 12_582_912.0;
        let x = self;
        // Comparisons rather than `clamp`, so that a NaN passes through.
        let y = if x > HIGH { HIGH } else { x };
        let y = if y < LOW { LOW } else { y };
        let n = y.mul_add_if::<S>(std::f32::consts::LOG2_E, ROUND) - ROUND;
        let r = n.mul_add_if::<S>(-0.693_359_4, y);
        let r = n.mul_add_if::<S>(2.121_944_4e-4, r);
        let p = 1.987_569_1e-4_f32;
        let p = p.mul_add_if::<S>(r, 1.398_2e-3);
        let p = p.mul_add_if::<S>(r, 8.333_452e-3);
        let p = p.mul_add_if::<S>(r, 4.166_579_6e-2);
        let p = p.mul_add_if::<S>(r, 0.166_666_66);
        let p = p.mul_add_if::<S>(r, 0.5);
        let p = p.mul_add_if::<S>(r * r, r + 1.0);
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
    fn exp2_if<S: Simd>(self) -> Self {
        // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the lowest bits; the
        // exponent's bias added to it makes those bits the exponent of 2^n.
        const ROUND: f32 = 12_582_912.0 + 127.0;
        let rounded = self + ROUND;
        let r = self - (rounded - ROUND);
        let p = 1.559_467_2e-4_f32;
        let p = p.mul_add_if::<S>(r, 1.340_664_3e-3);
        let p = p.mul_add_if::<S>(r, 9.617_693e-3);
        let p = p.mul_add_if::<S>(r, 5.550_310_4e-2);
        let p = p.mul_add_if::<S>(r, 0.240_226_52);
        let p = p.mul_add_if::<S>(r, 0.693_147_24);
        let p = p.mul_add_if::<S>(r, 1.0);
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
        bf16_bits(self)
    }

    #[inline(always)]
    fn from_bf16(bits: u16) -> Self {
        bf16_value(bits)
    }

    // Without the way through 16 bits, on which vectors are cut in two and widened again.
    #[inline(always)]
    fn rounded_to_bf16(self) -> Self {
        let raw = self.to_bits();
        let nearest = raw.wrapping_add(0x7FFF + ((raw >> 16) & 1));
        let quiet = raw | 0x40_0000;
        Self::from_bits(if self.is_nan() { quiet } else { nearest } & 0xFFFF_0000)
    }
}

/// Zero, with the sign, for numbers below the smallest normal one.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE {
        0f32.copysign(x)
    } else {
        x
    }
}

/// The upper half of an `f32`, rounded to nearest, ties to even; NaN stays NaN. As `half` rounds,
/// but without branches: a loop of vectors takes two thirds of the time.
#[inline(always)]
fn bf16_bits(x: f32) -> u16 {
    let raw = x.to_bits();
    // Carries into the kept half if the dropped half is above one half, or is one half and the kept
    // half is odd.
    let nearest = raw.wrapping_add(0x7FFF + ((raw >> 16) & 1)) >> 16;
    let quiet = (raw >> 16) | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}

/// The `f32` that a bf16 stands for.
#[inline(always)]
fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use crate::isa::kernel;
    use crate::testing::on_every_set;

    const COUNT: usize = if cfg!(miri) { 200 } else { 200_000 };

    kernel! {
        fn exp_all<F>(x: &mut [F]) {
            for v in x.iter_mut() {
                *v = v.exp_if::<S>();
            }
        }
    }

    kernel! {
        fn exp2_all<F>(x: &mut [F]) {
            for v in x.iter_mut() {
                *v = v.exp2_if::<S>();
            }
        }
    }

    #[test]
    fn powers_of_two_agree_with_the_library_and_keep_zeros_and_nan() {
        let inputs: Vec<f32> = (0..COUNT)
            .map(|i| 1.0 - i as f32 * (127.0 / COUNT as f32))
            .collect();
        on_every_set(|| {
            let mut got = inputs.clone();
            exp2_all(&mut got);
            let mut worst = 0.0f64;
            for (&x, &y) in inputs.iter().zip(&got) {
                let want = f64::from(x).exp2();
                worst = worst.max(((f64::from(y) - want) / want).abs());
            }
            assert!(worst < 2e-7, "relative error {worst:e}");
            got
        });
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
        let inputs: Vec<f32> = (0..COUNT)
            .map(|i| -87.0 + i as f32 * (175.0 / COUNT as f32))
            .collect();
        on_every_set(|| {
            let mut got = inputs.clone();
            exp_all(&mut got);
            let mut worst = 0.0f64;
            for (&x, &y) in inputs.iter().zip(&got) {
                let want = f64::from(x).exp();
                worst = worst.max(((f64::from(y) - want) / want).abs());
            }
            assert!(worst < 2.4e-7, "relative error {worst:e}");
            got
        });
        let mut edge = [f32::NEG_INFINITY, -1000.0, 0.0, f32::NAN, f32::INFINITY];
        exp_all(&mut edge);
        assert_eq!(edge[..3], [0.0, 0.0, 1.0]);
        assert!(edge[3].is_nan());
        assert!(edge[4] > 3.4e38);
    }
}
