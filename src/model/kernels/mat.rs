//! Matrices by their strides, and what becomes of a result.

use crate::real::Real;

/// A strided view of a matrix; every row and column that it names lies within its elements.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, F> {
    data: &'a [F],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, F: Real> MatRef<'a, F> {
    /// Row-major `data` with `cols` columns.
    pub fn new(data: &'a [F], cols: usize) -> Self {
        Self {
            data,
            rows: data.len().checked_div(cols).unwrap_or(0),
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// The transpose of row-major `data` with `cols` columns (before transposing).
    pub fn transposed(data: &'a [F], cols: usize) -> Self {
        let plain = Self::new(data, cols);
        Self {
            rows: plain.cols,
            cols: plain.rows,
            row_stride: plain.col_stride,
            col_stride: plain.row_stride,
            ..plain
        }
    }

    /// Whether it has `rows` rows and `cols` columns, or more.
    pub fn covers(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows <= self.rows && cols <= self.cols)
    }

    /// Elements from `(row, col)` on.
    #[inline(always)]
    pub fn from(&self, row: usize, col: usize) -> &'a [F] {
        let at = row * self.row_stride + col * self.col_stride;
        &self.data[at.min(self.data.len())..]
    }

    /// Itself, if its values are `f32`.
    pub fn f32(self) -> Option<MatRef<'a, f32>> {
        let (rows, cols, row_stride, col_stride) =
            (self.rows, self.cols, self.row_stride, self.col_stride);
        F::as_f32(self.data).map(|data| MatRef {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        })
    }

    /// Distances of neighbours in a column and in a row.
    #[inline(always)]
    pub fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.col_stride)
    }

    /// Without the first `rows` rows.
    #[must_use]
    pub fn skip_rows(self, rows: usize) -> Self {
        Self {
            data: self.from(rows, 0),
            rows: self.rows.saturating_sub(rows),
            ..self
        }
    }

    /// Without the first `cols` columns.
    #[must_use]
    pub fn skip_columns(self, cols: usize) -> Self {
        Self {
            data: self.from(0, cols),
            cols: self.cols.saturating_sub(cols),
            ..self
        }
    }
}

/// How a result is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Over the old content.
    Set,
    /// Added to it.
    Add,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_knows_its_rows_and_columns_whichever_way_it_lies() {
        let data = [0.0f32; 12];
        let plain = MatRef::new(&data, 4);
        assert!(plain.covers(3, 4) && !plain.covers(4, 4) && !plain.covers(3, 5));
        let turned = MatRef::transposed(&data, 4);
        assert!(turned.covers(4, 3) && !turned.covers(4, 4));
        assert!(plain.skip_rows(1).covers(2, 4) && !plain.skip_rows(1).covers(3, 4));
        assert!(plain.skip_columns(3).covers(3, 1) && !plain.skip_columns(3).covers(3, 2));
        assert!(MatRef::<f32>::new(&[], 0).covers(7, 0));
    }
}
