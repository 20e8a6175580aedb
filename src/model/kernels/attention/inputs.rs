//! What the backward pass reads.

/// What a backward pass reads: `k` and `v` of a sequence, the rest of its last tokens.
#[derive(Clone, Copy)]
pub struct SegmentInputs<'a, F> {
    /// `(T, H * E)`.
    pub q: &'a [F],
    /// `(S, K * E)`.
    pub k: &'a [F],
    /// `(S, K * E)`.
    pub v: &'a [F],
    /// `(T, H * E)`, what the forward pass gave.
    pub out: &'a [F],
    /// `(T, H)`, logarithms of the sums of exponentials.
    pub lse: &'a [F],
    /// `(T, H * E)`, the gradient of `out`.
    pub grad: &'a [F],
}
