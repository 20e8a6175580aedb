//! Small matrix products inside one kernel, for attention's many little blocks.
//!
//! A general product costs about a microsecond of dispatch and packing, as much as a whole block
//! of attention with small heads. Here the right operand is read in panels of [`PANEL`] columns,
//! packed once or lying in rows of a block anyway; the left operand is read with strides. Every
//! element of a result is one sum in the order of the inner index, whatever the tiles.

use crate::isa::Simd;
use crate::real::Real;

/// Columns of a panel: one AVX-512 register of `f32`, two of AVX2.
pub const PANEL: usize = 16;

/// Columns of the last panel if no more are needed: heads are often so narrow.
pub const NARROW: usize = 8;

/// Rows that the tallest tiles have; blocks that are cut at multiples of it waste nothing.
pub const TALL: usize = 12;

/// Packs the `(k, n)` matrix at `b` with strides `(rs, cs)`, one of them 1: for each 16 columns,
/// `k` rows of 16 values; the last panel has 8 columns if that makes `width` columns in all.
/// Columns from `n` on are zero.
#[inline(always)]
pub fn pack<F: Real>(
    b: &[F],
    (k, n): (usize, usize),
    (rs, cs): (usize, usize),
    width: usize,
    out: &mut Vec<F>,
) {
    debug_assert!(width >= n && width.is_multiple_of(NARROW) && (rs == 1 || cs == 1));
    if out.len() < width * k {
        out.resize(width * k, F::ZERO);
    }
    for first in (0..width).step_by(PANEL) {
        let panel = &mut out[first * k..(first + PANEL).min(width) * k];
        let w = (width - first).min(PANEL);
        let cols = n.saturating_sub(first).min(w);
        if rs == 1 {
            transpose(&b[first * cs..], cs, (cols, k), panel, w, F::ONE);
        } else {
            for (row, out) in panel.chunks_exact_mut(w).enumerate() {
                out[..cols].copy_from_slice(&b[row * rs + first..row * rs + first + cols]);
            }
        }
        if cols < w {
            for row in panel.chunks_exact_mut(w) {
                row[cols..].fill(F::ZERO);
            }
        }
    }
}

/// `to[j][i] = factor * from[i][j]` for `rows` rows and `cols` columns of `from`, in squares that
/// fit registers, so that neither side is walked by columns.
#[inline(always)]
pub fn transpose<F: Real>(
    from: &[F],
    from_stride: usize,
    (rows, cols): (usize, usize),
    to: &mut [F],
    to_stride: usize,
    factor: F,
) {
    const SIDE: usize = 8;
    let (whole_rows, whole_cols) = (rows / SIDE * SIDE, cols / SIDE * SIDE);
    for j in (0..whole_cols).step_by(SIDE) {
        for i in (0..whole_rows).step_by(SIDE) {
            let mut square = [[F::ZERO; SIDE]; SIDE];
            for (r, line) in square.iter_mut().enumerate() {
                let at = (i + r) * from_stride + j;
                line.copy_from_slice(&from[at..at + SIDE]);
            }
            for (c, to) in to[j * to_stride..]
                .chunks_mut(to_stride)
                .take(SIDE)
                .enumerate()
            {
                for (to, line) in to[i..i + SIDE].iter_mut().zip(&square) {
                    *to = line[c] * factor;
                }
            }
        }
    }
    for j in 0..cols {
        for i in if j < whole_cols { whole_rows } else { 0 }..rows {
            to[j * to_stride + i] = from[i * from_stride + j] * factor;
        }
    }
}

/// The left operand: `rows` by `k` values at strides.
#[derive(Clone, Copy)]
pub struct Left<'a, F> {
    /// From the first value on.
    pub data: &'a [F],
    /// Between the values of a column.
    pub row_stride: usize,
    /// Between the values of a row.
    pub col_stride: usize,
}

/// One panel of a right operand: `k` rows, `stride` apart.
#[derive(Clone, Copy)]
pub struct Panel<'a, F> {
    /// From the first row on.
    pub data: &'a [F],
    /// Between rows.
    pub stride: usize,
}

