//! The innermost loops of the matrix product: a tile of the result in registers.

use crate::isa::Simd;
use crate::lanes::LANES;
use crate::real::Real;

/// Inner lengths from which on the place of a result is fetched while its sums are made: it may come from the
/// third cache, and a processor waits for it in order. Less than that is over before it is there.
const WORTH_FETCHING: usize = 64;

/// A block of the left operand.
#[derive(Clone, Copy)]
pub enum Left<'a, F> {
    /// Panels of `MR` rows, column by column, and the distance of columns.
    Packed(&'a [F], usize),
    /// Elements and the distances of rows and columns.
    InPlace(&'a [F], usize, usize),
}

/// `c (rows, cols) = a (rows, depth) b (depth, cols)` or added to it: one block of rows by all
/// panels of columns; `c` has rows of `stride`, `b` panels of `NR` columns.
#[inline(always)]
pub fn over_tiles<F: Real, S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    (rows, cols, depth): (usize, usize, usize),
    a: Left<'_, F>,
    b: &[F],
    (c, stride): (&mut [F], usize),
    add: bool,
) {
    if rows == 0 || cols == 0 || depth == 0 {
        return;
    }
    // What the unsafe blocks below rely on, once for all tiles.
    assert!(cols <= stride && (rows - 1) * stride + cols <= c.len());
    match a {
        Left::Packed(a, lanes) => {
            assert!(MR <= lanes && rows.div_ceil(MR) * lanes * depth <= a.len());
        }
        Left::InPlace(a, row, col) => assert!((rows - 1) * row + (depth - 1) * col < a.len()),
    }
    let mut edge = [[F::ZERO; NR]; MR];
    for j in (0..cols).step_by(NR) {
        let b = &b[j * depth..(j + NR) * depth];
        let width = (cols - j).min(NR);
        for i in (0..rows).step_by(MR) {
            let here = (rows - i).min(MR);
            let c = &mut c[i * stride + j..];
            let whole = here == MR && width == NR;
            if whole && depth >= WORTH_FETCHING {
                for row in c.chunks(stride).take(MR) {
                    for line in (0..NR).step_by(LANES) {
                        simd.fetch(&raw const row[line]);
                    }
                }
            }
            // A tile that reaches beyond the result goes to `edge` first.
            let (to, add_to) = if whole {
                ((c.as_mut_ptr(), stride), add)
            } else {
                ((edge.as_mut_ptr().cast(), NR), false)
            };
            #[expect(unsafe_code, reason = "tiles read and write through pointers")]
            // SAFETY: `i + here <= rows`, so the asserts put `depth` columns of `here` rows in `a`;
            // `b` is `depth` rows of `NR`; `to` is a whole tile within `c`, or `edge`.
            unsafe {
                sums::<F, S, MR, NR>(simd, depth, (a, i, here), b, to, add_to);
            }
            if !whole {
                for (r, sums) in edge.iter().enumerate().take(here) {
                    let c = &mut c[r * stride..r * stride + width];
                    for (c, &sum) in c.iter_mut().zip(sums) {
                        *c = if add { *c + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// The tile of the `here` rows from `i` on, in `MR` rows at `c`.
///
/// # Safety
/// `a` holds `depth` columns of those rows, `b` `depth` rows of `NR` values; `c` is valid for reads
/// and writes of `MR` rows of `NR` values at its stride.
#[inline(always)]
#[expect(unsafe_code, reason = "bounds checks would cost more than the product")]
unsafe fn sums<F: Real, S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    depth: usize,
    (a, i, here): (Left<'_, F>, usize, usize),
    b: &[F],
    c: (*mut F, usize),
    add: bool,
) {
    match a {
        Left::Packed(a, lanes) => {
            let a = a[i / MR * lanes * depth..].as_ptr();
            let rows_at = std::array::from_fn(|r| r);
            // SAFETY: a panel has `depth` columns of `lanes >= MR` values; the rest is the caller's.
            unsafe { tile::<F, S, MR, NR>(simd, depth, (a, rows_at, lanes), b, c, add) }
        }
        Left::InPlace(a, row, col) => {
            let a = a[i * row..].as_ptr();
            if here == 1 {
                // SAFETY: the caller's promise; of `c` one row is enough.
                unsafe { tile::<F, S, 1, NR>(simd, depth, (a, [0], col), b, c, add) }
            } else if here == MR {
                // By one distance: of twelve the compiler would keep some in memory.
                let rows_at = std::array::from_fn(|r| r * row);
                // SAFETY: the caller's promise: no row is beyond `here`.
                unsafe { tile::<F, S, MR, NR>(simd, depth, (a, rows_at, col), b, c, add) }
            } else {
                // Rows beyond the last are the last again: their sums are not used.
                let rows_at = std::array::from_fn(|r| r.min(here - 1) * row);
                // SAFETY: the caller's promise: no row is beyond `here`.
                unsafe { tile::<F, S, MR, NR>(simd, depth, (a, rows_at, col), b, c, add) }
            }
        }
    }
}

/// `MR` by `NR` sums in registers while the inner index runs, then set or added.
///
/// # Safety
/// Row `r` of the left operand has `depth` values from `a[rows_at[r]]` on, `step` apart; `b` holds
/// `depth` rows; `c` is valid for reads and writes of `MR` rows of `NR` values, `stride` apart.
#[inline(always)]
#[expect(unsafe_code, reason = "bounds checks would cost more than the product")]
unsafe fn tile<F: Real, S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    depth: usize,
    (a, rows_at, step): (*const F, [usize; MR], usize),
    b: &[F],
    (c, stride): (*mut F, usize),
    add: bool,
) {
    if const { S::TILE_COLUMNS == NR && F::IS_F32 } {
        let (a, b, c) = (a.cast(), b.as_ptr().cast(), c.cast());
        let (a, b, c) = ((a, rows_at, step), (b, NR), (c, stride));
        // SAFETY: F is `f32`; the rest is the caller's promise.
        return unsafe { simd.tile::<MR, NR>(depth, a, b, c, add) };
    }
    let mut acc = [[F::ZERO; NR]; MR];
    for (l, row) in b.as_chunks::<NR>().0[..depth].iter().enumerate() {
        for (sums, at) in acc.iter_mut().zip(rows_at) {
            // SAFETY: the caller's promise: `l < depth`.
            let x = unsafe { *a.add(at + l * step) };
            for (sum, &b) in sums.iter_mut().zip(row) {
                *sum = x.mul_add_if::<S>(b, *sum);
            }
        }
    }
    for (r, sums) in acc.iter().enumerate() {
        // SAFETY: the caller's promise: `r < MR`.
        let c = unsafe { &mut *c.add(r * stride).cast::<[F; NR]>() };
        for (c, &sum) in c.iter_mut().zip(sums) {
            *c = if add { *c + sum } else { sum };
        }
    }
}
