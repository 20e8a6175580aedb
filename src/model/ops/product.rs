//! The matrix product of one thread: packed panels, a tile of the result in registers.
//!
//! After Goto & van de Geijn 2008: the right operand is packed into panels as wide as a tile, the
//! left one into panels as high (or read in place, where packing would not pay), and a panel of the
//! right operand stays in the first cache while the rows run over it.
//!
//! Every element of a result is the same sum whatever the shape around it: the inner index is cut
//! into blocks by its length alone ([`inner_block`]), a block is summed in order by fused
//! multiply-adds, and block sums are added in order. So neither the number of rows or columns
//! computed together, nor the tile of the instruction set, nor a thread changes a bit.

use crate::model::ops::Real;
use crate::model::ops::aligned::Aligned;
use crate::model::ops::matmul::{Into, Mat};
use crate::model::ops::simd::{BASELINE_FMA, Isa, isa, kernel};
use std::any::TypeId;
use std::cell::RefCell;

/// Longest block of the inner index: a panel of 16 columns of `f32` takes 20 KiB of the first
/// cache's 32.
const INNER: usize = 320;
/// Rows of the left operand that are packed at once; a multiple of every tile's rows.
const ROWS: usize = 192;
/// Columns of a result that stay in the second cache while several blocks of the inner index are
/// added to them.
const COLUMNS: usize = 512;
/// With fewer columns than that the left operand is read where it lies.
const WORTH_PACKING: usize = 192;
/// Elements of the right operand that are packed at once, where the caller did not pack it: 4 MiB.
const PACKED_AT_ONCE: usize = 1 << 20;

/// Length of the blocks into which an inner index of length `k` is cut: as equal as can be.
pub(super) fn inner_block(k: usize) -> usize {
    k.div_ceil(k.div_ceil(INNER).max(1)).max(1)
}

/// Columns of a panel for this processor.
pub(super) fn panel_width<F: Real>() -> usize {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if is_f32::<F>() => 32,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => 16,
        Isa::Baseline if BASELINE_FMA => 16,
        Isa::Baseline => 8,
    }
}

fn is_f32<F: Real>() -> bool {
    TypeId::of::<F>() == TypeId::of::<f32>()
}

/// Where a result goes: `m` rows of `n` elements, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Target<F> {
    pub(super) at: *mut F,
    pub(super) stride: usize,
    pub(super) into: Into,
}

/// A right operand `(k, n)`, packed: for each block of the inner index, for each panel of columns,
/// the block's rows of `panel_width` values; the last panel is filled up with zeros.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, F> {
    pub(super) data: &'a [F],
    pub(super) k: usize,
    pub(super) n: usize,
    /// Rows of a block.
    pub(super) block: usize,
}

/// Elements that the packed form of a `(k, n)` matrix takes.
pub(super) fn packed_len<F: Real>(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(panel_width::<F>())
}

/// Buffers of a thread, kept from call to call.
struct Scratch {
    left32: Aligned<f32>,
    right32: Aligned<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch { left32: Aligned::zeroed(0), right32: Aligned::zeroed(0) });
}

/// Calls `f` with a left and a right buffer: this thread's own for `f32`, new ones for `f64`.
fn with_buffers<F: Real>(f: impl FnOnce(&mut Aligned<F>, &mut Aligned<F>)) {
    if is_f32::<F>() {
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { left32, right32 } = scratch;
            let (left, right): (*mut Aligned<f32>, *mut Aligned<f32>) = (left32, right32);
            #[expect(unsafe_code, reason = "F is f32, which the compiler does not know")]
            // SAFETY: the types are the same, and the borrows are those of `scratch`.
            unsafe {
                f(&mut *left.cast(), &mut *right.cast());
            }
        });
    } else {
        f(&mut Aligned::zeroed(0), &mut Aligned::zeroed(0));
    }
}

kernel! {
    /// Packs rows `k0..k0 + k` and columns `j0..j0 + n` of `b` as [`Panels`] with blocks of `block`
    /// rows.
    pub(super) fn pack<F>(
        b: Mat<'_, F>, rows: (usize, usize), columns: (usize, usize), block: usize, out: &mut [F],
    ) {
        match panel_width::<F>() {
            32 => pack_panels::<F, 32>(b, rows, columns, block, out),
            16 => pack_panels::<F, 16>(b, rows, columns, block, out),
            _ => pack_panels::<F, 8>(b, rows, columns, block, out),
        }
    }
}

