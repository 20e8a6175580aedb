//! Preference pairs under a policy and its reference.

use crate::metrics::spec::{Better, Metric, MetricSpec, plain, share, spec};

/// One reply of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplyMeasures {
    /// Log-probability under the policy, nats, summed over the tokens.
    pub logp: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Log-probability under the reference, nats; 0 without one.
    pub reference_logp: f64,
    /// Implicit reward, as the loss defines it: `β (log π(y) - log π_ref(y))` where it has a reference.
    pub reward: f64,
}

impl ReplyMeasures {
    /// Probability by token, `π(y) = exp(mean token log-probability)`.
    fn probability(&self) -> f64 {
        (self.logp / self.tokens.max(1) as f64).exp()
    }

    /// Change of the log-probability against the reference.
    fn shift(&self) -> f64 {
        self.logp - self.reference_logp
    }
}

/// Both replies of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairMeasures {
    /// The preferred reply.
    pub chosen: ReplyMeasures,
    /// The other.
    pub rejected: ReplyMeasures,
}

// More of a margin is no better by itself: it grows with every step, and with β where it is multiplied by it.
const MARGIN: MetricSpec = MetricSpec {
    decimals: 3,
    ..plain(
        "rewards/margins",
        "reward margin",
        "nats × β",
        "Mean implicit reward of the chosen reply minus that of the rejected one; values of different β do not compare.",
    )
};

const CHOSEN: MetricSpec = plain(
    "rewards/chosen",
    "reward of chosen",
    "nats × β",
    "Mean implicit reward of the chosen replies: β·(log π − log π_ref) where the loss has a reference; values of different β do not compare.",
);

const REJECTED: MetricSpec = plain(
    "rewards/rejected",
    "reward of rejected",
    "nats × β",
    "Mean implicit reward of the rejected replies: β·(log π − log π_ref) where the loss has a reference; values of different β do not compare.",
);

/// What rewards are in an evaluation, which knows no β: log-ratios.
pub static EVALUATED_REWARDS: &[MetricSpec] = &[
    MetricSpec {
        unit: "nats",
        description: "Mean of log π − log π_ref of the chosen reply minus that of the rejected one.",
        ..MARGIN
    },
    MetricSpec {
        unit: "nats",
        description: "Mean of log π − log π_ref of the chosen replies.",
        ..CHOSEN
    },
    MetricSpec {
        unit: "nats",
        description: "Mean of log π − log π_ref of the rejected replies.",
        ..REJECTED
    },
];

/// Metrics of a pair, in training and held out, in the words of TRL.
pub static PAIR: &[Metric<PairMeasures>] = &[
    Metric {
        spec: MetricSpec {
            chance: Some(0.5),
            ..share(
                "rewards/accuracies",
                "preference accuracy",
                "share of pairs",
                "Share of pairs whose chosen reply has the higher implicit reward.",
            )
        },
        // Equal rewards count as wrong.
        of: |pair| Some(f64::from(pair.chosen.reward > pair.rejected.reward)),
    },
    Metric {
        spec: MARGIN,
        of: |pair| Some(pair.chosen.reward - pair.rejected.reward),
    },
    Metric {
        spec: CHOSEN,
        of: |pair| Some(pair.chosen.reward),
    },
    Metric {
        spec: REJECTED,
        of: |pair| Some(pair.rejected.reward),
    },
    Metric {
        spec: plain(
            "logps/chosen",
            "log π(chosen)",
            "nats",
            "Mean log-probability of the whole chosen reply.",
        ),
        of: |pair| Some(pair.chosen.logp),
    },
    Metric {
        spec: plain(
            "logps/rejected",
            "log π(rejected)",
            "nats",
            "Mean log-probability of the whole rejected reply.",
        ),
        of: |pair| Some(pair.rejected.logp),
    },
    Metric {
        spec: spec(
            "prob_margin",
            "probability margin",
            "probability",
            Better::Higher,
            4,
            "Mean of π(chosen) − π(rejected) with π(y) = exp(mean log-probability of the reply's tokens); the paper's exact definition is unconfirmed.",
        ),
        of: |pair| Some(pair.chosen.probability() - pair.rejected.probability()),
    },
];

/// Further metrics of pairs in an evaluation.
pub static HELD_OUT_PAIR: &[Metric<PairMeasures>] = &[
    Metric {
        spec: plain(
            "logps/chosen_shift",
            "shift of log π(chosen)",
            "nats",
            "Mean change of the chosen reply's log-probability against the reference; below zero is likelihood displacement.",
        ),
        of: |pair| Some(pair.chosen.shift()),
    },
    Metric {
        spec: plain(
            "logps/rejected_shift",
            "shift of log π(rejected)",
            "nats",
            "Mean change of the rejected reply's log-probability against the reference.",
        ),
        of: |pair| Some(pair.rejected.shift()),
    },
    Metric {
        spec: MetricSpec {
            better: Better::Neither,
            ..share(
                "length_baseline/longer",
                "accuracy of “longer”",
                "share of pairs",
                "Accuracy of a judge that always prefers the longer reply: what length alone explains.",
            )
        },
        of: |pair| Some(longer_is_better(pair)),
    },
    Metric {
        spec: MetricSpec {
            better: Better::Neither,
            ..share(
                "length_baseline/shorter",
                "accuracy of “shorter”",
                "share of pairs",
                "Accuracy of a judge that always prefers the shorter reply: what length alone explains.",
            )
        },
        of: |pair| Some(1.0 - longer_is_better(pair)),
    },
];

/// 1 if the preferred reply is longer, 0 if it is shorter, one half if both are equal.
fn longer_is_better(pair: &PairMeasures) -> f64 {
    match pair.chosen.tokens.cmp(&pair.rejected.tokens) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::spec::values;
    use std::collections::BTreeMap;

    // π(y_w) = exp(-2 / 2), π(y_l) = exp(-6 / 3): the margin is e^-1 - e^-2. Log-ratios 1 and -2.
    #[test]
    fn metrics_of_a_pair_match_the_hand_computed_values() {
        let reply = |logp, tokens, reference_logp, reward| ReplyMeasures {
            logp,
            tokens,
            reference_logp,
            reward,
        };
        let pair = PairMeasures {
            chosen: reply(-2.0, 2, -3.0, 0.5),
            rejected: reply(-6.0, 3, -4.0, -1.0),
        };
        let got: BTreeMap<_, _> = values(PAIR.iter().chain(HELD_OUT_PAIR), &pair).collect();
        let want = [
            ("rewards/margins", 1.5),
            ("rewards/accuracies", 1.0),
            ("prob_margin", (-1.0f64).exp() - (-2.0f64).exp()),
            ("logps/chosen_shift", 1.0),
            ("logps/rejected_shift", -2.0),
            ("length_baseline/longer", 0.0),
            ("length_baseline/shorter", 1.0),
        ];
        for (key, value) in want {
            assert!((got[key] - value).abs() < 1e-12, "{key}: {}", got[key]);
        }
        assert_eq!(got.len(), PAIR.len() + HELD_OUT_PAIR.len());
    }

    #[test]
    fn equal_rewards_count_as_not_accurate() {
        let got: BTreeMap<_, _> = values(PAIR, &PairMeasures::default()).collect();
        assert!(got["rewards/accuracies"].abs() < 1e-12);
    }
}
