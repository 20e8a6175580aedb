//! Pages of cached keys and values: 64 positions of all layers, in the order attention reads them.
//!
//! Rows of a cache own their pages by reference count, so that samples of one prompt share its
//! pages in memory and, one after the other, in the processor's caches. A page is copied when a row
//! writes to one that it shares; a row grows by whole pages and never moves.

use crate::aligned::Aligned;
use std::sync::Arc;

/// Keys and values of [`PAGE`] positions, laid out by [`PageShape`].
pub type Page = Aligned<f32>;

/// Positions of a page.
pub const PAGE: usize = 64;

/// Positions whose keys lie side by side, for vectors along the positions.
pub const CHUNK: usize = 16;

/// What a page holds.
///
/// For each layer and key/value head a run: keys `(PAGE / 16, E, 16)`, which scores read along the
/// positions, then values `(blocks, PAGE, W)`, which sums read along the head; `W` is the width of a
/// block of the head, whose last block is filled up with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageShape {
    /// Of the decoder.
    pub layers: usize,
    /// K.
    pub kv_heads: usize,
    /// E.
    pub head_dim: usize,
}

impl PageShape {
    /// K * E.
    pub fn width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// W: a cache line, or half of one for heads that fit in it.
    pub fn block(&self) -> usize {
        if self.head_dim <= CHUNK / 2 {
            CHUNK / 2
        } else {
            CHUNK
        }
    }

    /// Elements of one head's keys.
    pub fn keys(&self) -> usize {
        PAGE * self.head_dim
    }

    /// Elements of one head's keys and values.
    pub fn run(&self) -> usize {
        self.keys() + PAGE * self.head_dim.next_multiple_of(self.block())
    }

    /// Where a layer's runs begin.
    pub fn layer(&self, layer: usize) -> usize {
        layer * self.kv_heads * self.run()
    }

    /// An empty page.
    fn page(&self) -> Page {
        Page::zeroed(self.layer(self.layers))
    }

    /// Writes one layer's keys and values `(K * E)` of one token at position `at` of a page.
    fn put(&self, page: &mut Page, layer: usize, at: usize, keys: &[f32], values: &[f32]) {
        let (e, run, block) = (self.head_dim, self.run(), self.block());
        let runs = &mut page[self.layer(layer)..self.layer(layer + 1)];
        let heads = keys.chunks_exact(e).zip(values.chunks_exact(e));
        for (run, (k, v)) in runs.chunks_exact_mut(run).zip(heads) {
            let (keys, values) = run.split_at_mut(self.keys());
            let chunk = &mut keys[at / CHUNK * CHUNK * e..];
            for (line, &k) in chunk.chunks_exact_mut(CHUNK).zip(k) {
                line[at % CHUNK] = k;
            }
            for (lines, v) in values.chunks_exact_mut(PAGE * block).zip(v.chunks(block)) {
                lines[at * block..at * block + v.len()].copy_from_slice(v);
            }
        }
    }
}

/// The cached tokens of one row.
#[derive(Clone, Debug, Default)]
pub struct CachedRow {
    /// All but the last are full.
    pub pages: Vec<Arc<Page>>,
    /// Tokens that all layers have seen.
    pub len: usize,
}

impl CachedRow {
    /// Writes one layer's keys and values `(K * E)` of the token at position `at`.
    pub fn put(
        &mut self,
        shape: &PageShape,
        layer: usize,
        at: usize,
        (keys, values): (&[f32], &[f32]),
    ) {
        while self.pages.len() <= at / PAGE {
            self.pages.push(Arc::new(shape.page()));
        }
        let page = Arc::make_mut(&mut self.pages[at / PAGE]);
        shape.put(page, layer, at % PAGE, keys, values);
    }
}
