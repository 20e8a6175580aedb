//! Held-out documents: how likely a model finds their replies.

use crate::metrics::spec::{Better, Metric, MetricSpec, Transform, spec};

/// How likely a model finds the replies of one document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplyTotals {
    /// Log-probability of all reply tokens, nats.
    pub logp: f64,
    /// Reply tokens.
    pub tokens: usize,
}

/// Negative log-likelihood by token.
pub(super) const LOSS: MetricSpec = MetricSpec {
    by_tokens: true,
    // 2 % of perplexity.
    delta: Some(0.02),
    ..spec(
        "loss",
        "loss",
        "nats per token",
        Better::Lower,
        3,
        "Mean negative log-probability of a reply token.",
    )
};

/// Metrics of a document.
pub static DOCUMENT: &[Metric<ReplyTotals>] = &[
    Metric {
        spec: LOSS,
        of: |replies| Some(-replies.logp),
    },
    Metric {
        spec: MetricSpec {
            by_tokens: true,
            row_key: "loss",
            transform: Transform::Exp,
            ..spec(
                "perplexity",
                "perplexity",
                "",
                Better::Lower,
                2,
                "Exponential of the loss per reply token.",
            )
        },
        of: |replies| Some(-replies.logp),
    },
];
