//! Where the activations of a pass lie: one function gives every place. What they take in all,
//! [`activation_bytes`](crate::arch::activation_bytes) says beforehand.

use crate::arch::{ACTIVATION_ALIGNMENT, DecoderConfig, Extent, Keep, PARTS};
use crate::gpu::buf::{Buf, Region};
use crate::gpu::decoder::linear::Room;
use crate::gpu::element::{Element, Stored};
use crate::gpu::ops::head::Scores;

/// What one layer's backward pass reads beside the layer's input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<T> {
    /// `(T, H * E)` and `(T, K * E)` before their norms, if they have any.
    pub(super) raw: Option<(Buf<T>, Buf<T>)>,
    /// `(T, H * E)`, turned.
    pub(super) q: Buf<T>,
    /// `(T, K * E)`, turned.
    pub(super) k: Buf<T>,
    /// `(T, K * E)`.
    pub(super) v: Buf<T>,
    /// `(T, H * E)`, what attention gives.
    pub(super) mixed: Buf<T>,
    /// `(T, H)`.
    pub(super) lse: Buf<f32>,
    /// `(T, D)` before its norm, if it has one: attention's output.
    pub(super) attention_out: Option<Buf<T>>,
    /// `(T, D)`, the sum after attention.
    pub(super) middle: Buf<T>,
    /// `(T, F)`; the backward pass replaces it by its gradient.
    pub(super) gate: Buf<T>,
    /// `(T, F)`, likewise.
    pub(super) up: Buf<T>,
    /// `(T, D)` before its norm, if it has one: the feed-forward part's output.
    pub(super) mlp_out: Option<Buf<T>>,
}

/// What every layer writes anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Working<T> {
    /// `(T, D)`, the rows that a norm gave last.
    pub(super) normed: Buf<T>,
    /// `(T, D)`, what is added next to the residual stream, or its gradient.
    pub(super) branch: Buf<T>,
    /// `(T, F)`.
    pub(super) inner: Buf<T>,
    pub(super) room: Room<T>,
}

/// What the backward pass writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gradients<T> {
    /// `(T, D)`, of the residual stream.
    pub(super) stream: Buf<T>,
    /// `(T, D)`, of the rows that a norm gave.
    pub(super) normed: Buf<T>,
    /// `(T, F)`.
    pub(super) inner: Buf<T>,
    /// `(T, H * E)`.
    pub(super) mixed: Buf<T>,
    /// `(T, H * E)`.
    pub(super) q: Buf<T>,
    /// `(T, K * E)`.
    pub(super) k: Buf<T>,
    /// `(T, K * E)`.
    pub(super) v: Buf<T>,
    /// `(T, H)`.
    pub(super) delta: Buf<f32>,
    /// `(D,)` or less: where gradients of norms go that do not learn.
    pub(super) nowhere: Buf<f32>,
}

/// What the head works in; C rows of logits at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRoom<T> {
    /// `(C, D)`.
    pub(super) rows: Buf<T>,
    /// `(C, V)`.
    pub(super) logits: Buf<f32>,
    /// Of each target, (T,).
    pub(super) scores: Scores,
    /// What the backward pass needs.
    pub(super) back: Option<HeadBack<T>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct HeadBack<T> {
    /// `(C, V)`, by the logits; in f32 it replaces them.
    pub(super) logits: Buf<T>,
    /// `(C, D)`, by the rows.
    pub(super) rows: Buf<T>,
    /// `(T, D)`, by all positions.
    pub(super) hidden: Buf<f32>,
    /// Factor of each target's log-probability, (T,).
    pub(super) factors: Buf<f32>,
}

/// The activations of a pass over T positions.
#[derive(Clone, Debug)]
pub struct Activations<T> {
    /// `(T, D)`, the inputs of the layers and the last one's output; without a backward pass two that take turns.
    pub(super) streams: Vec<Buf<T>>,
    /// Of each layer, or of one after the other.
    pub(super) kept: Vec<Kept<T>>,
    pub(super) working: Working<T>,
    pub(super) gradients: Option<Gradients<T>>,
    pub(super) head: HeadRoom<T>,
    /// Bytes in all.
    pub(super) bytes: usize,
}

/// Hands out memory from front to back, each piece aligned as fresh memory is.
struct Cursor {
    at: u64,
    used: usize,
}

impl Cursor {
    fn take<T: Element>(&mut self, len: usize) -> Buf<T> {
        let bytes = len * size_of::<T>();
        let at = self.at + self.used as u64;
        self.used = (self.used + bytes).next_multiple_of(ACTIVATION_ALIGNMENT);
        Buf::new(Region { at, bytes })
    }
}

impl<T: Stored> Activations<T> {
    /// The places of everything in `memory`.
    ///
    /// # Panics
    /// The memory is too small.
    pub(super) fn within(memory: Region, config: &DecoderConfig, extent: &Extent) -> Self {
        let all = Self::lay_out(config, extent, memory.at);
        assert!(
            all.bytes <= memory.bytes,
            "{} bytes for {}",
            memory.bytes,
            all.bytes
        );
        all
    }

