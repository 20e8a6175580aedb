//! The matrix product of operands rounded to bf16, summed in `f32` in the order of AMX.
//!
//! AMX makes these products in tiles, several times as fast as vectors multiply `f32`. Its order of sums
//! is a matter of definition (Intel's manual, TDPBF16PS), and so every set keeps to it, to the bit:
//!
//! - The inner index is cut into steps of [`STEP`] values, the last filled up with zeros.
//! - A step makes two sums from zero, of the values with an even and of those with an odd place, each by
//!   multiply-adds in order with one rounding. First the two are added, then their sum to the result.
//! - Numbers below the smallest normal one are zero, where they are read and where they are written.
//!
//! A result is set (begun at zero) or added to. So, as with `gemm`, an element depends on its row and its
//! column alone, and any processor gives the bytes of any other.

use crate::aligned::Aligned;
use crate::isa::{Isa, LeftRows, Simd, TileJob, isa, kernel};
#[cfg(target_arch = "x86_64")]
use crate::isa::{Pairing, SIDE};
use crate::mat::{MatRef, Store};
use crate::pack::{pack_left, pack_panel, panel_width};
#[cfg(target_arch = "x86_64")]
use crate::pairs;
use crate::real::Real;
use std::any::Any;
use std::cell::RefCell;

/// Values of the inner index whose sum is added to the result at once.
pub const STEP: usize = 32;
/// Values of the inner index that are packed as a block: a panel of AMX takes 32 KiB, one of 16 columns
/// of vectors 16 KiB, those of 32 columns 32 KiB, of a first cache of 32 or 48 KiB.
pub const BLOCK: usize = 256;
/// Rows of the left operand that are packed at once; a multiple of the rows of every tile.
const ROWS: usize = 192;

/// Columns of a packed panel for the set in use, and whether it is of pairs of bf16.
pub fn panel<F: Real>() -> (usize, bool) {
    #[cfg(target_arch = "x86_64")]
    if F::IS_F32 && matches!(isa(), Isa::Amx(_) | Isa::Avx512Bf16(_)) {
        return (SIDE, true);
    }
    (panel_width::<F>(), false)
}

/// A right operand `(k, n)`, packed for the set in use: block by block of [`BLOCK`] rows, panel by panel of
/// as many columns as [`panel`] says, rounded, filled up with zeros to whole steps and panels.
#[derive(Clone, Copy)]
pub struct Panels<'a, F> {
    /// Values; none where the set multiplies pairs.
    pub values: &'a [F],
    /// Pairs of bf16 for such a set; else none.
    pub pairs: &'a [u32],
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
}

thread_local! {
    static LEFT: RefCell<Aligned<f32>> = RefCell::new(Aligned::zeroed(0));
    static LEFT_PAIRS: RefCell<Aligned<u32>> = RefCell::new(Aligned::zeroed(0));
}

/// `c (m, n) = a (m, k) b` or added to it, on the calling thread; `c` is row-major.
pub fn multiply<F: Real>(m: usize, a: MatRef<'_, F>, b: Panels<'_, F>, c: &mut [F], store: Store) {
    assert!(c.len() >= m * b.n, "the result holds m * n elements");
    assert!(a.covers(m, b.k), "the operand holds its shape");
    let c = &mut c[..m * b.n];
    if store == Store::Set && b.k == 0 {
        c.fill(F::ZERO);
    }
    if m == 0 || b.n == 0 || b.k == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let (Some(a), Some(c)) = (a.f32(), F::as_f32_mut(c)) {
        let (b, c) = ((b.pairs, b.k, b.n), (&mut *c, store));
        match isa() {
            Isa::Amx(set) => {
                let tiles = set.tiles();
                return LEFT_PAIRS
                    .with_borrow_mut(|l| paired::multiply((&tiles, set.pairs()), m, a, b, c, l));
            }
            Isa::Avx512Bf16(set) => {
                return LEFT_PAIRS
                    .with_borrow_mut(|l| paired::multiply((&set, set), m, a, b, c, l));
            }
            _ => {}
        }
    }
    LEFT.with_borrow_mut(|left| {
        let left: &mut dyn Any = left;
        match left.downcast_mut() {
            Some(left) => multiply_rounded(m, a, b, (c, store), left),
            None => multiply_rounded(m, a, b, (c, store), &mut Aligned::zeroed(0)),
        }
    });
}

