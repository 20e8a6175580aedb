//! How large the activations of a pass on a card are. Their places, which `gpu` gives, take the same bytes: a test there
//! compares the two.

use crate::arch::config::DecoderConfig;

/// What a pass keeps for its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there is none.
    Nothing,
    /// The input of each layer, and of so many of the last ones what their backward pass reads; one at least. The others are
    /// computed again: the same bits in less memory.
    Layers(usize),
}

impl Keep {
    /// Layers of which a pass holds everything.
    pub fn layers(self) -> usize {
        match self {
            Self::Nothing => 1,
            Self::Layers(count) => count,
        }
    }
}

/// How large a pass is.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// T.
    pub positions: usize,
    /// What is kept.
    pub keep: Keep,
    /// C, rows of logits at a time.
    pub head_rows: usize,
    /// R, the largest of all adapters; 0 without any.
    pub rank: usize,
}

/// Rows of partial sums of the widest array; a narrower one has more of them. As many blocks sum columns, or the gradient
/// of a norm's weight, at a time.
pub const PARTS: usize = 128;

/// Every array of the activations begins at a multiple of so many bytes, as fresh memory does.
pub const ACTIVATION_ALIGNMENT: usize = 256;

/// Rows of logits at a time of a vocabulary of so many tokens: as many as 2 GiB of `f32` hold, which is 2048 for a quarter
/// of a million tokens. Fewer rows would read the head more often, more would take memory from activations.
pub fn head_rows(vocabulary: usize) -> usize {
    ((1 << 29) / vocabulary.max(1)).clamp(256, 8192)
}

/// Bytes of the activations of a pass, whose numbers are stored in `width` bytes each.
pub fn activation_bytes(config: &DecoderConfig, extent: &Extent, width: usize) -> usize {
    let rows = extent.positions;
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let aligned = |bytes: usize| bytes.next_multiple_of(ACTIVATION_ALIGNMENT);
    let stored = |numbers: usize| aligned(numbers * width);
    let wide = |numbers: usize| aligned(numbers * 4);
    let back = extent.keep != Keep::Nothing;

    let streams = if back { config.layers() + 1 } else { 2 };
    let kept = extent.keep.layers();
    let mut layer = 2 * stored(rows * q)
        + 2 * stored(rows * kv)
        + wide(rows * config.heads)
        + stored(rows * d)
        + 2 * stored(rows * f);
    if config.qk_norm {
        layer += stored(rows * q) + stored(rows * kv);
    }
    if config.post_norms {
        layer += 2 * stored(rows * d);
    }
    let parts = if back { PARTS } else { 0 };
    let working = 2 * stored(rows * d)
        + stored(rows * f)
        + wide(parts * d.max(f).max(q))
        + 2 * stored(rows * extent.rank);
    let gradients = 2 * stored(rows * d)
        + stored(rows * f)
        + 2 * stored(rows * q)
        + 2 * stored(rows * kv)
        + wide(rows * config.heads)
        + wide(d.max(config.head_dim));
    let chunk = extent.head_rows.min(rows);
    let logits = chunk * config.vocab_size;
    let head = stored(chunk * d) + wide(logits) + 3 * wide(rows);
    // In f32 the gradient by the logits takes their place.
    let logits_back = if width == 4 { 0 } else { stored(logits) };
    let head_back = logits_back + stored(chunk * d) + wide(rows * d) + wide(rows);
    let backward = if back { gradients + head_back } else { 0 };
    streams * stored(rows * d) + kept * layer + working + head + backward
}

/// The most layers of `most`, of which `extent` can hold everything in `room` bytes; one, also if that is too much.
pub fn layers_that_fit(
    config: &DecoderConfig,
    extent: &Extent,
    width: usize,
    (room, most): (usize, usize),
) -> usize {
    let bytes = |count| {
        let keep = Keep::Layers(count);
        activation_bytes(config, &Extent { keep, ..*extent }, width)
    };
    let least = bytes(1);
    let each = bytes(2) - least;
    let more = room.saturating_sub(least).checked_div(each);
    more.unwrap_or(most).saturating_add(1).min(most).max(1)
}