    fn lay_out(config: &DecoderConfig, extent: &Extent, at: u64) -> Self {
        let mut cursor = Cursor { at, used: 0 };
        let to = &mut cursor;
        let (rows, back) = (extent.positions, extent.keep != Keep::Nothing);
        let (layers, d) = (config.layers(), config.hidden_size);
        let streams = if back { layers + 1 } else { 2 };
        let kept = extent.keep.layers();
        let all = Self {
            streams: (0..streams).map(|_| to.take(rows * d)).collect(),
            kept: (0..kept).map(|_| Kept::take(to, config, rows)).collect(),
            working: Working::take(to, config, extent),
            gradients: back.then(|| Gradients::take(to, config, rows)),
            head: HeadRoom::take(to, config, extent),
            bytes: 0,
        };
        Self {
            bytes: cursor.used,
            ..all
        }
    }

    /// The stream that goes into layer `layer`, or out of the last.
    pub(super) fn stream(&self, layer: usize) -> Buf<T> {
        self.streams[layer % self.streams.len()]
    }

    /// What layer `layer` keeps, of `layers`: the last ones have places of their own, and all before them share one with the
    /// first of these, which writes it last.
    pub(super) fn kept(&self, layer: usize, layers: usize) -> &Kept<T> {
        let first = layers.saturating_sub(self.kept.len());
        &self.kept[layer.saturating_sub(first)]
    }

    /// Whether what layer `layer` of `layers` keeps is overwritten by another before the backward pass reads it.
    pub(super) fn is_shared(&self, layer: usize, layers: usize) -> bool {
        layer + self.kept.len() < layers
    }
}

/// Numbers of a row of queries, and of a row of keys.
fn widths(config: &DecoderConfig) -> (usize, usize) {
    (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    )
}

impl<T: Stored> Kept<T> {
    fn take(to: &mut Cursor, config: &DecoderConfig, rows: usize) -> Self {
        let (d, f) = (rows * config.hidden_size, rows * config.intermediate_size);
        let (q, kv) = widths(config);
        let (q, kv) = (rows * q, rows * kv);
        Self {
            raw: config.qk_norm.then(|| (to.take(q), to.take(kv))),
            q: to.take(q),
            k: to.take(kv),
            v: to.take(kv),
            mixed: to.take(q),
            lse: to.take(rows * config.heads),
            attention_out: config.post_norms.then(|| to.take(d)),
            middle: to.take(d),
            gate: to.take(f),
            up: to.take(f),
            mlp_out: config.post_norms.then(|| to.take(d)),
        }
    }
}

impl<T: Stored> Working<T> {
    fn take(to: &mut Cursor, config: &DecoderConfig, extent: &Extent) -> Self {
        let (rows, d, f) = (
            extent.positions,
            config.hidden_size,
            config.intermediate_size,
        );
        let widest = d.max(f).max(widths(config).0);
        let parts = if extent.keep == Keep::Nothing {
            0
        } else {
            PARTS
        };
        Self {
            normed: to.take(rows * d),
            branch: to.take(rows * d),
            inner: to.take(rows * f),
            room: Room {
                parts: to.take(parts * widest),
                low: [(); 2].map(|()| to.take(rows * extent.rank)),
            },
        }
    }
}

impl<T: Stored> Gradients<T> {
    fn take(to: &mut Cursor, config: &DecoderConfig, rows: usize) -> Self {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = widths(config);
        Self {
            stream: to.take(rows * d),
            normed: to.take(rows * d),
            inner: to.take(rows * f),
            mixed: to.take(rows * q),
            q: to.take(rows * q),
            k: to.take(rows * kv),
            v: to.take(rows * kv),
            delta: to.take(rows * config.heads),
            nowhere: to.take(d.max(config.head_dim)),
        }
    }
}

impl<T: Stored> HeadRoom<T> {
    fn take(to: &mut Cursor, config: &DecoderConfig, extent: &Extent) -> Self {
        let (d, targets) = (config.hidden_size, extent.positions);
        let chunk = extent.head_rows.min(targets);
        let logits: Buf<f32> = to.take(chunk * config.vocab_size);
        let back = extent.keep != Keep::Nothing;
        Self {
            rows: to.take(chunk * d),
            logits,
            scores: Scores {
                logp: to.take(targets),
                lse: to.take(targets),
                correct: to.take(targets),
            },
            back: back.then(|| HeadBack {
                logits: T::pick(None, Some(())).map_or_else(
                    || Buf::new(logits.region()),
                    |()| to.take(chunk * config.vocab_size),
                ),
                rows: to.take(chunk * d),
                hidden: to.take(extent.positions * d),
                factors: to.take(targets),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::activation_bytes;
    use crate::gpu::testing::{FAMILIES, family};
    use half::bf16;

    fn same<T: Stored>(config: &DecoderConfig, extent: &Extent) {
        let placed = Activations::<T>::lay_out(config, extent, 0).bytes;
        let said = activation_bytes(config, extent, size_of::<T>());
        assert_eq!(placed, said, "{extent:?} of {config:?}");
    }

    #[test]
    fn activations_take_what_was_said_beforehand_in_every_family() {
        for name in FAMILIES {
            let config = DecoderConfig::from_file(&family(name)).unwrap();
            let keeps = [1, 2, config.layers()].map(Keep::Layers);
            for keep in keeps.into_iter().chain([Keep::Nothing]) {
                for (positions, head_rows, rank) in [(1, 3, 0), (37, 100, 5), (2048, 256, 16)] {
                    let extent = Extent {
                        positions,
                        keep,
                        head_rows,
                        rank,
                    };
                    same::<f32>(&config, &extent);
                    same::<bf16>(&config, &extent);
                }
            }
        }
    }
}
