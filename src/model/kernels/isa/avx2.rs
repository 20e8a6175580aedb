//! AVX2 with fused multiply-add: sixteen registers of 256 bits.

use super::bf16_tile;
use super::set::{LeftRows, SQUARE, Simd, TileJob};
use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

/// Proof that this processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if there is one.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Simd for Avx2 {
    const FMA: bool = true;
    const TILE_COLUMNS: usize = 16;
    const TRANSPOSES: bool = true;

    #[inline(always)]
    fn with_tile<J: TileJob>(self, job: J) -> J::Output {
        // Twelve registers of sums, two of the right operand, one of the left.
        job.run::<Self, 6, 8, 16>(self)
    }

    #[inline(always)]
    fn with_bf16_tile<J: TileJob>(self, job: J) -> J::Output {
        job.run::<Self, 3, 8, 16>(self)
    }

    #[expect(unsafe_code, reason = "as declared")]
    #[inline(always)]
    unsafe fn tile<const MR: usize, const NR: usize>(
        self,
        depth: usize,
        a: (*const f32, [usize; MR], usize),
        b: (*const f32, usize),
        c: (*mut f32, usize),
        add: bool,
    ) {
        // SAFETY: the caller's promise; `self` proves the features.
        unsafe {
            if const { NR == 8 } {
                tile::<MR, 1>(depth, a, b, c, add);
            } else {
                tile::<MR, 2>(depth, a, b, c, add);
            }
        }
    }

    #[expect(unsafe_code, reason = "as declared")]
    #[inline(always)]
    unsafe fn bf16_tiles(
        self,
        size: (usize, usize),
        a: (*const f32, LeftRows),
        b: *const f32,
        c: (*mut f32, usize),
        set: bool,
    ) {
        // SAFETY: the caller's promise; `self` proves the features.
        unsafe { bf16_tile::avx2(size, a, b, c, set) }
    }

    #[inline(always)]
    fn fetch<T>(self, place: *const T) {
        #[expect(unsafe_code, reason = "a hint to the cache")]
        // SAFETY: nothing is read; SSE, which has the instruction, is a part of what `self` proves.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(place.cast());
        }
    }

    #[expect(unsafe_code, reason = "as declared")]
    #[inline(always)]
    unsafe fn transpose_square(
        self,
        from: *const f32,
        rows: [usize; SQUARE],
        to: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's promise; `self` proves the features.
        unsafe { transpose_square(from, rows, to, stride) }
    }
}

/// See [`Simd::tile`]; `V` vectors are a row.
///
/// Without features of its own, so that it is always inlined and offsets of rows are constants or in
/// registers.
///
/// # Safety
/// As there; the processor has AVX2 and FMA, and so has the function that calls this.
#[inline(always)]
#[expect(unsafe_code, reason = "loads and stores of vectors")]
pub(super) unsafe fn tile<const MR: usize, const V: usize>(
    depth: usize,
    (a, rows_at, step): (*const f32, [usize; MR], usize),
    (b, b_stride): (*const f32, usize),
    (c, stride): (*mut f32, usize),
    add: bool,
) {
    // SAFETY: the caller's promise: all offsets are within the operands.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); V]; MR];
        for l in 0..depth {
            let mut columns = [_mm256_setzero_ps(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm256_loadu_ps(b.add(l * b_stride + v * 8));
            }
            for (sums, at) in acc.iter_mut().zip(rows_at) {
                let x = _mm256_set1_ps(*a.add(at + l * step));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = _mm256_fmadd_ps(x, column, *sum);
                }
            }
        }
        for (r, sums) in acc.into_iter().enumerate() {
            for (v, mut sum) in sums.into_iter().enumerate() {
                let c = c.add(r * stride + v * 8);
                if add {
                    sum = _mm256_add_ps(_mm256_loadu_ps(c), sum);
                }
                _mm256_storeu_ps(c, sum);
            }
        }
    }
}

/// See [`Simd::transpose_square`].
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "loads and stores of vectors")]
pub(super) unsafe fn transpose_square(
    from: *const f32,
    rows: [usize; SQUARE],
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise: eight values at each of `rows`, eight rows of eight at `to`.
    unsafe {
        let r = rows.map(|at| _mm256_loadu_ps(from.add(at)));
        let pairs: [_; SQUARE] = std::array::from_fn(|i| {
            let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
            if i % 2 == 0 {
                _mm256_unpacklo_ps(a, b)
            } else {
                _mm256_unpackhi_ps(a, b)
            }
        });
        // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of the first four rows, then of the others.
        let fours: [_; SQUARE] = std::array::from_fn(|i| {
            let at = i / 4 * 4 + i % 4 / 2;
            let (a, b) = (pairs[at], pairs[at + 2]);
            if i % 2 == 0 {
                _mm256_shuffle_ps::<0x44>(a, b)
            } else {
                _mm256_shuffle_ps::<0xEE>(a, b)
            }
        });
        for c in 0..4 {
            let (a, b) = (fours[c], fours[c + 4]);
            _mm256_storeu_ps(to.add(c * stride), _mm256_permute2f128_ps::<0x20>(a, b));
            _mm256_storeu_ps(
                to.add((c + 4) * stride),
                _mm256_permute2f128_ps::<0x31>(a, b),
            );
        }
    }
}