#[inline(always)]
fn pack_panels<F: Real, const NR: usize>(
    b: Mat<'_, F>,
    (k0, k): (usize, usize),
    (j0, n): (usize, usize),
    block: usize,
    mut out: &mut [F],
) {
    let (row, col) = b.strides();
    for l0 in (0..k).step_by(block) {
        let depth = (k - l0).min(block);
        for j in (0..n).step_by(NR) {
            let (panel, rest) = out.split_at_mut(depth * NR);
            let from = b.from(k0 + l0, j0 + j);
            pack_panel::<F, NR>(from, (col, (n - j).min(NR)), (row, depth), panel);
            out = rest;
        }
    }
}

/// `to[l * W + i] = from[i * lane + l * step]` for `i < lanes`, and zero for the others.
#[inline(always)]
fn pack_panel<F: Real, const W: usize>(
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
        transpose(from, (lane, lanes), to);
    } else {
        for (l, to) in to.iter_mut().enumerate() {
            for (i, to) in to.iter_mut().enumerate() {
                *to = if i < lanes {
                    from[i * lane + l * step]
                } else {
                    F::zero()
                };
            }
        }
    }
}

/// As [`pack_panel`], for `lanes` of at most `W` rows of a left operand; other lanes hold anything.
///
/// Panels are wider than tiles are high, so that they are written by whole vectors.
#[inline(always)]
fn pack_left<F: Real, const W: usize>(
    from: &[F],
    (lane, lanes): (usize, usize),
    (step, depth): (usize, usize),
    to: &mut [F],
) {
    if lane == 1 {
        let (to, _) = to.as_chunks_mut::<W>();
        for (l, to) in to[..depth].iter_mut().enumerate() {
            let from = &from[l * step..];
            match from.first_chunk::<W>() {
                Some(from) => *to = *from,
                None => to[..lanes].copy_from_slice(&from[..lanes]),
            }
        }
    } else if step == 1 {
        let (to, _) = to.as_chunks_mut::<W>();
        transpose(from, (lane, lanes), &mut to[..depth]);
    } else {
        pack_panel::<F, W>(from, (lane, lanes), (step, depth), to);
    }
}

/// Rows and columns of what is transposed at once.
const SIDE: usize = 8;

/// `to[l][i] = from[i * lane + l]` for `i < lanes`; further lanes hold anything.
#[inline(always)]
fn transpose<F: Real, const W: usize>(
    from: &[F],
    (lane, lanes): (usize, usize),
    to: &mut [[F; W]],
) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if is_f32::<F>() && W.is_multiple_of(SIDE) && isa() != Isa::Baseline {
        done = to.len() / SIDE * SIDE;
        assert!(done == 0 || (lanes - 1) * lane + done <= from.len());
        for l in (0..done).step_by(SIDE) {
            for i in (0..W).step_by(SIDE) {
                // Lanes beyond the last repeat it.
                let rows = std::array::from_fn(|r| (i + r).min(lanes - 1) * lane + l);
                let to = to[l..l + SIDE].as_flattened_mut();
                #[expect(
                    unsafe_code,
                    reason = "vectors, which the compiler does not make of this"
                )]
                // SAFETY: the assert covers the last row, and `to` has eight rows of `W`.
                unsafe {
                    let to = to.as_mut_ptr().add(i).cast();
                    square_avx2(from.as_ptr().cast(), rows, to, W);
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

/// `to[c * stride + r] = from[rows[r] + c]` for a square.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "loads and stores of vectors")]
unsafe fn square_avx2(from: *const f32, rows: [usize; SIDE], to: *mut f32, stride: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    // SAFETY: the caller's: eight values at each of `rows`, eight rows of eight at `to`.
    unsafe {
        let r = rows.map(|at| _mm256_loadu_ps(from.add(at)));
        let pairs: [_; SIDE] = std::array::from_fn(|i| {
            let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
            if i % 2 == 0 {
                _mm256_unpacklo_ps(a, b)
            } else {
                _mm256_unpackhi_ps(a, b)
            }
        });
        // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of the first four rows, then of the others.
        let fours: [_; SIDE] = std::array::from_fn(|i| {
            let at = i / 4 * 4 + i % 4 / 2;
            let (a, b) = (pairs[at], pairs[at + 2]);
            if i % 2 == 0 {
                _mm256_shuffle_ps::<0x44>(a, b)
            } else {
                _mm256_shuffle_ps::<0xEE>(a, b)
            }
        });
        for c in 0..4 {
            let (a, b) = (fours[c], fours[c + 4]);
            _mm256_storeu_ps(to.add(c * stride), _mm256_permute2f128_ps::<0x20>(a, b));
            _mm256_storeu_ps(
                to.add((c + 4) * stride),
                _mm256_permute2f128_ps::<0x31>(a, b),
            );
        }
    }
}

/// `c (m, n) = a (m, k) b`, with `b` packed.
///
/// # Safety
/// `c` is valid for writing `m` rows of `b.n` elements at its stride, and nobody else uses them.
#[expect(
    unsafe_code,
    reason = "the result is written through a pointer, so that threads can share its rows"
)]
pub(super) unsafe fn multiply_packed<F: Real>(
    m: usize,
    a: Mat<'_, F>,
    b: Panels<'_, F>,
    c: Target<F>,
) {
    if m == 0 || b.n == 0 {
        return;
    }
    with_buffers(|left, _| {
        // SAFETY: the caller's promise.
        unsafe { multiply_panels(m, a, b, c, left) }
    });
}