/// A right operand of `rows` rows by [`pack`], of which those from `first` on are used.
#[derive(Clone, Copy)]
pub struct Packed<'a, F> {
    /// All of it.
    pub data: &'a [F],
    /// How many it has.
    pub rows: usize,
    /// The first that is used.
    pub first: usize,
}

/// `c (m, n) = a (m, k) b (k, n)`, or `+=` if `ADD`, for `n` a multiple of 8, all packed columns;
/// `c` has rows of `c_stride`.
#[inline(always)]
pub fn multiply<F: Real, S: Simd, const ADD: bool>(
    simd: S,
    (m, k, n): (usize, usize, usize),
    a: Left<'_, F>,
    b: Packed<'_, F>,
    c: &mut [F],
    c_stride: usize,
) {
    let whole = n / PANEL * PANEL;
    for col in (0..whole).step_by(PANEL) {
        let (data, stride) = (&b.data[col * b.rows + b.first * PANEL..], PANEL);
        let panel = Panel { data, stride };
        multiply_panel::<F, S, ADD, PANEL>(simd, (m, k), a, panel, &mut c[col..], c_stride);
    }
    if whole < n {
        let (data, stride) = (&b.data[whole * b.rows + b.first * NARROW..], NARROW);
        let panel = Panel { data, stride };
        multiply_panel::<F, S, ADD, NARROW>(simd, (m, k), a, panel, &mut c[whole..], c_stride);
    }
}

/// The `W` columns of a product that one panel gives, see [`multiply`].
#[inline(always)]
pub fn multiply_panel<F: Real, S: Simd, const ADD: bool, const W: usize>(
    simd: S,
    (m, k): (usize, usize),
    a: Left<'_, F>,
    b: Panel<'_, F>,
    c: &mut [F],
    c_stride: usize,
) {
    if m == 0 {
        return;
    }
    if k > 0 {
        assert!((m - 1) * a.row_stride + (k - 1) * a.col_stride < a.data.len());
        assert!((k - 1) * b.stride + W <= b.data.len());
    }
    assert!((m - 1) * c_stride + W <= c.len());
    let mut row = 0;
    // Sixteen registers hold the sums of 6 rows of 16 or of 12 rows of 8, a row of the panel and a
    // value of the left operand; twice as many and as wide ones hold 12 rows of 16.
    macro_rules! tiles {
        ($($rows:literal if $when:expr),* $(,)?) => {$(
            while m - row >= $rows && $when {
                let c = &mut c[row * c_stride..];
                tile::<F, S, ADD, $rows, W>(simd, (a, row), b, k, c, c_stride);
                row += $rows;
            }
        )*};
    }
    // A constant, so that tiles without room are not even compiled.
    if const { S::WIDE || W == NARROW } {
        tiles!(12 if true, 8 if true);
    }
    tiles!(
        // Of 8 rows two tiles of 4 take less time than 6 and 2.
        6 if row + 8 != m,
        4 if true,
        2 if true,
        1 if true,
    );
}