/// Rounds what was packed, whose first `filled` values mean something, and makes the rest zero.
#[inline(always)]
fn finish<F: Real>(panel: &mut [F], filled: usize) {
    let (values, rest) = panel.split_at_mut(filled);
    for v in values {
        *v = v.rounded_to_bf16();
    }
    rest.fill(F::ZERO);
}

kernel! {
    /// Packs rows `k0..k0 + depth` (of one block) and columns `j0..j0 + n` of `b` for sets that multiply `f32`.
    pub fn pack_values<F>[simd](
        b: MatRef<'_, F>, rows: (usize, usize), columns: (usize, usize), out: &mut [F],
    ) {
        simd.with_tile(Pack { b, rows, columns, out });
    }
}

/// Packs rows `k0..k0 + depth` (of one block) and columns `j0..j0 + n` of `b` for a set that multiplies
/// pairs.
pub fn pack_pairs<F: Real>(
    b: MatRef<'_, F>,
    (k0, depth): (usize, usize),
    (j0, n): (usize, usize),
    out: &mut [u32],
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(b) = b.f32() {
        let ((row, col), from) = (b.strides(), b.from(k0, j0));
        let (set, pairing) = match isa() {
            Isa::Amx(set) => (set.pairs(), Pairing::Neighbours),
            Isa::Avx512Bf16(set) => (set, Pairing::Sums),
            _ => unreachable!("no other set multiplies pairs"),
        };
        return pairs::pack_pairs(set, from, (col, n), (row, depth), (true, pairing), out);
    }
    unreachable!(
        "pairs are of `f32` for AMX: {k0} {depth} {j0} {n} {}",
        out.len()
    );
}

struct Pack<'a, F> {
    b: MatRef<'a, F>,
    rows: (usize, usize),
    columns: (usize, usize),
    out: &'a mut [F],
}

impl<F: Real> TileJob for Pack<'_, F> {
    type Output = ();
    const IS_F32: bool = F::IS_F32;

    #[inline(always)]
    fn run<S: Simd, const MR: usize, const LANES: usize, const NR: usize>(self, simd: S) {
        let ((k0, depth), (j0, n)) = (self.rows, self.columns);
        let (row, col) = self.b.strides();
        let panels = self.out.chunks_exact_mut(depth.next_multiple_of(STEP) * NR);
        for (j, panel) in (0..n).step_by(NR).zip(panels) {
            let (from, lanes) = (self.b.from(k0, j0 + j), (col, (n - j).min(NR)));
            pack_panel::<F, S, NR>(simd, from, lanes, (row, depth), panel);
            finish(panel, depth * NR);
        }
    }
}

kernel! {
    /// [`multiply`] by vectors, or value by value.
    fn multiply_rounded<F>[simd](
        m: usize, a: MatRef<'_, F>, b: Panels<'_, F>, c: (&mut [F], Store), left: &mut Aligned<F>,
    ) {
        simd.with_bf16_tile(Blocks { m, a, b, c, left });
    }
}

struct Blocks<'a, F> {
    m: usize,
    a: MatRef<'a, F>,
    b: Panels<'a, F>,
    c: (&'a mut [F], Store),
    left: &'a mut Aligned<F>,
}

