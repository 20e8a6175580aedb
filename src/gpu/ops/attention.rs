//! Causal attention over packed segments by the definition: heads of any width up to 256, f32 or bf16.

use crate::arch::AttentionShape;
use crate::gpu::call::{Arg, Call, Launch, Pair, entry};
use crate::gpu::element::{int, structure};
use crate::gpu::{Buf, Gpu, Result, Stored};
use std::f64::consts::LOG2_E;

const FORWARD: Pair =
    entry!(for T "attention_simple_forward", "&T &T &T *T *f32 &struct:20 struct:20 i32");
const DOTS: Pair = entry!(for T "attention_simple_dots", "&T &T *f32 i32 i32");
const BACKWARD_Q: Pair = entry!(
    for T "attention_simple_backward_q",
    "&T &T &T &T &f32 &f32 *T &struct:20 struct:20 i32 f32"
);
const BACKWARD_KV: Pair = entry!(
    for T "attention_simple_backward_kv",
    "&T &T &T &T &f32 &f32 *T *T &struct:20 &struct:12 &i32 struct:20 i32 f32"
);
pub(crate) const PAIRS: &[Pair] = &[FORWARD, DOTS, BACKWARD_Q, BACKWARD_KV];

/// Rows that one block takes: queries, or keys. See `kernels/attention.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tile {
    pub(crate) row0: i32,
    pub(crate) rows: i32,
    pub(crate) trunk0: i32,
    pub(crate) trunk: i32,
    pub(crate) own0: i32,
}

/// Queries that see the keys of a tile: rows `first..end`, the first at position `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Range {
    pub(crate) first: i32,
    pub(crate) end: i32,
    pub(crate) at: i32,
}

structure!(Tile: "struct:20");
structure!(Range: "struct:12");

/// Most rows of a tile.
const ROWS: u32 = 64;

/// Who computes what: the same tiles for queries and for keys, and for each tile of keys the ranges of queries that see
/// it, `ranges[range_at[i]..range_at[i + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work<T, R, I> {
    /// Every row is in one of them.
    pub tiles: T,
    /// Of all tiles.
    pub ranges: R,
    /// One more than there are tiles.
    pub range_at: I,
}

/// On the host.
pub type WorkList = Work<Vec<Tile>, Vec<Range>, Vec<i32>>;
/// On the device.
pub type WorkBufs = Work<Buf<Tile>, Buf<Range>, Buf<i32>>;

impl WorkList {
    /// Of segments with the boundaries `bounds (S + 1,)`; segment `s` continues segment `trunks[s]`, or none if that is
    /// itself or `trunks` is empty. Segments stand behind the trunk that they continue.
    ///
    /// # Panics
    /// Boundaries descend, or a segment continues a later one or one that itself continues another.
    pub fn new(bounds: &[u32], trunks: &[u32]) -> Self {
        assert!(bounds.is_sorted(), "boundaries {bounds:?}");
        let count = bounds.len().saturating_sub(1);
        let trunk_of = |s: usize| trunks.get(s).map_or(s, |&trunk| trunk as usize);
        let place = |n: u32| int(n as usize);
        let (mut tiles, mut ranges, mut range_at) = (Vec::new(), Vec::new(), vec![0]);
        for s in 0..count {
            let (own, end, of) = (bounds[s], bounds[s + 1], trunk_of(s));
            assert!(
                of <= s && trunk_of(of) == of,
                "segment {s} continues {of} in {trunks:?}"
            );
            let (trunk0, trunk) = match of {
                of if of == s => (own, 0),
                of => (bounds[of], bounds[of + 1] - bounds[of]),
            };
            for row in (own..end).step_by(ROWS as usize) {
                tiles.push(Tile {
                    row0: place(row),
                    rows: place((end - row).min(ROWS)),
                    trunk0: place(trunk0),
                    trunk: place(trunk),
                    own0: place(own),
                });
                // Its own segment from this row on, then all of the segments that continue it.
                ranges.push(Range {
                    first: place(row),
                    end: place(end),
                    at: place(trunk + row - own),
                });
                let branches = (s + 1..count).filter(|&branch| of == s && trunk_of(branch) == s);
                ranges.extend(branches.map(|branch| Range {
                    first: place(bounds[branch]),
                    end: place(bounds[branch + 1]),
                    at: place(end - own),
                }));
                range_at.push(int(ranges.len()));
            }
        }
        Self {
            tiles,
            ranges,
            range_at,
        }
    }
}

/// The shape as `kernels/attention.h` wants it: exponents are of two, and a cap divides the scale.
pub(crate) fn form(shape: &AttentionShape) -> Arg {
    let (scale, cap) = match shape.softcap {
        Some(cap) => (shape.scale / cap, cap * LOG2_E),
        None => (shape.scale * LOG2_E, 0.0),
    };
    // Kernels add positions and windows in 32 bits; one that is wider than any segment hides nothing.
    let window = shape.window.filter(|&w| w < WIDEST).unwrap_or(0);
    let words = [
        int(shape.heads).cast_unsigned(),
        int(shape.kv_heads).cast_unsigned(),
        (scale as f32).to_bits(),
        (cap as f32).to_bits(),
        int(window).cast_unsigned(),
    ];
    Arg::words("struct:20", &words)
}