/// `ROWS` rows of the result from `first` on, in registers while the inner index runs.
#[inline(always)]
fn tile<F: Real, S: Simd, const ADD: bool, const ROWS: usize, const W: usize>(
    simd: S,
    (a, first): (Left<'_, F>, usize),
    b: Panel<'_, F>,
    k: usize,
    c: &mut [F],
    c_stride: usize,
) {
    if const { S::TILE_COLUMNS >= W && F::IS_F32 } {
        let rows_at = std::array::from_fn(|r| (first + r) * a.row_stride);
        let left = (a.data.as_ptr().cast(), rows_at, a.col_stride);
        let right = (b.data.as_ptr().cast(), b.stride);
        let c = &mut c[..(ROWS - 1) * c_stride + W];
        let c = (c.as_mut_ptr().cast(), c_stride);
        #[expect(unsafe_code, reason = "bounds checks cost more than the product here")]
        // SAFETY: F is `f32`. `multiply_panel` asserts that `k` columns of all rows lie in `a.data` and
        // `k` rows of `W` values in `b.data`; `c` was cut to `ROWS` rows of as many.
        return unsafe { simd.tile::<ROWS, W>(k, left, right, c, ADD) };
    }
    let mut acc = [[F::ZERO; W]; ROWS];
    let (mut at, mut from) = (first * a.row_stride, 0);
    for _ in 0..k {
        #[expect(unsafe_code, reason = "bounds checks cost more than the product here")]
        // SAFETY: `multiply_panel` asserts that the last of `k` rows of `W` lies in `b.data`;
        // `from` has taken fewer than `k` steps of `b.stride`.
        let b_row = unsafe { b.data.get_unchecked(from..from + W) };
        for (r, acc) in acc.iter_mut().enumerate() {
            #[expect(unsafe_code, reason = "bounds checks cost more than the product here")]
            // SAFETY: `multiply_panel` asserts that the last row and column lie in `a.data`; this
            // row is below `m`, and `at` has taken fewer than `k` steps of `col_stride`.
            let x = unsafe { *a.data.get_unchecked(at + r * a.row_stride) };
            for (acc, &b) in acc.iter_mut().zip(b_row) {
                *acc = x.mul_add_if::<S>(b, *acc);
            }
        }
        at += a.col_stride;
        from += b.stride;
    }
    for (r, acc) in acc.iter().enumerate() {
        let out = &mut c[r * c_stride..r * c_stride + W];
        for (out, &v) in out.iter_mut().zip(acc) {
            *out = if ADD { *out + v } else { v };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::kernel;
    use crate::testing::on_every_set;

    kernel! {
        fn product<F>[simd](size: (usize, usize, usize), a: &[F], b: Packed<'_, F>, c: &mut [F]) {
            let a = Left { data: a, row_stride: size.1, col_stride: 1 };
            multiply::<F, S, false>(simd, size, a, b, c, size.2);
            multiply::<F, S, true>(simd, size, a, b, c, size.2);
        }
    }

    #[test]
    fn panel_products_agree_with_the_sum_over_the_inner_index() {
        for (m, k, n) in [
            (13usize, 7usize, 37usize),
            (8, 1, 5),
            (23, 4, 16),
            (31, 3, 24),
            (1, 9, 48),
        ] {
            let width = n.next_multiple_of(NARROW);
            let a: Vec<f64> = (0..m * k).map(|i| (i as f64).sin()).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i as f64).cos()).collect();
            let (mut rows, mut columns) = (Vec::new(), Vec::new());
            pack(&b, (k, n), (n, 1), width, &mut rows);
            let transposed: Vec<f64> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            pack(&transposed, (k, n), (1, k), width, &mut columns);
            assert_eq!(rows, columns);
            for first in 0..k.min(2) {
                let inner = k - first;
                let a: Vec<f64> = (0..m * inner)
                    .map(|i| a[i / inner * k + first + i % inner])
                    .collect();
                let packed = Packed {
                    data: &rows,
                    rows: k,
                    first,
                };
                let c = on_every_set(|| {
                    let mut c = vec![f64::NAN; m * width];
                    product((m, inner, width), &a, packed, &mut c);
                    c
                });
                for i in 0..m {
                    for j in 0..n {
                        let want: f64 = (0..inner)
                            .map(|l| a[i * inner + l] * b[(first + l) * n + j])
                            .sum();
                        assert!((c[i * width + j] - 2.0 * want).abs() < 1e-12);
                    }
                }
            }
        }
    }

    // Heights of every tile and their tails, inner lengths from one on: those of the sets' own tiles.
    #[test]
    fn panel_products_of_f32_have_the_same_bits_on_every_set() {
        let wave = |len: usize, step: f32| -> Vec<f32> {
            (0..len).map(|i| (i as f32 * step).sin()).collect()
        };
        for m in if cfg!(miri) { 11..13 } else { 1..40 } {
            let (k, n) = (m * 7 % 13 + 1, m % 7 * NARROW + NARROW);
            let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
            let mut packed = Vec::new();
            pack(&b, (k, n), (n, 1), n, &mut packed);
            let packed = Packed {
                data: &packed,
                rows: k,
                first: 0,
            };
            on_every_set(|| {
                let mut c = vec![f32::NAN; m * n];
                product((m, k, n), &a, packed, &mut c);
                for (at, &c) in c.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let terms = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]));
                    let want = 2.0 * terms.sum::<f64>();
                    assert!((f64::from(c) - want).abs() < 1e-5, "{m} {k} {n}");
                }
                c
            });
        }
    }
}