impl<F: Real> TileJob for Blocks<'_, F> {
    type Output = ();
    const IS_F32: bool = F::IS_F32;

    #[inline(always)]
    fn run<S: Simd, const MR: usize, const LANES: usize, const NR: usize>(self, simd: S) {
        let (m, n, k) = (self.m, self.b.n, self.b.k);
        let wide = n.next_multiple_of(NR);
        let held = k.next_multiple_of(STEP) * wide;
        assert!(
            self.b.values.len() >= held,
            "packed for the instruction set in use"
        );
        let (c, store) = self.c;
        for i0 in (0..m).step_by(ROWS) {
            let rows = (m - i0).min(ROWS);
            let c = &mut c[i0 * n..][..rows * n];
            for k0 in (0..k).step_by(BLOCK) {
                let depth = (k - k0).min(BLOCK);
                let padded = depth.next_multiple_of(STEP);
                let set = k0 == 0 && store == Store::Set;
                let left = self.left.at_least(rows.div_ceil(MR) * LANES * padded);
                let from = (self.a.from(i0, k0), self.a.strides());
                let lie = lay::<F, S, MR, LANES>(simd, from, (rows, depth), left);
                for j in (0..n).step_by(NR) {
                    let width = (n - j).min(NR);
                    let right = &self.b.values[k0 * wide + j * padded..][..padded * NR];
                    let whole = if width == NR { rows / MR } else { 0 };
                    let a = (&*left, lie);
                    tiles::<F, S, MR, NR>(simd, whole, a, right, (&mut c[j..], n), set);
                    for i in whole..rows.div_ceil(MR) {
                        let a = (&left[i * lie.tile..], lie);
                        let size = ((rows - i * MR).min(MR), width);
                        let c = &mut c[i * MR * n + j..];
                        with_whole_tile::<F, MR, NR>(size, (c, n), !set, |c| {
                            tiles::<F, S, MR, NR>(simd, 1, a, right, c, set);
                        });
                    }
                }
            }
        }
    }
}

/// Lays `rows` rows of `depth` values, rounded and filled up with zeros to whole steps: as they lie, if a
/// row's values are neighbours, since transposing them would cost more than tiles gain; else in panels.
#[inline(always)]
fn lay<F: Real, S: Simd, const MR: usize, const LANES: usize>(
    simd: S,
    (from, (row, col)): (&[F], (usize, usize)),
    (rows, depth): (usize, usize),
    left: &mut [F],
) -> LeftRows {
    let padded = depth.next_multiple_of(STEP);
    if col == 1 {
        for (i, to) in left.chunks_exact_mut(padded).take(rows).enumerate() {
            let (to, rest) = to.split_at_mut(depth);
            for (to, v) in to.iter_mut().zip(&from[i * row..][..depth]) {
                *to = v.rounded_to_bf16();
            }
            rest.fill(F::ZERO);
        }
        return LeftRows {
            row: padded,
            step: 1,
            tile: MR * padded,
        };
    }
    let to = (&mut *left, LANES * padded);
    let round = |v: F| v.rounded_to_bf16();
    pack_left::<F, S, MR, LANES>(simd, from, (row, rows), (col, depth), to, round);
    for panel in left.chunks_exact_mut(LANES * padded) {
        panel[LANES * depth..].fill(F::ZERO);
    }
    LeftRows {
        row: 1,
        step: LANES,
        tile: LANES * padded,
    }
}

/// Calls `f` with a place of `MR` rows by `NR` columns that holds what `c` does (or anything, if `f` does
/// not `read` it), or with `c` itself if that is as large.
#[inline(always)]
fn with_whole_tile<F: Real, const MR: usize, const NR: usize>(
    (rows, columns): (usize, usize),
    (c, stride): (&mut [F], usize),
    read: bool,
    f: impl FnOnce((&mut [F], usize)),
) {
    if rows == MR && columns == NR {
        return f((c, stride));
    }
    let mut edge = [[F::ZERO; NR]; MR];
    if read {
        for (edge, c) in edge.iter_mut().zip(c.chunks(stride)).take(rows) {
            edge[..columns].copy_from_slice(&c[..columns]);
        }
    }
    f((edge.as_flattened_mut(), NR));
    for (edge, c) in edge.iter().zip(c.chunks_mut(stride)).take(rows) {
        c[..columns].copy_from_slice(&edge[..columns]);
    }
}

