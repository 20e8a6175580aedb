//! Matrix products on slices, and the row split that all parallel kernels share.
//!
//! The product itself is the `gemm` crate's, single-threaded; threads take blocks of rows of the
//! result, and sums over the inner dimension are never split, so the bytes of a result do not
//! depend on the number of threads.

use crate::model::ops::Real;
use rayon::prelude::*;

/// Rows of a result that one thread computes at a time; fixed, so that blocks never depend on the
/// number of threads.
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

    fn skip_rows(self, rows: usize) -> Self {
        Self {
            data: &self.data[(rows * self.row_stride).min(self.data.len())..],
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

/// `c (m, n) = a (m, k) b (k, n)`, `c` row-major; rows in parallel.
pub(super) fn matmul<F: Real>(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, F>,
    b: Mat<'_, F>,
    c: &mut [F],
    into: Into,
) {
    if n == 0 || m == 0 {
        return;
    }
    if threads() == 1 || m < 2 * ROW_BLOCK {
        return matmul_block((m, n, k), a, b, c, into);
    }
    for_row_blocks(c, n, |first, block| {
        matmul_block((block.len() / n, n, k), a.skip_rows(first), b, block, into);
    });
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
    if k == 0 {
        if into == Into::Set {
            c[..m * n].fill(F::zero());
        }
        return;
    }
    #[expect(unsafe_code, reason = "the gemm crate takes pointers and strides")]
    // SAFETY: the asserts above keep every index in its slice, and `c` is a unique borrow.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n.cast_signed(),
            into == Into::Add,
            a.data.as_ptr(),
            a.col_stride.cast_signed(),
            a.row_stride.cast_signed(),
            b.data.as_ptr(),
            b.col_stride.cast_signed(),
            b.row_stride.cast_signed(),
            F::one(),
            F::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
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
