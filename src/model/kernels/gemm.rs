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

use crate::aligned::Aligned;
use crate::isa::{Simd, TileJob, kernel};
use crate::mat::{MatRef, Store};
use crate::pack::{Panels, pack, pack_left, panel_width};
use crate::real::Real;
use crate::tile::{Left, over_tiles};
use std::any::Any;
use std::cell::RefCell;

/// Longest block of the inner index: a panel of 16 columns of `f32` takes 20 KiB of the first
/// cache's 32. It decides the order of sums: another number gives other bytes.
const INNER: usize = 320;
/// Rows of the left operand that are packed at once: with the longest block 320 KiB of `f32` at most, the
/// unused lanes of panels included, which leaves room in a second cache of 512 KiB; a multiple of every tile's rows.
const ROWS: usize = 192;
/// Columns of a result that stay in the second cache while several blocks of the inner index are
/// added to them.
const COLUMNS: usize = 512;
/// With fewer columns than that the left operand is read where it lies: packing it costs a pass over
/// it, which each panel of columns then gains back in part.
const WORTH_PACKING: usize = 192;
/// Elements of the right operand that are packed at once, where the caller did not pack it: 4 MiB.
const PACKED_AT_ONCE: usize = 1 << 20;

/// Length of the blocks into which an inner index of length `k` is cut: as equal as can be.
pub fn inner_block(k: usize) -> usize {
    k.div_ceil(k.div_ceil(INNER).max(1)).max(1)
}

/// Buffers of a thread, kept from call to call.
struct Scratch {
    left: Aligned<f32>,
    right: Aligned<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        left: Aligned::zeroed(0),
        right: Aligned::zeroed(0),
    });
}

/// Calls `f` with a left and a right buffer: this thread's own for `f32`, new ones for `f64`.
fn with_buffers<F: Real>(f: impl FnOnce(&mut Aligned<F>, &mut Aligned<F>)) {
    SCRATCH.with_borrow_mut(|scratch| {
        let (left, right): (&mut dyn Any, &mut dyn Any) = (&mut scratch.left, &mut scratch.right);
        match (left.downcast_mut(), right.downcast_mut()) {
            (Some(left), Some(right)) => f(left, right),
            _ => f(&mut Aligned::zeroed(0), &mut Aligned::zeroed(0)),
        }
    });
}

/// `c (m, n) = a (m, k) b` or added to it, with `b` packed; `c` is row-major.
pub fn multiply_packed<F: Real>(
    m: usize,
    a: MatRef<'_, F>,
    b: Panels<'_, F>,
    c: &mut [F],
    store: Store,
) {
    assert!(c.len() >= m * b.n, "the result holds m * n elements");
    assert!(a.covers(m, b.k), "the operand holds its shape");
    if b.k == 0 && store == Store::Set {
        c[..m * b.n].fill(F::ZERO);
    }
    if m > 0 && b.n > 0 {
        with_buffers(|left, _| multiply_panels(m, a, b, (c, b.n), store, left));
    }
}

/// `c (m, n) = a (m, k) b (k, n)` or added to it; `b` is packed part by part, `c` is row-major.
pub fn multiply<F: Real>(
    (m, n, k): (usize, usize, usize),
    a: MatRef<'_, F>,
    b: MatRef<'_, F>,
    c: &mut [F],
    store: Store,
) {
    assert!(c.len() >= m * n, "the result holds m * n elements");
    assert!(
        a.covers(m, k) && b.covers(k, n),
        "operands hold their shapes"
    );
    if k == 0 && store == Store::Set {
        c[..m * n].fill(F::ZERO);
    }
    if m == 0 || n == 0 {
        return;
    }
    let block = inner_block(k);
    let columns = n.min(2 * COLUMNS);
    let inner = (PACKED_AT_ONCE / columns.max(1) / block).max(1) * block;
    let width = panel_width::<F>();
    with_buffers(|left, right| {
        for k0 in (0..k).step_by(inner) {
            let depth = (k - k0).min(inner);
            let store = if k0 == 0 { store } else { Store::Add };
            for j0 in (0..n).step_by(columns) {
                let wide = (n - j0).min(columns);
                let data = right.at_least(depth * wide.next_multiple_of(width));
                pack(b, (k0, depth), (j0, wide), block, data);
                let panels = Panels {
                    data,
                    k: depth,
                    n: wide,
                    block,
                    width,
                };
                let c = (&mut c[j0..], n);
                multiply_panels(m, a.skip_columns(k0), panels, c, store, left);
            }
        }
    });
}

kernel! {
    /// `c (m, b.n) = a (m, b.k) b` or added to it, for `c` with rows of a stride.
    fn multiply_panels<F>[simd](
        m: usize, a: MatRef<'_, F>, b: Panels<'_, F>, c: (&mut [F], usize), store: Store,
        left: &mut Aligned<F>,
    ) {
        simd.with_tile(Blocks { m, a, b, c, store, left });
    }
}

/// The loops over what the caches hold: columns, rows, blocks of the inner index.
struct Blocks<'a, F> {
    m: usize,
    a: MatRef<'a, F>,
    b: Panels<'a, F>,
    c: (&'a mut [F], usize),
    store: Store,
    left: &'a mut Aligned<F>,
}

impl<F: Real> TileJob for Blocks<'_, F> {
    type Output = ();
    const IS_F32: bool = F::IS_F32;

    #[inline(always)]
    fn run<S: Simd, const MR: usize, const LANES: usize, const NR: usize>(self, simd: S) {
        let (m, a, b, (c, stride)) = (self.m, self.a, self.b, self.c);
        assert!(b.width == NR, "packed for the instruction set in use");
        let wide = b.n.next_multiple_of(NR);
        // With one block nothing is added to the result, and it need not stay.
        let columns = if b.k <= b.block { b.n } else { COLUMNS };
        let (row, col) = a.strides();
        // Tiles of 512 bits read two vectors of the right operand for twelve values of the left one, and take
        // these as fast from rows as from a panel: a pass that transposes gains nothing.
        let as_it_lies = S::WIDE && col == 1;
        let packs = m > MR && b.n.min(columns) >= WORTH_PACKING && !as_it_lies;
        for j0 in (0..b.n).step_by(columns) {
            let cols = (b.n - j0).min(columns);
            for i0 in (0..m).step_by(ROWS) {
                let rows = (m - i0).min(ROWS);
                for k0 in (0..b.k).step_by(b.block) {
                    let depth = (b.k - k0).min(b.block);
                    let right = &b.data[k0 * wide + j0 * depth..];
                    let add = k0 > 0 || self.store == Store::Add;
                    let from = a.from(i0, k0);
                    let a = if packs {
                        let left = self.left.at_least(rows.div_ceil(MR) * LANES * depth);
                        let to = (&mut *left, LANES * depth);
                        let (rows, inner) = ((row, rows), (col, depth));
                        pack_left::<F, S, MR, LANES>(simd, from, rows, inner, to, |v| v);
                        Left::Packed(left, LANES)
                    } else {
                        Left::InPlace(from, row, col)
                    };
                    let size = (rows, cols, depth);
                    let c = (&mut c[i0 * stride + j0..], stride);
                    over_tiles::<F, S, MR, NR>(simd, size, a, right, c, add);
                }
            }
        }
    }
}
