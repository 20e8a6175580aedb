//! Replies that a policy samples for online learning, prompt by prompt.

use crate::metrics::spec::{Better, Metric, MetricSpec, plain, share};

/// How one sampled reply came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Tokens drawn, without the end token.
    pub tokens: usize,
    /// Whether it ended by itself.
    pub finished: bool,
}

/// Metrics of the replies to one prompt.
pub static SAMPLED: &[Metric<[Completed]>] = &[
    Metric {
        spec: MetricSpec {
            better: Better::Neither,
            ..share(
                "val/contain_eos_token",
                "ended replies",
                "share of replies",
                "Share of sampled replies that end by themselves, within the token budget.",
            )
        },
        of: |replies| Some(mean(replies, |reply| f64::from(reply.finished))),
    },
    Metric {
        spec: MetricSpec {
            from_zero: true,
            ..plain(
                "completions/mean_length",
                "reply length",
                "tokens",
                "Mean number of tokens of a sampled reply.",
            )
        },
        of: |replies| Some(mean(replies, |reply| reply.tokens as f64)),
    },
];

fn mean(replies: &[Completed], of: impl Fn(&Completed) -> f64) -> f64 {
    replies.iter().map(of).sum::<f64>() / replies.len().max(1) as f64
}
