//! Every kernel that Rust launches. A device that is opened must have them all.

use crate::gpu::call::{Entry, Pair};
use crate::gpu::ops::{
    attention, attention_fast, decode_attention, draw, embedding, gated, head, head_norm, mix,
    norm, optimizer, rope, rows,
};

const ALONE: &[&[Entry]] = &[
    draw::ALONE,
    gated::ALONE,
    rope::ALONE,
    norm::ALONE,
    rows::ALONE,
    head::ALONE,
    optimizer::ALONE,
];
const PAIRS: &[&[Pair]] = &[
    attention::PAIRS,
    decode_attention::PAIRS,
    embedding::PAIRS,
    gated::PAIRS,
    head::PAIRS,
    head_norm::PAIRS,
    mix::PAIRS,
    norm::PAIRS,
    rope::PAIRS,
    rows::PAIRS,
];

/// All entry points, in no order.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    let alone = ALONE.iter().flat_map(|some| some.iter());
    let pairs = PAIRS.iter().flat_map(|some| some.iter());
    let pairs = pairs.flat_map(|pair| [&pair.f32, &pair.bf16]);
    alone.chain(pairs).chain(attention_fast::entries())
}