/// `c (m, n) = a (m, k) b (k, n)`; `b` is packed part by part.
///
/// # Safety
/// As [`multiply_packed`].
#[expect(unsafe_code, reason = "as multiply_packed")]
pub(super) unsafe fn multiply<F: Real>(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, F>,
    b: Mat<'_, F>,
    c: Target<F>,
) {
    if m == 0 || n == 0 {
        return;
    }
    let block = inner_block(k);
    let columns = n.min(2 * COLUMNS);
    let inner = (PACKED_AT_ONCE / columns.max(1) / block).max(1) * block;
    with_buffers(|left, right| {
        for k0 in (0..k).step_by(inner) {
            let depth = (k - k0).min(inner);
            for j0 in (0..n).step_by(columns) {
                let wide = (n - j0).min(columns);
                let data = right.at_least(packed_len::<F>(depth, wide));
                pack(b, (k0, depth), (j0, wide), block, data);
                let panels = Panels {
                    data,
                    k: depth,
                    n: wide,
                    block,
                };
                // SAFETY: a part of the caller's rows.
                unsafe {
                    let c = Target {
                        at: c.at.add(j0),
                        into: if k0 == 0 { c.into } else { Into::Add },
                        ..c
                    };
                    multiply_panels(m, a.skip_columns(k0), panels, c, left);
                }
            }
        }
    });
}

/// Chooses the tile for the processor.
///
/// # Safety
/// As [`multiply_packed`].
#[expect(unsafe_code, reason = "code for the instruction set found at run time")]
unsafe fn multiply_panels<F: Real>(
    m: usize,
    a: Mat<'_, F>,
    b: Panels<'_, F>,
    c: Target<F>,
    left: &mut Aligned<F>,
) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn avx512<F: Real>(
        m: usize,
        a: Mat<'_, F>,
        b: Panels<'_, F>,
        c: Target<F>,
        left: &mut Aligned<F>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if is_f32::<F>() {
                over_blocks::<F, true, 12, 16, 32>(m, a, b, c, left);
            } else {
                over_blocks::<F, true, 6, 8, 16>(m, a, b, c, left);
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<F: Real>(
        m: usize,
        a: Mat<'_, F>,
        b: Panels<'_, F>,
        c: Target<F>,
        left: &mut Aligned<F>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { over_blocks::<F, true, 6, 8, 16>(m, a, b, c, left) }
    }
    // SAFETY: the caller's promise; `isa` has found the features of what it names.
    unsafe {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512(m, a, b, c, left),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(m, a, b, c, left),
            Isa::Baseline if BASELINE_FMA => {
                over_blocks::<F, BASELINE_FMA, 6, 8, 16>(m, a, b, c, left);
            }
            Isa::Baseline => over_blocks::<F, BASELINE_FMA, 4, 4, 8>(m, a, b, c, left),
        }
    }
}

