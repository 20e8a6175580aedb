//! Attention of one new token a row over cached keys and values; no gradient.
//!
//! A query and its products are small against the cache, which comes from outside the nearest
//! memory: so every key and value is loaded once for all query heads of its group, in the order in
//! which it lies there, and sums stay in registers. The order of all sums is given by positions
//! within the row and the shape alone.

use crate::isa::{Simd, kernel};
use crate::kv_page::{CHUNK, CachedRow, PAGE, Page, PageShape};
use crate::lanes::{lane_sum, row_max, tanh};
use crate::real::Real as _;
use crate::shape::AttentionShape;
use crate::sums::add_products;
use std::f64::consts::LOG2_E;
use std::sync::Arc;

/// Vectors that attention works with, kept from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Queries times the factor of the scores.
    queries: Vec<f32>,
    /// Scores and then weights of one group of heads, a line of positions each.
    scores: Vec<f32>,
}

/// Query heads whose sums are held in registers together; larger groups are taken in parts. With
/// more, the compiler gives up on vectors.
const TOGETHER: usize = 2;

/// The chunks of positions that a token sees: chunks `begin..end`, positions `first..len`.
#[derive(Clone, Copy)]
struct Seen {
    first: usize,
    len: usize,
    begin: usize,
    end: usize,
}

impl Seen {
    fn new(shape: &AttentionShape, len: usize) -> Self {
        let first = shape.first_key(len - 1);
        Self {
            first,
            len,
            begin: first / CHUNK,
            end: len.div_ceil(CHUNK),
        }
    }

    /// Positions of the chunks: the length of a line of scores.
    fn line(&self) -> usize {
        (self.end - self.begin) * CHUNK
    }

    /// For each page that has some of the chunks: its index, and the first and last of its own
    /// chunks among them.
    fn pages(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        const CHUNKS: usize = PAGE / CHUNK;
        let (begin, end) = (self.begin, self.end);
        (begin / CHUNKS..end.div_ceil(CHUNKS)).map(move |page| {
            let at = page * CHUNKS;
            (page, begin.max(at) - at, end.min(at + CHUNKS) - at)
        })
    }
}

/// The `queries (H * E)` of one token over the first `len` positions of its row, of which it is the
/// last itself; result `(H * E)`.
pub fn decode_attention(
    shape: &AttentionShape,
    (pages, layer): (PageShape, usize),
    queries: &[f32],
    (row, len): (&CachedRow, usize),
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    attend_row::<f32>(shape, pages, layer, queries, &row.pages, len, scratch, out);
}

kernel! {
    /// For each group of heads: scores along the positions, softmax, weighted sum of values.
    ///
    /// Scores are in powers of two, so that the exponential needs no factor of its own.
    fn attend_row<F>(
        shape: &AttentionShape, cached: PageShape, layer: usize, q: &[f32], pages: &[Arc<Page>],
        len: usize, scratch: &mut Scratch, out: &mut [f32],
    ) {
        let e = shape.head_dim;
        let group = shape.heads / shape.kv_heads.max(1);
        let seen = Seen::new(shape, len);
        let line = seen.line();
        let (factor, cap) = match shape.softcap {
            Some(cap) => (shape.scale / cap, Some((cap * LOG2_E) as f32)),
            None => (shape.scale * LOG2_E, None),
        };
        let Scratch { queries, scores } = scratch;
        queries.clear();
        queries.extend(q.iter().map(|q| q * factor as f32));
        scores.clear();
        scores.resize(line * group.min(TOGETHER), 0.0);
        for head in 0..shape.kv_heads {
            let run = cached.layer(layer) + head * cached.run();
            for at in (head * group..(head + 1) * group).step_by(TOGETHER) {
                let heads = TOGETHER.min((head + 1) * group - at);
                let (q, out) = (&queries[at * e..(at + heads) * e], &mut out[at * e..(at + heads) * e]);
                let scores = &mut scores[..line * heads];
                match heads {
                    1 => scores_of::<S, 1, 4>(pages, run, seen, (q, e), scores),
                    _ => scores_of::<S, 2, 2>(pages, run, seen, (q, e), scores),
                }
                let mut norms = [0.0; TOGETHER];
                for (scores, norm) in scores.chunks_exact_mut(line).zip(&mut norms) {
                    *norm = softmax::<S>(scores, seen, cap);
                }
                let values = run + cached.keys();
                match (heads, cached.block()) {
                    (1, 8) => mix::<S, 1, 8, 4, 4>(pages, values, seen, scores, norms, out),
                    (_, 8) => mix::<S, 2, 8, 4, 4>(pages, values, seen, scores, norms, out),
                    (1, _) => mix::<S, 1, 16, 4, 4>(pages, values, seen, scores, norms, out),
                    (_, _) => mix::<S, 2, 16, 2, 8>(pages, values, seen, scores, norms, out),
                }
            }
        }
    }
}

