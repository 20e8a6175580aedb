//! Matrix products on slices, and the row split that all parallel kernels share.
//!
//! The product of one thread is that of `product`, whose elements are the same sums whatever is
//! computed together; so threads may cut a result anywhere without changing a bit.

use crate::model::ops::Real;
use crate::model::ops::aligned::Aligned;
use crate::model::ops::product::{
    Panels, Target, inner_block, multiply, multiply_packed, pack, panel_width,
};
use rayon::prelude::*;

/// Rows that a kernel with an output by rows takes at a time; fixed, so that sums over blocks never
/// depend on the number of threads.
pub(super) const ROW_BLOCK: usize = 256;

/// A strided view of a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mat<'a, F> {
    data: &'a [F],
    row_stride: usize,
    col_stride: usize,
}

impl<'a, F: Real> Mat<'a, F> {
    /// Row-major `data` with `cols` columns.
    pub(super) fn new(data: &'a [F], cols: usize) -> Self {
        Self {
            data,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// The transpose of row-major `data` with `cols` columns (before transposing).
    pub(super) fn transposed(data: &'a [F], cols: usize) -> Self {
        Self {
            data,
            row_stride: 1,
            col_stride: cols,
        }
    }

    fn covers(&self, rows: usize, cols: usize) -> bool {
        rows == 0
            || cols == 0
            || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }

    /// Elements from `(row, col)` on.
    #[inline(always)]
    pub(super) fn from(&self, row: usize, col: usize) -> &'a [F] {
        let at = row * self.row_stride + col * self.col_stride;
        &self.data[at.min(self.data.len())..]
    }

    /// Distances of neighbours in a column and in a row.
    #[inline(always)]
    pub(super) fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.col_stride)
    }

    fn skip_rows(self, rows: usize) -> Self {
        Self {
            data: self.from(rows, 0),
            ..self
        }
    }

    /// Without the first `cols` columns.
    pub(super) fn skip_columns(self, cols: usize) -> Self {
        Self {
            data: self.from(0, cols),
            ..self
        }
    }
}

/// What happens to the old content of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    /// It is overwritten.
    Set,
    /// The product is added to it.
    Add,
}

/// A right operand that several products share, packed once.
#[derive(Debug)]
pub(super) struct PackedRight<F> {
    buffer: Aligned<F>,
    k: usize,
    n: usize,
}

impl<F: Real> PackedRight<F> {
    /// Packs `b (k, n)`; takes about as much memory again. Panels of columns in parallel.
    pub(super) fn new(b: Mat<'_, F>, (k, n): (usize, usize)) -> Self {
        assert!(b.covers(k, n), "the operand holds its shape");
        let (block, width) = (inner_block(k), panel_width::<F>());
        let wide = n.next_multiple_of(width);
        let mut buffer = Aligned::zeroed(k * wide);
        let mut tasks = Vec::new();
        for (i, part) in buffer.chunks_mut((block * wide).max(1)).enumerate() {
            let depth = (k - i * block).min(block);
            for (j, part) in part.chunks_mut(depth * width * PANELS).enumerate() {
                let columns = (n - j * PANELS * width).min(PANELS * width);
                tasks.push(((i * block, depth), (j * PANELS * width, columns), part));
            }
        }
        let one = |(rows, columns, part): (_, _, &mut [F])| pack(b, rows, columns, block, part);
        if threads() == 1 || tasks.len() == 1 {
            tasks.into_iter().for_each(one);
        } else {
            tasks.into_par_iter().for_each(one);
        }
        Self { buffer, k, n }
    }

    fn panels(&self) -> Panels<'_, F> {
        Panels {
            data: &self.buffer,
            k: self.k,
            n: self.n,
            block: inner_block(self.k),
        }
    }
}

/// A right operand of several products: packed if it pays.
pub(super) enum Right<'a, F> {
    /// Packed anew in each product.
    AsIs(Mat<'a, F>, (usize, usize)),
    /// Packed once.
    Packed(PackedRight<F>),
}

impl<'a, F: Real> Right<'a, F> {
    /// `b (k, n)` for products with `rows` rows in all, made by blocks of [`ROW_BLOCK`].
    pub(super) fn new(b: Mat<'a, F>, shape: (usize, usize), rows: usize) -> Self {
        if rows > ROW_BLOCK {
            Self::Packed(PackedRight::new(b, shape))
        } else {
            Self::AsIs(b, shape)
        }
    }

    /// `c (m, n) = a (m, k) b`, on the calling thread.
    pub(super) fn multiply(&self, m: usize, a: Mat<'_, F>, c: &mut [F], into: Into) {
        match self {
            Self::AsIs(b, (k, n)) => matmul_block((m, *n, *k), a, *b, c, into),
            Self::Packed(b) => matmul_packed(m, a, b, c, into),
        }
    }

    /// k and n.
    pub(super) fn shape(&self) -> (usize, usize) {
        match self {
            Self::AsIs(_, shape) => *shape,
            Self::Packed(b) => (b.k, b.n),
        }
    }
}

/// Panels of columns that one thread packs at a time.
const PANELS: usize = 16;

