//! AVX-512 F, BW, DQ and VL: thirty-two registers of 512 bits.

use super::avx2;
use super::bf16_tile;
use super::set::{LeftRows, SQUARE, Simd, TileJob};
use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Proof that this processor has AVX-512 F, BW, DQ, VL, and what is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if there is one.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma"))
        .then_some(Self(()))
    }
}

impl Simd for Avx512 {
    const FMA: bool = true;
    const WIDE: bool = true;
    const TILE_COLUMNS: usize = 32;
    const TRANSPOSES: bool = true;

    #[inline(always)]
    fn with_tile<J: TileJob>(self, job: J) -> J::Output {
        if const { J::IS_F32 } {
            // Twenty-four registers of sums, two of the right operand, one of the left.
            job.run::<Self, 12, 16, 32>(self)
        } else {
            job.run::<Self, 6, 8, 16>(self)
        }
    }

    #[inline(always)]
    fn with_bf16_tile<J: TileJob>(self, job: J) -> J::Output {
        if const { J::IS_F32 } {
            job.run::<Self, 6, 8, 32>(self)
        } else {
            self.with_tile(job)
        }
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
        // SAFETY: the caller's promise; `self` proves the features, of AVX2 too.
        unsafe {
            if const { NR == 8 } {
                avx2::tile::<MR, 1>(depth, a, b, c, add);
            } else if const { NR == 16 } {
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
        unsafe { bf16_tile::avx512(size, a, b, c, set) }
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
        // SAFETY: the caller's promise; `self` proves the features of AVX2 too.
        unsafe { avx2::transpose_square(from, rows, to, stride) }
    }
}

/// See [`Simd::tile`]; `V` vectors are a row. Always inlined, as that of AVX2 is.
///
/// # Safety
/// As there; the processor has AVX-512 F, and so has the function that calls this.
#[inline(always)]
#[expect(unsafe_code, reason = "loads and stores of vectors")]
unsafe fn tile<const MR: usize, const V: usize>(
    depth: usize,
    (a, rows_at, step): (*const f32, [usize; MR], usize),
    (b, b_stride): (*const f32, usize),
    (c, stride): (*mut f32, usize),
    add: bool,
) {
    // SAFETY: the caller's promise: all offsets are within the operands.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; MR];
        for l in 0..depth {
            let mut columns = [_mm512_setzero_ps(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_loadu_ps(b.add(l * b_stride + v * 16));
            }
            for (sums, at) in acc.iter_mut().zip(rows_at) {
                let x = _mm512_set1_ps(*a.add(at + l * step));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = _mm512_fmadd_ps(x, column, *sum);
                }
            }
        }
        for (r, sums) in acc.into_iter().enumerate() {
            for (v, mut sum) in sums.into_iter().enumerate() {
                let c = c.add(r * stride + v * 16);
                if add {
                    sum = _mm512_add_ps(_mm512_loadu_ps(c), sum);
                }
                _mm512_storeu_ps(c, sum);
            }
        }
    }
}