/// Scores of `H` heads `q (H, E)` with the keys that begin at `run` of each page, in lines; `C`
/// chunks at a time.
#[inline(always)]
fn scores_of<S: Simd, const H: usize, const C: usize>(
    pages: &[Arc<Page>],
    run: usize,
    seen: Seen,
    (q, e): (&[f32], usize),
    scores: &mut [f32],
) {
    let line = seen.line();
    let mut at = 0;
    for (page, begin, end) in seen.pages() {
        let keys = &pages[page][run + begin * e * CHUNK..run + end * e * CHUNK];
        let mut sets = keys.as_chunks::<CHUNK>().0.chunks_exact(C * e);
        for keys in &mut sets {
            let sums = add_products::<S, H, C, CHUNK, 0>([[[0.0; CHUNK]; C]; H], q, e, keys, e);
            for (h, sums) in sums.iter().enumerate() {
                let at = h * line + at;
                scores[at..at + C * CHUNK].copy_from_slice(sums.as_flattened());
            }
            at += C * CHUNK;
        }
        for keys in sets.remainder().chunks_exact(e) {
            let sums = add_products::<S, H, 1, CHUNK, 0>([[[0.0; CHUNK]; 1]; H], q, e, keys, e);
            for (h, sums) in sums.iter().enumerate() {
                let at = h * line + at;
                scores[at..at + CHUNK].copy_from_slice(sums.as_flattened());
            }
            at += CHUNK;
        }
    }
}

/// Turns a line of scores into weights whose sum's inverse is returned; those not seen weigh zero.
#[inline(always)]
fn softmax<S: Simd>(scores: &mut [f32], seen: Seen, cap: Option<f32>) -> f32 {
    if let Some(cap) = cap {
        for s in scores.iter_mut() {
            *s = cap * tanh::<f32, S>(*s);
        }
    }
    let before = seen.first - seen.begin * CHUNK;
    scores[..before].fill(f32::NEG_INFINITY);
    scores[seen.len - seen.begin * CHUNK..].fill(f32::NEG_INFINITY);
    let (chunks, _) = scores.as_chunks_mut::<CHUNK>();
    let mut tops = [f32::NEG_INFINITY; CHUNK];
    for chunk in chunks.iter() {
        for (top, &s) in tops.iter_mut().zip(chunk) {
            *top = if s > *top { s } else { *top };
        }
    }
    let top = row_max(&tops);
    let mut sums = [0.0; CHUNK];
    for chunk in chunks {
        for (s, sum) in chunk.iter_mut().zip(&mut sums) {
            *s = (*s - top).exp2_if::<S>();
            *sum += *s;
        }
    }
    1.0 / lane_sum(sums)
}