/// The loops over what the caches hold: columns, rows, blocks of the inner index.
#[inline(always)]
#[expect(unsafe_code, reason = "as multiply_packed")]
unsafe fn over_blocks<
    F: Real,
    const FMA: bool,
    const MR: usize,
    const LANES: usize,
    const NR: usize,
>(
    m: usize,
    a: Mat<'_, F>,
    b: Panels<'_, F>,
    c: Target<F>,
    left: &mut Aligned<F>,
) {
    let wide = b.n.next_multiple_of(NR);
    // With one block nothing is added to the result, and it need not stay.
    let columns = if b.k <= b.block { b.n } else { COLUMNS };
    let packs = m > MR && b.n.min(columns) >= WORTH_PACKING;
    for j0 in (0..b.n).step_by(columns) {
        let cols = (b.n - j0).min(columns);
        for i0 in (0..m).step_by(ROWS) {
            let rows = (m - i0).min(ROWS);
            for k0 in (0..b.k).step_by(b.block) {
                let depth = (b.k - k0).min(b.block);
                let right = &b.data[k0 * wide + j0 * depth..];
                let add = k0 > 0 || c.into == Into::Add;
                let from = a.from(i0, k0);
                let (row, col) = a.strides();
                let a = if packs {
                    let left = left.at_least(rows.div_ceil(MR) * LANES * depth);
                    for (i, panel) in left.chunks_exact_mut(LANES * depth).enumerate() {
                        let lanes = (row, (rows - i * MR).min(MR));
                        pack_left::<F, LANES>(&from[i * MR * row..], lanes, (col, depth), panel);
                    }
                    Left::Packed(left, LANES)
                } else {
                    Left::InPlace(from, row, col)
                };
                // SAFETY: rows and columns of the caller's result.
                unsafe {
                    let at = c.at.add(i0 * c.stride + j0);
                    over_tiles::<F, FMA, MR, NR>(
                        (rows, cols, depth),
                        a,
                        right,
                        (at, c.stride),
                        add,
                    );
                }
            }
        }
    }
}

