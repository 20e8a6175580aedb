//! Small matrix products inside one kernel, for attention's many little blocks.
//!
//! A general product costs about a microsecond of dispatch and packing, as much as a whole block
//! of attention with small heads. Here the right operand is packed once into panels of
//! [`PANEL`] columns and reused by every block of rows; the left operand is read with strides.

use crate::model::ops::Real;

/// Columns of a panel: one AVX-512 register of `f32`.
pub(super) const PANEL: usize = 16;

/// Packs the `(k, n)` matrix at `b` with strides `(rs, cs)`: for each 16 columns, `k` rows of 16
/// values, the last panel filled up with zeros.
#[inline(always)]
pub(super) fn pack<F: Real>(
    b: &[F],
    (k, n): (usize, usize),
    (rs, cs): (usize, usize),
    out: &mut Vec<F>,
) {
    out.clear();
    out.resize(n.div_ceil(PANEL) * k * PANEL, F::zero());
    for (p, panel) in out.chunks_exact_mut(k * PANEL).enumerate() {
        let cols = (n - p * PANEL).min(PANEL);
        if cs == 1 && cols == PANEL {
            for (row, out) in panel.chunks_exact_mut(PANEL).enumerate() {
                let at = row * rs + p * PANEL;
                out.copy_from_slice(&b[at..at + PANEL]);
            }
        } else if rs == 1 {
            for col in 0..cols {
                let at = (p * PANEL + col) * cs;
                for (row, &v) in b[at..at + k].iter().enumerate() {
                    panel[row * PANEL + col] = v;
                }
            }
        } else {
            for (row, out) in panel.chunks_exact_mut(PANEL).enumerate() {
                for (col, out) in out[..cols].iter_mut().enumerate() {
                    *out = b[row * rs + (p * PANEL + col) * cs];
                }
            }
        }
    }
}

/// The left operand: `rows` by `k` values at strides.
#[derive(Clone, Copy)]
pub(super) struct Left<'a, F> {
    pub(super) data: &'a [F],
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// The right operand: `panels` panels, `stride` apart, of which the first `k` rows are used.
#[derive(Clone, Copy)]
pub(super) struct Right<'a, F> {
    pub(super) data: &'a [F],
    pub(super) stride: usize,
    pub(super) panels: usize,
}

/// `c (m, panels * 16) = a (m, k) b`, or `+=` if `ADD`; `c` has rows of `c_stride`.
#[inline(always)]
pub(super) fn multiply<F: Real, const FMA: bool, const ADD: bool>(
    (m, k): (usize, usize),
    a: Left<'_, F>,
    b: Right<'_, F>,
    c: &mut [F],
    c_stride: usize,
) {
    if m == 0 || k == 0 || b.panels == 0 {
        if !ADD {
            c.fill(F::zero());
        }
        return;
    }
    assert!((m - 1) * a.row_stride + (k - 1) * a.col_stride < a.data.len());
    assert!((b.panels - 1) * b.stride + k * PANEL <= b.data.len());
    assert!((m - 1) * c_stride + b.panels * PANEL <= c.len());
    for p in 0..b.panels {
        let panel = &b.data[p * b.stride..p * b.stride + k * PANEL];
        let mut row = 0;
        while row + 8 <= m {
            tile::<F, FMA, ADD, 8>(
                a,
                row,
                panel,
                &mut c[row * c_stride + p * PANEL..],
                c_stride,
            );
            row += 8;
        }
        if row + 4 <= m {
            tile::<F, FMA, ADD, 4>(
                a,
                row,
                panel,
                &mut c[row * c_stride + p * PANEL..],
                c_stride,
            );
            row += 4;
        }
        while row < m {
            tile::<F, FMA, ADD, 1>(
                a,
                row,
                panel,
                &mut c[row * c_stride + p * PANEL..],
                c_stride,
            );
            row += 1;
        }
    }
}

/// `ROWS` rows of the result in registers while the inner index runs.
#[inline(always)]
fn tile<F: Real, const FMA: bool, const ADD: bool, const ROWS: usize>(
    a: Left<'_, F>,
    first: usize,
    panel: &[F],
    c: &mut [F],
    c_stride: usize,
) {
    let mut acc = [[F::zero(); PANEL]; ROWS];
    let mut at = first * a.row_stride;
    for b in panel.chunks_exact(PANEL) {
        for (r, acc) in acc.iter_mut().enumerate() {
            #[expect(unsafe_code, reason = "bounds checks cost more than the product here")]
            // SAFETY: `multiply` asserts that the last row and column lie in `a.data`; this row is
            // below `m`, and `at` has taken fewer than `k` steps of `col_stride`.
            let x = unsafe { *a.data.get_unchecked(at + r * a.row_stride) };
            for (acc, &b) in acc.iter_mut().zip(b) {
                *acc = x.mul_add_if::<FMA>(b, *acc);
            }
        }
        at += a.col_stride;
    }
    for (r, acc) in acc.iter().enumerate() {
        let out = &mut c[r * c_stride..r * c_stride + PANEL];
        for (out, &v) in out.iter_mut().zip(acc) {
            *out = if ADD { *out + v } else { v };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::simd::kernel;

    kernel! {
        fn product<F>(m: usize, k: usize, a: &[F], panels: &[F], count: usize, c: &mut [F]) {
            let a = Left { data: a, row_stride: k, col_stride: 1 };
            let b = Right { data: panels, stride: k * PANEL, panels: count };
            multiply::<F, FMA, false>((m, k), a, b, c, count * PANEL);
        }
    }

    #[test]
    fn panel_products_agree_with_the_sum_over_the_inner_index() {
        let (m, k, n) = (13, 7, 37);
        let a: Vec<f64> = (0..m * k).map(|i| (i as f64).sin()).collect();
        let b: Vec<f64> = (0..k * n).map(|i| (i as f64).cos()).collect();
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        pack(&b, (k, n), (n, 1), &mut rows);
        let transposed: Vec<f64> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        pack(&transposed, (k, n), (1, k), &mut columns);
        assert_eq!(rows, columns);
        let mut c = vec![0.0; m * 48];
        product(m, k, &a, &rows, 3, &mut c);
        for i in 0..m {
            for j in 0..n {
                let want: f64 = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
                assert!((c[i * 48 + j] - want).abs() < 1e-12);
            }
        }
    }
}
