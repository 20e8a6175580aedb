//! Blocks of scores and their products, which the forward and the backward pass share.

use crate::isa::Simd;
use crate::lanes::LANES;
use crate::real::Real;
use crate::shape::AttentionShape;
use crate::small_gemm::{Left, PANEL, Packed, Panel, TALL, multiply, multiply_panel};
use std::f64::consts::{LN_2, LOG2_E};

/// Lines of a block, about: small enough for the cache, a multiple of all tiles.
const BLOCK: usize = 48;

/// Tokens of a block; each has one line for every query head that shares a key head, so that
/// packed keys serve all of them and tiles are full.
pub(super) fn tokens_of_block(group: usize) -> usize {
    (BLOCK / group).max(1)
}

/// Buffers of one thread; contents mean nothing between two calls.
pub(super) struct Buffers<F> {
    pub(super) k_by_key: Vec<F>,
    pub(super) v_by_key: Vec<F>,
    pub(super) k_by_dim: Vec<F>,
    pub(super) v_by_dim: Vec<F>,
    /// Queries and gradients of a block, `E` values a line.
    pub(super) queries: Vec<F>,
    pub(super) grads: Vec<F>,
    pub(super) scores: Vec<F>,
    pub(super) d_scores: Vec<F>,
    /// A block's result, the padded head width a line.
    pub(super) mixed: Vec<F>,
    /// One value a line.
    pub(super) sums: Vec<F>,
    pub(super) tops: Vec<F>,
    /// Gradients of keys and values, transposed: `E` lines.
    pub(super) dk: Vec<F>,
    pub(super) dv: Vec<F>,
}

impl<F: Real> Buffers<F> {
    pub(super) fn new() -> Self {
        Self {
            k_by_key: Vec::new(),
            v_by_key: Vec::new(),
            k_by_dim: Vec::new(),
            v_by_dim: Vec::new(),
            queries: Vec::new(),
            grads: Vec::new(),
            scores: Vec::new(),
            d_scores: Vec::new(),
            mixed: Vec::new(),
            sums: Vec::new(),
            tops: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
        }
    }
}

/// At least `len` elements of a buffer.
pub(super) fn at_least<F: Real>(buffer: &mut Vec<F>, len: usize) -> &mut [F] {
    if buffer.len() < len {
        buffer.resize(len, F::ZERO);
    }
    &mut buffer[..len]
}

/// Distance of lines of `wide` values, a multiple of [`PANEL`]: an odd number of panels, lest a
/// column of them fall on few sets of the cache.
pub(super) fn stride_of(wide: usize) -> usize {
    wide | PANEL
}

/// The factor on queries that makes dot products with keys binary logs, or the argument of
/// [`capped`].
pub(super) fn fold<F: Real>(shape: &AttentionShape) -> F {
    F::of(shape.scale * LOG2_E * shape.softcap.map_or(1.0, |cap| 2.0 / cap))
}

/// What the gradient of the scores has to be multiplied by, if the product is with folded queries.
pub(super) fn unfold<F: Real>(shape: &AttentionShape) -> F {
    F::of(LN_2 * shape.softcap.map_or(1.0, |cap| cap / 2.0))
}

/// The cap on scores that are binary logs.
pub(super) fn binary_cap<F: Real>(shape: &AttentionShape) -> Option<F> {
    shape.softcap.map(|cap| F::of(cap * LOG2_E))
}

/// Hyperbolic tangent of `x ln 2 / 2`: `1 - 2 / (1 + 2^x)`; absolute error 1e-7.
#[inline(always)]
pub(super) fn capped<F: Real, S: Simd>(x: F) -> F {
    let (two, most) = (F::of(2.0), F::of(126.0));
    // A comparison rather than `min`, so that a NaN passes through.
    let x = if x > most { most } else { x };
    F::ONE - two / (F::ONE + x.exp2_if::<S>())
}

/// Upper bounds of the last [`LANES`] scores of a line; a window that begins later drops more.
pub(super) type Bounds<F> = [F; 2 * LANES];

