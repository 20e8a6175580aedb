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

/// Negative log-likelihood by token; also the name of every training loss.
pub(super) const LOSS: MetricSpec = MetricSpec {
    by_tokens: true,
    ..spec(
        "loss",
        "loss",
        "nats per token",
        Better::Lower,
        3,
        "Mean loss: of documents the negative log-probability of a target token, of pairs the loss that is trained.",
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