/// Adds the product of laid rows and a packed panel to `count` tiles of `MR` rows by `NR` columns of `c`, or
/// to zero with `set`.
#[inline(always)]
fn tiles<F: Real, S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    count: usize,
    (a, lie): (&[F], LeftRows),
    b: &[F],
    (c, stride): (&mut [F], usize),
    set: bool,
) {
    let steps = b.len() / (STEP * NR);
    if count == 0 || steps == 0 {
        return;
    }
    let last = (count - 1) * lie.tile + (MR - 1) * lie.row + (STEP * steps - 1) * lie.step;
    assert!(last < a.len() && c.len() >= (count * MR - 1) * stride + NR);
    if const { S::TILE_COLUMNS == NR && F::IS_F32 } {
        let (a, b, c) = (a.as_ptr().cast(), b.as_ptr().cast(), c.as_mut_ptr().cast());
        #[expect(unsafe_code, reason = "tiles read and write through pointers")]
        // SAFETY: F is `f32`, and this is the set's own shape of tiles; the assert covers what it reads
        // and writes.
        return unsafe { simd.bf16_tiles((steps, count), (a, lie), b, (c, stride), set) };
    }
    let b = b.as_chunks::<NR>().0;
    for (i, r) in (0..count).flat_map(|i| (0..MR).map(move |r| (i, r))) {
        let a = &a[i * lie.tile + r * lie.row..];
        let c = &mut c[(i * MR + r) * stride..][..NR];
        for (s, b) in b.chunks_exact(STEP).enumerate() {
            for (j, c) in c.iter_mut().enumerate() {
                let mut sums = [F::ZERO; 2];
                for (l, b) in b.iter().enumerate() {
                    let a = a[(s * STEP + l) * lie.step];
                    sums[l % 2] = a.mul_add_flushed(b[j], sums[l % 2]);
                }
                let start = if set && s == 0 { F::ZERO } else { *c };
                *c = start.add_flushed(sums[0].add_flushed(sums[1]));
            }
        }
    }
}

/// Products of pairs of bf16.
#[cfg(target_arch = "x86_64")]
mod paired {
    use super::{BLOCK, ROWS, STEP, with_whole_tile};
    use crate::aligned::Aligned;
    use crate::isa::{Avx512Bf16, PAIRS, PairTiles, SIDE, TILE};
    use crate::mat::{MatRef, Store};
    use crate::pairs::pack_pairs;

    /// [`super::multiply`] by `b (k, n)`, of pairs that a set packs for what multiplies them.
    pub(super) fn multiply<const MR: usize, U: PairTiles<MR>>(
        (unit, packer): (&U, Avx512Bf16),
        m: usize,
        a: MatRef<'_, f32>,
        (b, k, n): (&[u32], usize, usize),
        (c, store): (&mut [f32], Store),
        left: &mut Aligned<u32>,
    ) {
        let wide = n.next_multiple_of(SIDE);
        let (row, col) = a.strides();
        let held = k.next_multiple_of(STEP) / 2 * wide;
        assert!(b.len() >= held, "packed for the instruction set in use");
        for i0 in (0..m).step_by(ROWS) {
            let rows = (m - i0).min(ROWS);
            for k0 in (0..k).step_by(BLOCK) {
                let depth = (k - k0).min(BLOCK);
                let (steps, zero) = (depth.div_ceil(STEP), k0 == 0 && store == Store::Set);
                let panel = 2 * steps * TILE;
                let left = left.at_least(rows.div_ceil(SIDE) * panel);
                let (lanes, depth) = ((row, rows), (col, depth));
                let from = a.from(i0, k0);
                pack_pairs(packer, from, lanes, depth, (false, U::PAIRING), left);
                for j in (0..n).step_by(SIDE) {
                    let right = &b[k0 / 2 * wide + j / SIDE * panel..][..panel];
                    for (i, left) in left.chunks_exact(panel).enumerate() {
                        let size = ((rows - i * SIDE).min(SIDE), (n - j).min(SIDE));
                        let c = &mut c[(i0 + i * SIDE) * n + j..];
                        side(unit, size, (left, right), (c, n), zero);
                    }
                }
            }
        }
    }

