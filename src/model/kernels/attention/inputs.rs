//! What the backward pass reads.

/// What a backward pass reads: `k` and `v` of a sequence, the rest of its last tokens.
#[derive(Clone, Copy)]
pub(crate) struct SegmentInputs<'a, F> {
    pub(crate) q: &'a [F],
    pub(crate) k: &'a [F],
    pub(crate) v: &'a [F],
    pub(crate) out: &'a [F],
    pub(crate) lse: &'a [F],
    pub(crate) grad: &'a [F],
}
