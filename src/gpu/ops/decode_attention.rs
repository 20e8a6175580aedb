//! Attention of one new token a sequence over cached keys and values, and the cache's upkeep: heads of any width up to
//! 256, f32 or bf16.
//!
//! The cache of a layer is a stock of pages of [`PAGE`] positions. Who has which page is decided on the host; sequences
//! may share pages as long as nothing is written to them. A slot is a place for one position: `page * PAGE + i`. What
//! is in no slot of a sequence is never read, so fresh pages may hold anything. A sequence's bits depend on its own
//! tokens alone, not on its pages' numbers or on those it is computed with.

use crate::arch::AttentionShape;
use crate::gpu::call::{Arg, Call, Launch, Pair, entry};
use crate::gpu::element::int;
use crate::gpu::ops::attention::{WIDEST, form, widths};
use crate::gpu::{Buf, Gpu, Result, Stored};
use std::ops::Range;

const FORWARD: Pair = entry!(for T "decode_attention", "&T &T &T &i32 &i32 *T Form:20 i32 i32");
const APPEND: Pair = entry!(for T "cache_append", "&T &T &i32 &i32 *T *T i32 i32 i32 i32");
const STORE: Pair = entry!(for T "cache_store", "&T &T &i32 *T *T i32 i32 i32");
pub(crate) const PAIRS: &[Pair] = &[FORWARD, APPEND, STORE];

/// Positions of a page.
pub const PAGE: usize = 64;

/// Warps of a block, which share a sequence's pages.
const WARPS: usize = 4;

/// Keys and values of one layer, `(P, K, PAGE, E)` each, for some P.
#[derive(Clone, Copy, Debug)]
pub struct Cache<T> {
    /// Keys, turned by their positions.
    pub keys: Buf<T>,
    /// Values.
    pub values: Buf<T>,
}

/// Sequences of a batch, of lengths of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences<I> {
    /// `(B, N)`: the pages of each, of which only those that its length reaches count.
    pub pages: I,
    /// `(B,)`: how many positions each has, the new token included; 0 for a row of the batch that is idle.
    pub lengths: I,
}

/// On the host.
pub type SequenceList = Sequences<Vec<i32>>;
/// On the device.
pub type SequenceBufs = Sequences<Buf<i32>>;

impl SequenceList {
    /// Of sequences with these pages and lengths, in a table of `columns` pages each.
    ///
    /// # Panics
    /// A sequence has fewer pages than its length wants, or more than `columns`.
    pub fn new(sequences: &[(&[u32], usize)], columns: usize) -> Self {
        let (mut table, mut lengths) = (Vec::new(), Vec::new());
        for (pages, length) in sequences {
            assert!(
                length.div_ceil(PAGE) <= pages.len() && pages.len() <= columns,
                "{length} positions in {} of {columns} pages",
                pages.len()
            );
            table.extend(pages.iter().map(|&page| int(page as usize)));
            table.resize(table.len() + columns - pages.len(), 0);
            lengths.push(int(*length));
        }
        Self {
            pages: table,
            lengths,
        }
    }
}

/// The slots of some positions of a sequence with these pages, for [`store_tokens`].
///
/// # Panics
/// It has fewer pages.
pub fn slots(pages: &[u32], positions: Range<usize>) -> impl Iterator<Item = i32> {
    positions.map(|at| int(pages[at / PAGE] as usize * PAGE + at % PAGE))
}

impl<T: Stored> Cache<T> {
    /// Heads and width of a token's keys, if the cache is one of whole pages of such.
    fn check(&self, shape: &AttentionShape) -> (Arg, Arg) {
        let (_, width) = widths(shape);
        let len = self.keys.len();
        assert!(
            len == self.values.len() && len.is_multiple_of(width * PAGE),
            "{len} keys and {} values in pages for {shape:?}",
            self.values.len()
        );
        int(len / width); // kernels count slots in 31 bits
        (Arg::int(shape.kv_heads), Arg::int(shape.head_dim))
    }
}

impl SequenceBufs {
    /// B and N.
    fn check(&self) -> (usize, usize) {
        let (count, cells) = (self.lengths.len(), self.pages.len());
        let columns = cells.checked_div(count).unwrap_or(0);
        assert!(
            columns * count == cells && columns * PAGE <= WIDEST,
            "{cells} pages of {count} sequences"
        );
        (count, columns)
    }
}

/// `out (B, H * E)`: attention of `q (B, H * E)`, each the query of a sequence's last position, over that sequence's
/// positions in the cache, its own included. Idle rows become 0.
///
/// The pages that lengths reach must be of the cache, and lengths at most [`PAGE`] times N, which [`SequenceList::new`]
/// makes sure of.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together, or heads are wider than 256.
pub fn decode_attention<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    cache: &Cache<T>,
    sequences: &SequenceBufs,
    (q, out): (Buf<T>, Buf<T>),
) -> Result<()> {
    let (_, width) = cache.check(shape);
    let (count, columns) = sequences.check();
    assert_eq!([q.len(), out.len()], [count * shape.q_width(); 2]);
    let args = [
        Arg::read(q),
        Arg::read(cache.keys),
        Arg::read(cache.values),
        Arg::read(sequences.pages),
        Arg::read(sequences.lengths),
        Arg::write(out),
        form(shape),
        width,
        Arg::int(columns),
    ];
    let launch = Launch::of(count, 32 * WARPS as u32).by(shape.heads);
    let launch = launch.sharing(WARPS * (2 + shape.head_dim) * 4);
    Call::new(FORWARD.of::<T>(), launch, args).run(gpu)
}

/// Puts `k` and `v (B, K * E)`, those of each sequence's last position, into the cache. Idle rows go nowhere.
///
/// As [`decode_attention`]; and no two sequences may have the page of their last position in common.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn append_tokens<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    cache: &Cache<T>,
    sequences: &SequenceBufs,
    (k, v): (Buf<T>, Buf<T>),
) -> Result<()> {
    let (heads, width) = cache.check(shape);
    let (count, columns) = sequences.check();
    assert_eq!([k.len(), v.len()], [count * shape.kv_width(); 2]);
    let args = [
        Arg::read(k),
        Arg::read(v),
        Arg::read(sequences.pages),
        Arg::read(sequences.lengths),
        Arg::write(cache.keys),
        Arg::write(cache.values),
        Arg::int(count),
        heads,
        width,
        Arg::int(columns),
    ];
    Call::new(APPEND.of::<T>(), Launch::over(k.len()), args).run(gpu)
}

/// Puts the rows of `k` and `v (T, K * E)` into `slots (T,)` of the cache; those whose slot is negative go nowhere. The
/// others must be of the cache, and none may be named twice.
///
/// # Errors
/// The launch fails.
///
/// # Panics
/// Lengths do not go together.
pub fn store_tokens<T: Stored>(
    gpu: &mut dyn Gpu,
    shape: &AttentionShape,
    cache: &Cache<T>,
    slots: Buf<i32>,
    (k, v): (Buf<T>, Buf<T>),
) -> Result<()> {
    let (heads, width) = cache.check(shape);
    assert_eq!([k.len(), v.len()], [slots.len() * shape.kv_width(); 2]);
    let args = [
        Arg::read(k),
        Arg::read(v),
        Arg::read(slots),
        Arg::write(cache.keys),
        Arg::write(cache.values),
        Arg::int(slots.len()),
        heads,
        width,
    ];
    Call::new(STORE.of::<T>(), Launch::over(k.len()), args).run(gpu)
}