/// Infinity for what is kept, minus infinity for what is dropped.
#[inline(always)]
pub(super) fn bounds<F: Real>() -> Bounds<F> {
    std::array::from_fn(|i| {
        if i < LANES {
            -F::NEG_INFINITY
        } else {
            F::NEG_INFINITY
        }
    })
}

/// Makes scores outside `lo..hi` minus infinity, where `hi` is in the last [`LANES`] of the line.
/// A NaN among the last kept ones becomes infinity; it makes the line's softmax NaN all the same.
#[inline(always)]
pub(super) fn mask<F: Real>(line: &mut [F], (lo, hi): (usize, usize), bounds: &Bounds<F>) {
    let dropped = line.len() - hi;
    line[..lo].fill(F::NEG_INFINITY);
    if let Some(last) = line.last_chunk_mut::<LANES>() {
        // A minimum, since the compiler makes branches of a choice by index, and these are not
        // predictable.
        for (v, &bound) in last.iter_mut().zip(&bounds[dropped..dropped + LANES]) {
            *v = if *v < bound { *v } else { bound };
        }
    }
}

/// Copies `width` values of each row of `stride`, times `factor`, behind one another.
#[inline(always)]
pub(super) fn gather<F: Real>(
    rows: usize,
    (from, stride, width): (&[F], usize, usize),
    factor: F,
    to: &mut Vec<F>,
) {
    let to = at_least(to, rows * width);
    for (row, to) in to.chunks_exact_mut(width).enumerate() {
        for (to, &v) in to.iter_mut().zip(&from[row * stride..row * stride + width]) {
            *to = v * factor;
        }
    }
}

/// Rows of scores ("lines") against neighbouring keys. Line `l` is of token `l / group`; the later
/// the token, the more keys it sees, so the scores that count are block-triangular. They are computed
/// in blocks of [`TALL`] lines by [`PANEL`] keys.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Lines of one token.
    pub(super) group: usize,
    pub(super) lines: usize,
    /// Keys before the end of what the first token sees.
    pub(super) sees: usize,
    /// The block's first key.
    pub(super) base: usize,
    /// Keys of the block, a multiple of [`PANEL`].
    pub(super) cols: usize,
}

impl Block {
    /// The block's keys before the end of what a token sees.
    #[inline(always)]
    pub(super) fn seen(&self, token: usize) -> usize {
        (self.sees + token).saturating_sub(self.base).min(self.cols)
    }

    /// The first line of the row block in which a key is first seen.
    #[inline(always)]
    pub(super) fn first_row(&self, key: usize) -> usize {
        (self.base + key + 1).saturating_sub(self.sees) * self.group / TALL * TALL
    }

    /// What the last line of a row block sees; `line` is any of the block.
    #[inline(always)]
    fn row_limit(&self, line: usize) -> usize {
        let last = (line / TALL * TALL + TALL).min(self.lines) - 1;
        self.seen(last / self.group)
    }

    /// Columns of a line that [`Self::dots`] computes.
    #[inline(always)]
    pub(super) fn computed(&self, line: usize) -> usize {
        self.row_limit(line).next_multiple_of(PANEL)
    }

    /// Dot products of each of `lines (lines, e)` with the block's keys, packed by key.
    #[inline(always)]
    pub(super) fn dots<F: Real, S: Simd>(
        &self,
        simd: S,
        (lines, e): (&[F], usize),
        keys: &[F],
        scores: &mut [F],
        stride: usize,
    ) {
        for key in (0..self.cols).step_by(PANEL) {
            let line = self.first_row(key);
            let left = Left {
                data: &lines[line * e..],
                row_stride: e,
                col_stride: 1,
            };
            let panel = Panel {
                data: &keys[key * e..],
                stride: PANEL,
            };
            multiply_panel::<F, S, false, PANEL>(
                simd,
                (self.lines - line, e),
                left,
                panel,
                &mut scores[line * stride + key..],
                stride,
            );
        }
    }