/// Multiplications from which on a product is worth a second thread.
const WORTH_THREADS: usize = 1 << 22;

/// Rows of a part of a result that one of the threads makes.
fn rows_per_thread(m: usize) -> usize {
    m.div_ceil(threads()).next_multiple_of(12)
}

/// `c (m, n) = a (m, k) b (k, n)`, `c` row-major; in parallel.
pub(super) fn matmul<F: Real>(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, F>,
    b: Mat<'_, F>,
    c: &mut [F],
    into: Into,
) {
    if threads() == 1 || m * n * k < WORTH_THREADS {
        return matmul_block((m, n, k), a, b, c, into);
    }
    matmul_with(m, a, &PackedRight::new(b, (k, n)), c, into);
}

/// `c (m, n) = a (m, k) b`; in parallel.
pub(super) fn matmul_with<F: Real>(
    m: usize,
    a: Mat<'_, F>,
    b: &PackedRight<F>,
    c: &mut [F],
    into: Into,
) {
    let n = b.n;
    if threads() == 1 || m * n * b.k < WORTH_THREADS {
        return matmul_packed(m, a, b, c, into);
    }
    let rows = rows_per_thread(m);
    c[..m * n]
        .par_chunks_mut(rows * n)
        .enumerate()
        .for_each(|(i, c)| matmul_packed(c.len() / n, a.skip_rows(i * rows), b, c, into));
}

/// As [`matmul`], on the calling thread.
pub(super) fn matmul_block<F: Real>(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, F>,
    b: Mat<'_, F>,
    c: &mut [F],
    into: Into,
) {
    assert!(c.len() >= m * n, "the result holds m * n elements");
    assert!(
        a.covers(m, k) && b.covers(k, n),
        "operands hold their shapes"
    );
    let target = Target {
        at: c.as_mut_ptr(),
        stride: n,
        into,
    };
    if k == 0 && into == Into::Set {
        c[..m * n].fill(F::zero());
    }
    #[expect(unsafe_code, reason = "the product writes through a pointer")]
    // SAFETY: the asserts above keep every index in its slice, and `c` is a unique borrow.
    unsafe {
        multiply((m, n, k), a, b, target);
    }
}

/// `c (m, n) = a (m, k) b`, on the calling thread.
pub(super) fn matmul_packed<F: Real>(
    m: usize,
    a: Mat<'_, F>,
    b: &PackedRight<F>,
    c: &mut [F],
    into: Into,
) {
    assert!(c.len() >= m * b.n, "the result holds m * n elements");
    assert!(a.covers(m, b.k), "the operand holds its shape");
    if b.k == 0 && into == Into::Set {
        c[..m * b.n].fill(F::zero());
    }
    let target = Target {
        at: c.as_mut_ptr(),
        stride: b.n,
        into,
    };
    #[expect(unsafe_code, reason = "the product writes through a pointer")]
    // SAFETY: the asserts above keep every index in its slice, and `c` is a unique borrow.
    unsafe {
        multiply_packed(m, a, b.panels(), target);
    }
}

/// Threads that kernels may use: rayon's, set by `RAYON_NUM_THREADS`.
pub(super) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `f(first_row, rows)` on blocks of [`ROW_BLOCK`] rows of `out`, in parallel.
pub(super) fn for_row_blocks<F: Real>(
    out: &mut [F],
    row_len: usize,
    f: impl Fn(usize, &mut [F]) + Sync + Send,
) {
    if row_len == 0 {
        return;
    }
    let block = ROW_BLOCK * row_len;
    if threads() == 1 || out.len() <= block {
        for (i, rows) in out.chunks_mut(block).enumerate() {
            f(i * ROW_BLOCK, rows);
        }
    } else {
        out.par_chunks_mut(block)
            .enumerate()
            .for_each(|(i, rows)| f(i * ROW_BLOCK, rows));
    }
}

