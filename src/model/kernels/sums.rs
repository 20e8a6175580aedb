//! Sums of products held in registers: the inner loop of attention over a cache.

use crate::isa::Simd;
use crate::real::Real as _;

/// Sums of `H` rows over `C` runs of lines, `W` lanes each.
pub type Sums<const H: usize, const C: usize, const W: usize> = [[[f32; W]; C]; H];

/// `sums[h][c] += sum_i factors[h * stride + c * STEP + i] * lines[c * n + i]`, where `lines` are
/// `C` runs of `n` lines.
///
/// Each lane adds its products in the order of `i`, whatever `H`, `C` and `W` are.
#[inline(always)]
pub fn add_products<S: Simd, const H: usize, const C: usize, const W: usize, const STEP: usize>(
    mut sums: Sums<H, C, W>,
    factors: &[f32],
    stride: usize,
    lines: &[[f32; W]],
    n: usize,
) -> Sums<H, C, W> {
    assert!(C * n <= lines.len());
    assert!((H - 1) * stride + (C - 1) * STEP + n <= factors.len());
    for i in 0..n {
        for c in 0..C {
            #[expect(unsafe_code, reason = "bounds checks cost more than the sums here")]
            // SAFETY: `c < C` and `i < n`, and there are `C * n` lines at least.
            let line = unsafe { lines.get_unchecked(c * n + i) };
            for (h, sums) in sums.iter_mut().enumerate() {
                #[expect(unsafe_code, reason = "bounds checks cost more than the sums here")]
                // SAFETY: `h < H`, `c < C` and `i < n`: the assert above covers the largest of each.
                let factor = unsafe { *factors.get_unchecked(h * stride + c * STEP + i) };
                for (sum, &v) in sums[c].iter_mut().zip(line) {
                    *sum = factor.mul_add_if::<S>(v, *sum);
                }
            }
        }
    }
    sums
}