    /// Adds the product of a panel of up to [`SIDE`] rows and one of as many columns to `rows` by `columns` of `c`, or
    /// sets it.
    fn side<const MR: usize, U: PairTiles<MR>>(
        unit: &U,
        (rows, columns): (usize, usize),
        (left, right): (&[u32], &[u32]),
        (c, stride): (&mut [f32], usize),
        zero: bool,
    ) {
        let add = |first: usize, count: usize, (c, stride): (&mut [f32], usize)| {
            let last = (count * MR - 1) * stride + SIDE;
            assert!((first + count) * MR <= SIDE && last <= c.len() && left.len() == right.len());
            let left = &left[first * MR * PAIRS..];
            let (steps, operands) = (right.len() / (2 * TILE), (left.as_ptr(), right.as_ptr()));
            #[expect(unsafe_code, reason = "tiles read and write through pointers")]
            // SAFETY: each operand has `steps` steps, of a depth that is not zero, as `pack_pairs` orders them; the
            // assert covers the rows of the left one, and `c`.
            unsafe {
                unit.multiply_add((steps, count), operands, (c.as_mut_ptr(), stride), zero);
            }
        };
        let whole = if columns == SIDE { rows / MR } else { 0 };
        if whole > 0 {
            add(0, whole, (&mut *c, stride));
        }
        for i in whole..rows.div_ceil(MR) {
            let size = ((rows - i * MR).min(MR), columns);
            let c = &mut c[i * MR * stride..];
            with_whole_tile::<f32, MR, SIDE>(size, (c, stride), !zero, |c| add(i, 1, c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{Operands, PackedB, matmul_packed};
    use crate::testing::on_every_set;

    /// Numbers about one, of which products and sums go below the smallest normal one, or anywhere: also below it themselves.
    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        let mut state = seed as u32 | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let exponent = match seed % 3 {
                0 => 120 + (state >> 24) % 8,
                1 => 58 + (state >> 24) % 8,
                _ => (state >> 24) % 8 * 25,
            };
            f32::from_bits(state & 0x807F_FFFF | exponent << 23)
        };
        (0..len).map(|_| next()).collect()
    }

    /// The definition at the head of this file.
    fn defined(a: &[f32], b: &[f32], mut sum: f32) -> f32 {
        let bf16 = |x: Option<&f32>| x.map_or(0.0, |x| f32::from_bf16(x.to_bf16()));
        for first in (0..a.len()).step_by(STEP) {
            let mut sums = [0.0f32; 2];
            for l in first..first + STEP {
                sums[l % 2] = bf16(a.get(l)).mul_add_flushed(bf16(b.get(l)), sums[l % 2]);
            }
            sum = sum.add_flushed(sums[0].add_flushed(sums[1]));
        }
        sum
    }

    // Rows, columns and inner lengths below and above tiles, steps, panels and blocks; both ways in which
    // each operand can lie.
    #[test]
    fn every_set_gives_the_bits_of_the_definition() {
        let shapes = [
            (1, 1, 1),
            (5, 33, 31),
            (12, 32, 64),
            (17, 7, 65),
            (32, 32, 32),
            (33, 70, 257),
            (195, 40, 40),
            (16, 528, 290),
        ];
        let shapes = if cfg!(miri) {
            &shapes[..2]
        } else {
            &shapes[..]
        };
        for (seed, &(m, n, k)) in (0..3).flat_map(|seed| shapes.iter().map(move |s| (seed, s))) {
            let (a, b, start) = (
                numbers(m * k, seed),
                numbers(n * k, seed + 3),
                numbers(m * n, seed + 6),
            );
            let turned = |x: &[f32], rows: usize| -> Vec<f32> {
                let cols = x.len() / rows;
                (0..x.len())
                    .map(|i| x[i % rows * cols + i / rows])
                    .collect()
            };
            let (a_turned, b_turned) = (turned(&a, m), turned(&b, n));
            let want = |start: &dyn Fn(usize) -> f32| -> Vec<u32> {
                let one = |at: usize| {
                    let (a, b) = (&a[at / n * k..][..k], &b[at % n * k..][..k]);
                    defined(a, b, start(at)).to_bits()
                };
                (0..m * n).map(one).collect()
            };
            let (set, added) = (want(&|_| 0.0), want(&|at| start[at]));
            on_every_set(|| {
                for left in [MatRef::new(&a, k), MatRef::transposed(&a_turned, m)] {
                    for right in [MatRef::transposed(&b, k), MatRef::new(&b_turned, n)] {
                        let right = PackedB::new(Operands::Bf16, right, (k, n));
                        let mut c = vec![f32::NAN; m * n];
                        matmul_packed(m, left, &right, &mut c, Store::Set);
                        assert!(c.iter().map(|c| c.to_bits()).eq(set.iter().copied()));
                        c.copy_from_slice(&start);
                        matmul_packed(m, left, &right, &mut c, Store::Add);
                        assert!(c.iter().map(|c| c.to_bits()).eq(added.iter().copied()));
                    }
                }
            });
        }
    }
}
