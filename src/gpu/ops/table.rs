//! Every kernel that Rust launches. A device that is opened must have them all.

use crate::gpu::call::{Entry, Pair};
use crate::gpu::ops::{
    attention, attention_fast, embedding, gated, head, mix, norm, optimizer, rope, rows,
};

const ALONE: &[&[Entry]] = &[
    norm::ALONE,
    rows::ALONE,
    head::ALONE,
    optimizer::ALONE,
    attention_fast::ALONE,
];
const PAIRS: &[&[Pair]] = &[
    attention::PAIRS,
    embedding::PAIRS,
    gated::PAIRS,
    head::PAIRS,
    mix::PAIRS,
    norm::PAIRS,
    rope::PAIRS,
    rows::PAIRS,
];

/// All entry points, in no order.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    let alone = ALONE.iter().flat_map(|some| some.iter());
    let pairs = PAIRS.iter().flat_map(|some| some.iter());
    alone.chain(pairs.flat_map(|pair| [&pair.f32, &pair.bf16]))
}
