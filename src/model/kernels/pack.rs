//! Panels of the matrix product: operands copied into the order in which tiles read them.

use crate::isa::{SQUARE, Simd, TileJob, kernel};
use crate::mat::MatRef;
use crate::real::Real;
use std::marker::PhantomData;

/// A right operand `(k, n)`, packed: for each block of the inner index, for each panel of columns,
/// the block's rows of `width` values; the last panel is filled up with zeros.
#[derive(Clone, Copy)]
pub struct Panels<'a, F> {
    /// Block by block.
    pub data: &'a [F],
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// Rows of a block.
    pub block: usize,
    /// Columns of a panel: [`panel_width`] where it was packed.
    pub width: usize,
}

kernel! {
    /// Columns of a panel for the instruction set in use.
    pub fn panel_width<F>[simd]() -> usize {
        simd.with_tile(PanelWidth::<F>(PhantomData))
    }
}

struct PanelWidth<F>(PhantomData<F>);

impl<F: Real> TileJob for PanelWidth<F> {
    type Output = usize;
    const IS_F32: bool = F::IS_F32;

    #[inline(always)]
    fn run<S: Simd, const MR: usize, const LANES: usize, const NR: usize>(self, _: S) -> usize {
        NR
    }
}

kernel! {
    /// Packs rows `k0..k0 + k` and columns `j0..j0 + n` of `b` as [`Panels`] with blocks of `block`
    /// rows.
    pub fn pack<F>[simd](
        b: MatRef<'_, F>, rows: (usize, usize), columns: (usize, usize), block: usize, out: &mut [F],
    ) {
        simd.with_tile(Pack { b, rows, columns, block, out });
    }
}

struct Pack<'a, F> {
    b: MatRef<'a, F>,
    rows: (usize, usize),
    columns: (usize, usize),
    block: usize,
    out: &'a mut [F],
}

impl<F: Real> TileJob for Pack<'_, F> {
    type Output = ();
    const IS_F32: bool = F::IS_F32;

    #[inline(always)]
    fn run<S: Simd, const MR: usize, const LANES: usize, const NR: usize>(self, simd: S) {
        let ((k0, k), (j0, n)) = (self.rows, self.columns);
        let (row, col) = self.b.strides();
        let mut out = self.out;
        for l0 in (0..k).step_by(self.block) {
            let depth = (k - l0).min(self.block);
            for j in (0..n).step_by(NR) {
                let (panel, rest) = out.split_at_mut(depth * NR);
                let from = self.b.from(k0 + l0, j0 + j);
                let lanes = (col, (n - j).min(NR));
                pack_panel::<F, S, NR>(simd, from, lanes, (row, depth), panel);
                out = rest;
            }
        }
    }
}

/// `to[l * W + i] = from[i * lane + l * step]` for `i < lanes`, and zero for the others.
#[inline(always)]
pub fn pack_panel<F: Real, S: Simd, const W: usize>(
    simd: S,
    from: &[F],
    (lane, lanes): (usize, usize),
    (step, depth): (usize, usize),
    to: &mut [F],
) {
    let (to, _) = to.as_chunks_mut::<W>();
    let to = &mut to[..depth];
    if lane == 1 && lanes == W {
        for (to, from) in to.iter_mut().zip(from.chunks(step.max(W))) {
            to.copy_from_slice(&from[..W]);
        }
    } else if step == 1 && lanes == W {
        transpose(simd, from, (lane, lanes), to);
    } else {
        for (l, to) in to.iter_mut().enumerate() {
            for (i, to) in to.iter_mut().enumerate() {
                *to = if i < lanes {
                    from[i * lane + l * step]
                } else {
                    F::ZERO
                };
            }
        }
    }
}

/// Packs `rows` rows of a left operand, `value(from[row * i + step * l])`, in panels of `MR` rows, `panel` values
/// apart, with `LANES >= MR` values for each `l < depth`; lanes without a row hold anything.
///
/// Panels are wider than tiles are high, so that they are written by whole vectors.
#[inline(always)]
pub fn pack_left<F: Real, S: Simd, const MR: usize, const LANES: usize>(
    simd: S,
    from: &[F],
    (row, rows): (usize, usize),
    (step, depth): (usize, usize),
    (to, panel): (&mut [F], usize),
    value: impl Fn(F) -> F,
) {
    if row != 1 {
        let panels = to.chunks_exact_mut(panel).zip((0..rows).step_by(MR));
        for (to, i) in panels {
            let (from, lanes) = (&from[i * row..], (row, (rows - i).min(MR)));
            if step == 1 {
                let (to, _) = to.as_chunks_mut::<LANES>();
                transpose(simd, from, lanes, &mut to[..depth]);
            } else {
                pack_panel::<F, S, LANES>(simd, from, lanes, (step, depth), to);
            }
            for v in &mut to[..LANES * depth] {
                *v = value(*v);
            }
        }
        return;
    }
    // Across the panels: the values of one `l` are neighbours, and down a panel each would be a miss of the first
    // cache, a quarter of the time of a product.
    for l in 0..depth {
        let from = &from[l * step..];
        for (i, to) in (0..rows).step_by(MR).zip(to.chunks_exact_mut(panel)) {
            let (from, to) = (&from[i..], &mut to[l * LANES..]);
            if let (Some(from), Some(to)) =
                (from.first_chunk::<LANES>(), to.first_chunk_mut::<LANES>())
            {
                for (to, &v) in to.iter_mut().zip(from) {
                    *to = value(v);
                }
            } else {
                for (to, &v) in to.iter_mut().zip(&from[..(rows - i).min(MR)]) {
                    *to = value(v);
                }
            }
        }
    }
}

/// `to[l][i] = from[i * lane + l]` for `i < lanes`; further lanes hold anything.
#[inline(always)]
fn transpose<F: Real, S: Simd, const W: usize>(
    simd: S,
    from: &[F],
    (lane, lanes): (usize, usize),
    to: &mut [[F; W]],
) {
    let mut done = 0;
    if const { S::TRANSPOSES && F::IS_F32 && W.is_multiple_of(SQUARE) } {
        done = to.len() / SQUARE * SQUARE;
        assert!(done == 0 || (lanes - 1) * lane + done <= from.len());
        for l in (0..done).step_by(SQUARE) {
            for i in (0..W).step_by(SQUARE) {
                // Lanes beyond the last repeat it.
                let rows = std::array::from_fn(|r| (i + r).min(lanes - 1) * lane + l);
                let to = to[l..l + SQUARE].as_flattened_mut();
                #[expect(
                    unsafe_code,
                    reason = "vectors, which the compiler does not make of this"
                )]
                // SAFETY: F is `f32`. The assert covers the last lane to `done`, so `SQUARE` values
                // from each of `rows` on; `to` has `SQUARE` rows of `W`, and `i + SQUARE <= W`.
                unsafe {
                    let to = to.as_mut_ptr().add(i).cast();
                    simd.transpose_square(from.as_ptr().cast(), rows, to, W);
                }
            }
        }
    }
    for i in 0..lanes {
        let rest = &mut to[done..];
        let line = &from[i * lane + done..][..rest.len()];
        for (to, &v) in rest.iter_mut().zip(line) {
            to[i] = v;
        }
    }
}
