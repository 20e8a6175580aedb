//! Causal attention over packed segments by the definition: heads of any width up to 256, f32 or bf16.

use crate::arch::AttentionShape;
use crate::gpu::call::{Arg, Call, Entry, HIGHEST, Launch, Pair, entry};
use crate::gpu::element::{int, structure};
use crate::gpu::{Buf, Gpu, Result, Stored};
use std::f64::consts::LOG2_E;

const FORWARD: Pair =
    entry!(for T "attention_simple_forward", "&T &T &T *T *f32 &Tile:20 Form:20 i32");
const DOTS: Pair = entry!(for T "attention_simple_dots", "&T &T *f32 i32 i32");
const BACKWARD_Q: Pair = entry!(
    for T "attention_simple_backward_q",
    "&T &T &T &T &f32 &f32 *T &Tile:20 Form:20 i32 f32"
);
const BACKWARD_KV: Pair = entry!(
    for T "attention_simple_backward_kv",
    "&T &T &T &T &f32 &f32 *T *T &Tile:20 &Range:12 &i32 Form:20 i32 f32"
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

structure!(Tile: "Tile:20");
structure!(Range: "Range:12");

/// Most rows of a tile.
pub(crate) const ROWS: usize = 64;

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
    /// Boundaries descend or pass 2^30, or a segment continues a later one or one that itself continues another.
    pub fn new(bounds: &[u32], trunks: &[u32]) -> Self {
        assert!(
            bounds.is_sorted() && bounds.last().is_none_or(|&end| end as usize <= WIDEST),
            "boundaries {bounds:?}"
        );
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
            for row in (own..end).step_by(ROWS) {
                tiles.push(Tile {
                    row0: place(row),
                    rows: place((end - row).min(ROWS as u32)),
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
    // Kernels add positions and windows in 31 bits; one that is wider than any segment hides nothing.
    let window = shape.window.filter(|&w| w < WIDEST).unwrap_or(0);
    let words = [
        int(shape.heads).cast_unsigned(),
        int(shape.kv_heads).cast_unsigned(),
        (scale as f32).to_bits(),
        (cap as f32).to_bits(),
        int(window).cast_unsigned(),
    ];
    Arg::words("Form:20", &words)
}

/// No position reaches so far.
pub(crate) const WIDEST: usize = 1 << 30;

/// Most numbers of a head.
pub(crate) const WIDEST_HEAD: usize = 256;

/// Whether the functions here, and those over cached keys, take heads of this width and so many.
pub fn attention_takes(shape: &AttentionShape) -> bool {
    shape.head_dim <= WIDEST_HEAD && shape.heads <= HIGHEST
}

/// Refuses shapes that no kernel here takes; the widths of a row of queries, and of keys.
pub(crate) fn widths(shape: &AttentionShape) -> (usize, usize) {
    let (q, kv) = (shape.q_width(), shape.kv_width());
    assert!(
        q > 0 && kv > 0 && shape.heads.is_multiple_of(shape.kv_heads),
        "{shape:?}"
    );
    assert!(
        attention_takes(shape) && shape.window != Some(0),
        "{shape:?}"
    );
    (q, kv)
}

/// Rows of arrays by query, by key and by head, which must all have as many.
fn rows(shape: &AttentionShape, by_query: &[usize], by_key: &[usize], by_head: &[usize]) -> usize {
    let (q, kv) = widths(shape);
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
    fn rows(&self, shape: &AttentionShape) -> usize {
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
    fn check(&self, shape: &AttentionShape, wanted: usize) {
        let queries = [self.grad.len(), self.dq.len()];
        let keys = [self.dk.len(), self.dv.len()];
        assert_eq!(rows(shape, &queries, &keys, &[self.delta.len()]), wanted);
    }
}

/// Kernels of one kind, and how they are launched.
pub(crate) struct Kernels {
    pub(crate) forward: Entry,
    pub(crate) dots: Entry,
    pub(crate) backward_q: Entry,
    pub(crate) backward_kv: Entry,
    /// The width of a head, which kernels of any width want to be told.
    pub(crate) width: Option<Arg>,
    /// For so many dot products.
    pub(crate) dots_launch: fn(usize) -> Launch,
    /// Bytes of shared memory: forward, dq, dk and dv.
    pub(crate) shared: [usize; 3],
    /// Groups of columns of dk and dv, a block each.
    pub(crate) column_groups: usize,
}

impl Kernels {
    fn simple<T: Stored>(shape: &AttentionShape) -> Self {
        Self {
            forward: *FORWARD.of::<T>(),
            dots: *DOTS.of::<T>(),
            backward_q: *BACKWARD_Q.of::<T>(),
            backward_kv: *BACKWARD_KV.of::<T>(),
            width: Some(Arg::int(shape.head_dim)),
            dots_launch: Launch::over,
            shared: [0; 3],
            column_groups: 1,
        }
    }

    pub(crate) fn run_forward<T: Stored>(
        &self,
        gpu: &mut dyn Gpu,
        shape: &AttentionShape,
        work: &WorkBufs,
        of: &Forward<T>,
    ) -> Result<()> {
        of.rows(shape);
        let mut args = [of.q, of.k, of.v].map(Arg::read).to_vec();
        args.extend([Arg::write(of.out), Arg::write(of.lse)]);
        args.extend([Arg::read(work.tiles), form(shape)]);
        args.extend(self.width);
        let launch = Launch::of(work.tiles.len(), 128).by(shape.heads);
        Call::new(&self.forward, launch.sharing(self.shared[0]), args).run(gpu)
    }

    pub(crate) fn run_backward<T: Stored>(
        &self,
        gpu: &mut dyn Gpu,
        shape: &AttentionShape,
        work: &WorkBufs,
        of: &Forward<T>,
        to: &Backward<T>,
    ) -> Result<()> {
        let rows = of.rows(shape);
        to.check(shape, rows);
        assert_eq!(work.range_at.len(), work.tiles.len() + 1);
        let dots = rows * shape.heads;
        let mut args = [of.out, to.grad].map(Arg::read).to_vec();
        args.extend([Arg::write(to.delta), Arg::int(dots)]);
        args.extend(self.width);
        Call::new(&self.dots, (self.dots_launch)(dots), args).run(gpu)?;

        let mut read = [of.q, of.k, of.v, to.grad].map(Arg::read).to_vec();
        read.extend([of.lse, to.delta].map(Arg::read));
        let mut back = vec![form(shape)];
        back.extend(self.width);
        back.push(Arg::float(shape.scale as f32));
        let tiles = Launch::of(work.tiles.len(), 128);

        let own = [Arg::write(to.dq), Arg::read(work.tiles)];
        let args = [&read[..], &own, &back].concat();
        let launch = tiles.by(shape.heads).sharing(self.shared[1]);
        Call::new(&self.backward_q, launch, args).run(gpu)?;

        let own = [
            Arg::write(to.dk),
            Arg::write(to.dv),
            Arg::read(work.tiles),
            Arg::read(work.ranges),
            Arg::read(work.range_at),
        ];
        let args = [&read[..], &own, &back].concat();
        let launch = tiles.by(shape.kv_heads).deep(self.column_groups);
        Call::new(&self.backward_kv, launch.sharing(self.shared[2]), args).run(gpu)
    }
}

/// `out` and `lse`. The work must be that of as many rows.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together, or [`attention_takes`] not such heads.
pub fn attention_forward<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<T>,
) -> Result<()> {
    Kernels::simple::<T>(shape).run_forward(gpu, shape, work, of)
}

/// The gradients of q, k and v. The work must be that of as many rows.
///
/// # Errors
/// A launch fails.
///
/// # Panics
/// As [`attention_forward`].
pub fn attention_backward<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    work: &WorkBufs,
    of: &Forward<T>,
    to: &Backward<T>,
) -> Result<()> {
    Kernels::simple::<T>(shape).run_backward(gpu, shape, work, of, to)
}