    /// Sums of values, packed by dimension into `width` columns, weighted with each line of
    /// scores; scores that no line of a step sees are not read.
    #[inline(always)]
    pub(super) fn mix<F: Real, S: Simd, const ADD: bool>(
        &self,
        simd: S,
        (scores, stride): (&[F], usize),
        values: Packed<'_, F>,
        mixed: &mut [F],
        width: usize,
    ) {
        for line in (self.first_row(0)..self.lines).step_by(TALL) {
            let left = Left {
                data: &scores[line * stride..],
                row_stride: stride,
                col_stride: 1,
            };
            multiply::<F, S, ADD>(
                simd,
                (TALL.min(self.lines - line), self.row_limit(line), width),
                left,
                values,
                &mut mixed[line * width..],
                width,
            );
        }
    }

    /// Adds to each key's column of `sums (e, sums_stride)` the `lines (lines, e)` weighted with
    /// its scores.
    #[inline(always)]
    pub(super) fn mix_lines<F: Real, S: Simd>(
        &self,
        simd: S,
        (scores, stride): (&[F], usize),
        (lines, e): (&[F], usize),
        sums: &mut [F],
        sums_stride: usize,
    ) {
        for key in (0..self.cols).step_by(PANEL) {
            let line = self.first_row(key);
            let left = Left {
                data: &lines[line * e..],
                row_stride: 1,
                col_stride: e,
            };
            let panel = Panel {
                data: &scores[line * stride + key..],
                stride,
            };
            multiply_panel::<F, S, true, PANEL>(
                simd,
                (e, self.lines - line),
                left,
                panel,
                &mut sums[key..],
                sums_stride,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::kernel;
    use crate::testing::on_every_set;

    kernel! {
        fn cap_all<F>(x: &mut [F]) {
            for v in x.iter_mut() {
                *v = capped::<F, S>(*v);
            }
        }
    }

    #[test]
    fn caps_agree_with_the_library_and_saturate() {
        let x: Vec<f32> = (-400..400).map(|i| i as f32 * 0.05).collect();
        let want: Vec<f64> = x
            .iter()
            .map(|&x| (f64::from(x) * LN_2 / 2.0).tanh())
            .collect();
        on_every_set(|| {
            let mut x = x.clone();
            cap_all(&mut x);
            for (&got, want) in x.iter().zip(&want) {
                assert!((f64::from(got) - want).abs() < 2e-7);
            }
            x
        });
        let mut edge = [f32::NEG_INFINITY, 1e30, f32::INFINITY, f32::NAN];
        cap_all(&mut edge);
        assert_eq!(edge[..3], [-1.0, 1.0, 1.0]);
        assert!(edge[3].is_nan());
    }

    #[test]
    fn masks_drop_everything_outside_and_nothing_inside() {
        for hi in 33..=48 {
            let mut line = [f32::NAN; 48];
            line[3..hi].fill(1.0);
            mask(&mut line, (3, hi), &bounds());
            for (i, &v) in line.iter().enumerate() {
                let seen = (3..hi).contains(&i);
                let want = if seen { 1.0 } else { f32::NEG_INFINITY };
                assert_eq!(v.to_bits(), want.to_bits());
            }
        }
    }

    #[test]
    fn steps_cover_all_that_is_seen_and_have_one_edge() {
        for (group, tokens, sees, base) in [
            (1, 48, 1, 0),
            (2, 24, 70, 64),
            (3, 5, 16, 64),
            (7, 6, 200, 0),
        ] {
            let (lines, cols) = (group * tokens, 64);
            let block = Block {
                group,
                lines,
                sees,
                base,
                cols,
            };
            for line in 0..lines {
                for key in 0..cols {
                    let computed = key < block.computed(line);
                    assert!(computed || key >= block.seen(line / group));
                    let panel = key / PANEL * PANEL;
                    assert_eq!(computed, line >= block.first_row(panel));
                }
            }
        }
    }
}