/// As [`for_row_blocks`], over two outputs with the same rows.
pub(super) fn for_row_blocks2<F: Real>(
    (out1, len1): (&mut [F], usize),
    (out2, len2): (&mut [F], usize),
    f: impl Fn(usize, &mut [F], &mut [F]) + Sync + Send,
) {
    if len1 == 0 || len2 == 0 {
        return;
    }
    let (block1, block2) = (ROW_BLOCK * len1, ROW_BLOCK * len2);
    if threads() == 1 || out1.len() <= block1 {
        for (i, (a, b)) in out1
            .chunks_mut(block1)
            .zip(out2.chunks_mut(block2))
            .enumerate()
        {
            f(i * ROW_BLOCK, a, b);
        }
    } else {
        out1.par_chunks_mut(block1)
            .zip(out2.par_chunks_mut(block2))
            .enumerate()
            .for_each(|(i, (a, b))| f(i * ROW_BLOCK, a, b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposes_agree_with_the_sum_over_the_inner_index() {
        let (m, n, k) = (5, 4, 3);
        let a: Vec<f64> = (0..m * k).map(|i| i as f64 * 0.5 - 2.0).collect();
        let b: Vec<f64> = (0..n * k).map(|i| 1.0 - i as f64 * 0.25).collect();
        let mut c = vec![1.0; m * n];
        matmul(
            (m, n, k),
            Mat::new(&a, k),
            Mat::transposed(&b, k),
            &mut c,
            Into::Add,
        );
        for i in 0..m {
            for j in 0..n {
                let want = 1.0 + (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum::<f64>();
                assert!((c[i * n + j] - want).abs() < 1e-12);
            }
        }
    }

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin()).collect()
    }

    // Shapes around every tile, panel and block: rows 1 to 14, columns below and above a panel and
    // from where the left operand is packed, inner lengths of one block, of two, and of many.
    #[test]
    fn products_of_any_shape_are_those_in_double_precision_and_added_to_what_is_there() {
        for (m, n, k) in [
            (1, 1, 1),
            (1, 200, 64),
            (2, 17, 5),
            (5, 16, 320),
            (6, 31, 321),
            (7, 192, 33),
            (13, 193, 700),
            (14, 515, 40),
            (250, 48, 9),
            (3, 1100, 2100),
        ] {
            let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
            let start = wave(m * n, 0.11);
            let lefts = [(Mat::new(&a, k), k, 1), (Mat::transposed(&a, m), 1, m)];
            let rights = [(Mat::new(&b, n), n, 1), (Mat::transposed(&b, k), 1, k)];
            for (left, a_row, a_col) in lefts {
                for (right, b_row, b_col) in rights {
                    let (mut set, mut added) = (vec![f32::NAN; m * n], start.clone());
                    matmul((m, n, k), left, right, &mut set, Into::Set);
                    matmul((m, n, k), left, right, &mut added, Into::Add);
                    for (at, (set, added)) in set.iter().zip(&added).enumerate() {
                        let (i, j) = (at / n, at % n);
                        let term = |l: usize| {
                            f64::from(a[i * a_row + l * a_col])
                                * f64::from(b[l * b_row + j * b_col])
                        };
                        let want: f64 = (0..k).map(term).sum();
                        let most = 1e-6 * (k as f64).sqrt().max(4.0);
                        let sum = want + f64::from(start[at]);
                        assert!(
                            (f64::from(*set) - want).abs() < most,
                            "{m} {n} {k}: {set} {want}"
                        );
                        assert!(
                            (f64::from(*added) - sum).abs() < most,
                            "{m} {n} {k}: {added}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_element_has_the_same_bits_whatever_is_computed_with_it() {
        let (m, n, k) = (67, 530, 650);
        let (a, b) = (wave(m * k, 0.37), wave(k * n, 0.59));
        let mut all = vec![0.0; m * n];
        matmul(
            (m, n, k),
            Mat::new(&a, k),
            Mat::new(&b, n),
            &mut all,
            Into::Set,
        );
        let packed = PackedRight::new(Mat::new(&b, n), (k, n));
        for (rows, columns) in [
            (0..1, 0..530),
            (3..10, 0..17),
            (20..67, 100..301),
            (66..67, 529..530),
        ] {
            let (m, narrow) = (rows.len(), columns.len());
            let a = Mat::new(&a[rows.start * k..rows.end * k], k);
            let (mut some, mut whole) = (vec![0.0; m * narrow], vec![0.0; m * n]);
            let right = Mat::new(&b, n).skip_columns(columns.start);
            matmul((m, narrow, k), a, right, &mut some, Into::Set);
            matmul_packed(m, a, &packed, &mut whole, Into::Set);
            for i in 0..m {
                let want = &all[(rows.start + i) * n..][..n];
                assert_eq!(some[i * narrow..][..narrow], want[columns.clone()]);
                assert_eq!(whole[i * n..][..n], *want);
            }
        }
    }

    #[test]
    fn an_empty_inner_index_sets_zeros_and_adds_nothing_and_no_rows_or_columns_change_nothing() {
        let mut c = [3.0f32; 6];
        matmul(
            (2, 3, 0),
            Mat::new(&[], 0),
            Mat::new(&[], 3),
            &mut c,
            Into::Add,
        );
        assert_eq!(c.map(f32::to_bits), [3.0f32.to_bits(); 6]);
        matmul(
            (2, 3, 0),
            Mat::new(&[], 0),
            Mat::new(&[], 3),
            &mut c,
            Into::Set,
        );
        assert_eq!(c.map(f32::to_bits), [0; 6]);
    }

    #[test]
    fn rows_split_over_threads_give_the_bytes_of_one_thread() {
        let (m, n, k) = (1100, 33, 600);
        let a: Vec<f32> = (0..m * k)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01)
            .collect();
        let b: Vec<f32> = (0..n * k)
            .map(|i| ((i * 53 % 89) as f32 - 44.0) * 0.02)
            .collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut c = vec![0.0f32; m * n];
            pool.install(|| {
                matmul(
                    (m, n, k),
                    Mat::new(&a, k),
                    Mat::transposed(&b, k),
                    &mut c,
                    Into::Set,
                );
            });
            c
        };
        assert_eq!(run(1), run(3));
    }
}