/// No position reaches so far.
const WIDEST: usize = 1 << 30;

/// Rows of arrays by query, by key and by head, which must all have as many.
fn rows(shape: &AttentionShape, by_query: &[usize], by_key: &[usize], by_head: &[usize]) -> usize {
    let (q, kv) = (shape.q_width(), shape.kv_width());
    assert!(
        q > 0 && kv > 0 && shape.heads.is_multiple_of(shape.kv_heads),
        "{shape:?}"
    );
    assert!(
        shape.head_dim <= 256 && shape.window != Some(0),
        "{shape:?}"
    );
    let rows = by_query[0] / q;
    let are = |lens: &[usize], width: usize| lens.iter().all(|&len| len == rows * width);
    assert!(are(by_query, q), "{by_query:?} for {shape:?}");
    assert!(are(by_key, kv), "{by_key:?} for {shape:?}");
    assert!(are(by_head, shape.heads), "{by_head:?} for {shape:?}");
    rows
}

/// Arrays of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Forward<T> {
    /// `(T, H * E)`.
    pub q: Buf<T>,
    /// `(T, K * E)`.
    pub k: Buf<T>,
    /// `(T, K * E)`.
    pub v: Buf<T>,
    /// `(T, H * E)`, written.
    pub out: Buf<T>,
    /// `(T, H)`, written: logarithms to base 2 of the sums of exponentials.
    pub lse: Buf<f32>,
}

/// Arrays of the backward pass beside those of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Backward<T> {
    /// `(T, H * E)`, the gradient of `out`.
    pub grad: Buf<T>,
    /// `(T, H)`, working space.
    pub delta: Buf<f32>,
    /// `(T, H * E)`, written.
    pub dq: Buf<T>,
    /// `(T, K * E)`, written.
    pub dk: Buf<T>,
    /// `(T, K * E)`, written.
    pub dv: Buf<T>,
}

impl<T: Stored> Forward<T> {
    pub(crate) fn rows(&self, shape: &AttentionShape) -> usize {
        let queries = [self.q.len(), self.out.len()];
        rows(
            shape,
            &queries,
            &[self.k.len(), self.v.len()],
            &[self.lse.len()],
        )
    }
}

impl<T: Stored> Backward<T> {
    pub(crate) fn check(&self, shape: &AttentionShape, wanted: usize) {
        let queries = [self.grad.len(), self.dq.len()];
        let keys = [self.dk.len(), self.dv.len()];
        assert_eq!(rows(shape, &queries, &keys, &[self.delta.len()]), wanted);
    }
}

/// `out` and `lse`. The tiles must be of as many rows.
pub fn attention_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<T>,
) -> Result<()> {
    of.rows(shape);
    let args = [
        Arg::read(of.q),
        Arg::read(of.k),
        Arg::read(of.v),
        Arg::write(of.out),
        Arg::write(of.lse),
        Arg::read(work.tiles),
        form(shape),
        Arg::int(shape.head_dim),
    ];
    let launch = Launch::of(work.tiles.len(), 128).by(shape.heads);
    Call::new(FORWARD.of::<T>(), launch, args).run(gpu)
}

/// The gradients of q, k and v. The tiles must be of as many rows.
pub fn attention_backward<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<T>,
    to: &Backward<T>,
) -> Result<()> {
    let rows = of.rows(shape);
    to.check(shape, rows);
    assert_eq!(work.range_at.len(), work.tiles.len() + 1);
    let (dots, width) = (rows * shape.heads, Arg::int(shape.head_dim));
    let args = [
        Arg::read(of.out),
        Arg::read(to.grad),
        Arg::write(to.delta),
        Arg::int(dots),
        width,
    ];
    Call::new(DOTS.of::<T>(), Launch::over(dots), args).run(gpu)?;
    let read = [of.q, of.k, of.v, to.grad].map(Arg::read);
    let read = [&read[..], &[Arg::read(of.lse), Arg::read(to.delta)]].concat();
    let back = [form(shape), width, Arg::float(shape.scale as f32)];
    let tiles = Launch::of(work.tiles.len(), 128);

    let own = [Arg::write(to.dq), Arg::read(work.tiles)];
    let args = [&read[..], &own, &back].concat();
    Call::new(BACKWARD_Q.of::<T>(), tiles.by(shape.heads), args).run(gpu)?;

    let own = [
        Arg::write(to.dk),
        Arg::write(to.dv),
        Arg::read(work.tiles),
        Arg::read(work.ranges),
        Arg::read(work.range_at),
    ];
    let args = [&read[..], &own, &back].concat();
    Call::new(BACKWARD_KV.of::<T>(), tiles.by(shape.kv_heads), args).run(gpu)
}