/// A block of the left operand.
#[derive(Clone, Copy)]
enum Left<'a, F> {
    /// Panels of `MR` rows, column by column, and the distance of columns.
    Packed(&'a [F], usize),
    /// Elements and the distances of rows and columns.
    InPlace(&'a [F], usize, usize),
}

/// One block of rows by all panels of columns.
#[inline(always)]
#[expect(unsafe_code, reason = "as multiply_packed")]
unsafe fn over_tiles<F: Real, const FMA: bool, const MR: usize, const NR: usize>(
    (rows, cols, depth): (usize, usize, usize),
    a: Left<'_, F>,
    b: &[F],
    (c, stride): (*mut F, usize),
    add: bool,
) {
    let mut edge = [[F::zero(); NR]; MR];
    for j in (0..cols).step_by(NR) {
        let b = &b[j * depth..(j + NR) * depth];
        let width = (cols - j).min(NR);
        for i in (0..rows).step_by(MR) {
            let here = (rows - i).min(MR);
            // SAFETY: a tile that reaches beyond the result goes to `edge`; the operands hold
            // `depth` columns of `here` rows and `depth` rows of a panel.
            unsafe {
                let c = c.add(i * stride + j);
                let whole = here == MR && width == NR;
                let (to, to_stride) = if whole {
                    (c, stride)
                } else {
                    (edge.as_mut_ptr().cast(), NR)
                };
                match a {
                    Left::Packed(a, lanes) => {
                        let a = a[i / MR * lanes * depth..][..lanes * depth].as_ptr();
                        let rows_at = std::array::from_fn(|r| r);
                        let to = (to, to_stride);
                        tile::<F, FMA, MR, NR>(depth, (a, rows_at, lanes), b, to, add && whole);
                    }
                    Left::InPlace(a, row, col) => {
                        debug_assert!(i * row + (here - 1) * row + (depth - 1) * col < a.len());
                        let a = a.as_ptr().add(i * row);
                        if here == 1 {
                            tile::<F, FMA, 1, NR>(depth, (a, [0], col), b, (to, to_stride), false);
                        } else {
                            // Rows beyond the last are the last again: their sums are not used.
                            let rows_at = std::array::from_fn(|r| r.min(here - 1) * row);
                            let to = (to, to_stride);
                            tile::<F, FMA, MR, NR>(depth, (a, rows_at, col), b, to, add && whole);
                        }
                    }
                }
                if !whole {
                    for (r, sums) in edge.iter().enumerate().take(here) {
                        let c = std::slice::from_raw_parts_mut(c.add(r * stride), width);
                        for (c, &sum) in c.iter_mut().zip(sums) {
                            *c = if add { *c + sum } else { sum };
                        }
                    }
                }
            }
        }
    }
}

/// `MR` by `NR` sums in registers while the inner index runs, then set or added.
///
/// # Safety
/// Row `r` of the left operand has `depth` values at `a[rows_at[r]]`, `step` apart; `b` holds
/// `depth` rows; `c` is valid for `MR` rows of `NR` values. The processor has what `NR` and `FMA`
/// say: see [`multiply_panels`].
#[inline(always)]
#[expect(unsafe_code, reason = "bounds checks would cost more than the product")]
unsafe fn tile<F: Real, const FMA: bool, const MR: usize, const NR: usize>(
    depth: usize,
    (a, rows_at, step): (*const F, [usize; MR], usize),
    b: &[F],
    (c, stride): (*mut F, usize),
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if FMA && is_f32::<F>() && NR >= 16 && isa() != Isa::Baseline {
            let (a, b, c) = (a.cast(), b.as_ptr().cast(), c.cast());
            return match NR {
                32 => tile_avx512::<MR>(depth, (a, rows_at, step), b, (c, stride), add),
                _ => tile_avx2::<MR>(depth, (a, rows_at, step), b, (c, stride), add),
            };
        }
        let mut acc = [[F::zero(); NR]; MR];
        for (l, row) in b.as_chunks::<NR>().0[..depth].iter().enumerate() {
            for (sums, at) in acc.iter_mut().zip(rows_at) {
                let x = *a.add(at + l * step);
                for (sum, &b) in sums.iter_mut().zip(row) {
                    *sum = x.mul_add_if::<FMA>(b, *sum);
                }
            }
        }
        for (r, sums) in acc.iter().enumerate() {
            let c = &mut *c.add(r * stride).cast::<[F; NR]>();
            for (c, &sum) in c.iter_mut().zip(sums) {
                *c = if add { *c + sum } else { sum };
            }
        }
    }
}

/// Defines [`tile`] for two vectors a row. Named registers, since the compiler makes vectors out of
/// plain loops of this size only sometimes.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_tile {
    ($name:ident, $features:literal, $width:literal, $zero:ident, $splat:ident, $load:ident, $fma:ident, $add:ident, $store:ident) => {
        #[inline]
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "as tile")]
        unsafe fn $name<const MR: usize>(
            depth: usize,
            (a, rows_at, step): (*const f32, [usize; MR], usize),
            b: *const f32,
            (c, stride): (*mut f32, usize),
            add: bool,
        ) {
            use std::arch::x86_64::{$add, $fma, $load, $splat, $store, $zero};
            // SAFETY: the promise of `tile`'s caller.
            unsafe {
                let mut acc = [[$zero(); 2]; MR];
                for l in 0..depth {
                    let b = b.add(l * 2 * $width);
                    let (left, right) = ($load(b), $load(b.add($width)));
                    for (sums, at) in acc.iter_mut().zip(rows_at) {
                        let x = $splat(*a.add(at + l * step));
                        sums[0] = $fma(x, left, sums[0]);
                        sums[1] = $fma(x, right, sums[1]);
                    }
                }
                for (r, sums) in acc.into_iter().enumerate() {
                    for (half, sum) in sums.into_iter().enumerate() {
                        let c = c.add(r * stride + half * $width);
                        $store(c, if add { $add($load(c), sum) } else { sum });
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector_tile!(
    tile_avx512,
    "avx512f",
    16,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_storeu_ps
);

#[cfg(target_arch = "x86_64")]
vector_tile!(
    tile_avx2,
    "avx2,fma",
    8,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_storeu_ps
);