/// Weighted sums of values for `H` heads: `out (H, E)`, a block of `W` of the head after the other;
/// `C` sums for each, over the same `N` positions of every chunk, hide the latency of an addition.
#[inline(always)]
fn mix<S: Simd, const H: usize, const W: usize, const C: usize, const N: usize>(
    pages: &[Arc<Page>],
    values: usize,
    seen: Seen,
    weights: &[f32],
    norms: [f32; TOGETHER],
    out: &mut [f32],
) {
    const { assert!(C * N == CHUNK) };
    let (e, line) = (out.len() / H, seen.line());
    for block in 0..e.div_ceil(W) {
        let start = values + block * PAGE * W;
        let mut sums = [[[0.0f32; W]; C]; H];
        let mut at = 0;
        for (page, begin, end) in seen.pages() {
            let lines = &pages[page][start + begin * CHUNK * W..start + end * CHUNK * W];
            for lines in lines.as_chunks::<W>().0.chunks_exact(CHUNK) {
                sums = add_products::<S, H, C, W, N>(sums, &weights[at..], line, lines, N);
                at += CHUNK;
            }
        }
        for (h, sums) in sums.iter().enumerate() {
            let mut total = sums[0];
            for sums in &sums[1..] {
                for (total, sum) in total.iter_mut().zip(sums) {
                    *total += sum;
                }
            }
            let out = &mut out[h * e..(h + 1) * e];
            for (out, total) in out[block * W..].iter_mut().zip(total) {
                *out = total * norms[h];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::on_every_set;

    fn noise(i: usize) -> f32 {
        ((i.wrapping_mul(2_654_435_761) >> 9) % 4001) as f32 * 5e-4 - 1.0
    }

    fn shape((heads, kv_heads, head_dim): (usize, usize, usize)) -> AttentionShape {
        AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale: 1.3 / (head_dim as f64).sqrt(),
            softcap: None,
            window: None,
        }
    }

    fn pages(shape: &AttentionShape) -> PageShape {
        PageShape {
            layers: 2,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
        }
    }

    /// Keys and values `(K * E)` of one token.
    fn token(shape: &AttentionShape, at: usize) -> (Vec<f32>, Vec<f32>) {
        let width = shape.kv_heads * shape.head_dim;
        let values = |part: usize| {
            (0..width)
                .map(|i| noise(at * 7919 + i * 2 + part))
                .collect()
        };
        (values(0), values(1))
    }

    /// A row whose second layer holds the first `len` tokens.
    fn row(shape: &AttentionShape, len: usize) -> CachedRow {
        let mut row = CachedRow::default();
        for at in 0..len {
            let (k, v) = token(shape, at);
            row.put(&pages(shape), 1, at, (&k, &v));
        }
        row
    }

    fn queries(shape: &AttentionShape) -> Vec<f32> {
        let width = shape.heads * shape.head_dim;
        (0..width).map(|i| noise(i + 31)).collect()
    }

    fn attend(shape: &AttentionShape, row: &CachedRow, len: usize, s: &mut Scratch) -> Vec<f32> {
        let q = queries(shape);
        let mut out = vec![f32::NAN; q.len()];
        decode_attention(shape, (pages(shape), 1), &q, (row, len), s, &mut out);
        out
    }

    /// The formula in `f64`.
    fn naive(shape: &AttentionShape, len: usize) -> Vec<f64> {
        let (e, q) = (shape.head_dim, queries(shape));
        let tokens: Vec<_> = (0..len).map(|at| token(shape, at)).collect();
        let mut out = Vec::new();
        for (head, q) in q.chunks_exact(e).enumerate() {
            let at = head / (shape.heads / shape.kv_heads) * e;
            let seen = &tokens[shape.first_key(len - 1)..];
            let scores = seen.iter().map(|(k, _)| {
                let products = q.iter().zip(&k[at..at + e]);
                let s: f64 = products.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                let s = s * shape.scale;
                shape.softcap.map_or(s, |cap| cap * (s / cap).tanh())
            });
            let weights: Vec<f64> = scores.map(f64::exp).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..e).map(|d| {
                let terms = weights.iter().zip(seen);
                let sum: f64 = terms.map(|(w, (_, v))| w * f64::from(v[at + d])).sum();
                sum / total
            }));
        }
        out
    }

    #[test]
    fn attention_is_its_formula_for_every_width_group_length_window_and_cap() {
        let (heads, lengths): (&[(usize, usize, usize)], &[usize]) = if cfg!(miri) {
            (&[(2, 1, 3)], &[1, 17, 66])
        } else {
            (
                &[
                    (8, 4, 8),
                    (3, 1, 8),
                    (2, 2, 5),
                    (9, 3, 64),
                    (5, 1, 24),
                    (2, 2, 128),
                ],
                &[1, 2, 15, 16, 17, 63, 64, 65, 130, 200],
            )
        };
        for &heads in heads {
            for &len in lengths {
                for (window, softcap) in [(None, None), (Some(7), None), (Some(70), Some(2.0))] {
                    let shape = AttentionShape {
                        softcap,
                        window,
                        ..shape(heads)
                    };
                    let (row, want) = (row(&shape, len), naive(&shape, len));
                    on_every_set(|| {
                        let got = attend(&shape, &row, len, &mut Scratch::default());
                        for (got, want) in got.iter().zip(&want) {
                            let error = (f64::from(*got) - want).abs();
                            assert!(error < 1e-6, "{shape:?}, {len} tokens: {error:e}");
                        }
                        got
                    });
                }
            }
        }
    }

    #[test]
    #[cfg_attr(
        miri,
        ignore = "long rows, and no pointers that the other test does not use"
    )]
    fn the_bits_of_a_row_depend_on_no_other_row_and_not_on_who_shares_its_pages() {
        let shape = shape((4, 2, 8));
        let bits = |out: Vec<f32>| out.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let want = bits(attend(
            &shape,
            &row(&shape, 70),
            70,
            &mut Scratch::default(),
        ));
        // Behind a longer row, and with more room than it fills.
        let mut scratch = Scratch::default();
        let long = row(&shape, 300);
        attend(&shape, &long, 300, &mut scratch);
        assert_eq!(bits(attend(&shape, &long, 70, &mut scratch)), want);
        // As a copy that goes on by itself while the first goes elsewhere.
        let mut first = row(&shape, 66);
        let mut copy = first.clone();
        for at in 66..70 {
            let (k, v) = token(&shape, at);
            copy.put(&pages(&shape), 1, at, (&k, &v));
            first.put(&pages(&shape), 1, at, (&v, &k));
        }
        assert_eq!(bits(attend(&shape, &copy, 70, &mut scratch)), want);
        assert_ne!(bits(attend(&shape, &first, 70, &mut scratch)), want);
    }
}
