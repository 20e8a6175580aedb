//! Batched sampling from a policy.
