//! What is known of a metric from its key: meaning, unit, direction, how to print it.

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither way is better by itself: a description of the run.
    Neither,
}

/// How a metric comes from the mean of its per-row values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// It is that mean.
    Identity,
    /// It is the exponential of that mean.
    Exp,
}

impl Transform {
    /// The metric for a mean over rows.
    pub fn apply(self, mean: f64) -> f64 {
        match self {
            Self::Identity => mean,
            Self::Exp => mean.exp(),
        }
    }
}

/// What is known of a family of metric keys that end alike.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    /// The key's last parts, for example `rewards/accuracies`; the evaluated set comes before.
    pub suffix: &'static str,
    /// Short name for axes and column heads.
    pub name: &'static str,
    /// Unit, empty for pure numbers without one.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// One sentence that defines it.
    pub description: &'static str,
    /// Decimals when printed.
    pub decimals: usize,
    /// Zero means "none of it", so that bars may start there and their lengths compare.
    pub from_zero: bool,
    /// The per-row key whose mean it is, if not the same.
    pub row_key: &'static str,
    /// How it comes from that mean.
    pub transform: Transform,
    /// Whether rows are weighted by their number of reply tokens.
    pub by_tokens: bool,
}

const fn spec(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    better: Better,
    decimals: usize,
    description: &'static str,
) -> MetricSpec {
    MetricSpec {
        suffix,
        name,
        unit,
        better,
        description,
        decimals,
        from_zero: false,
        row_key: suffix,
        transform: Transform::Identity,
        by_tokens: false,
    }
}

const fn share(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    text: &'static str,
) -> MetricSpec {
    MetricSpec {
        from_zero: true,
        ..spec(suffix, name, unit, Better::Higher, 3, text)
    }
}

const fn plain(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    text: &'static str,
) -> MetricSpec {
    spec(suffix, name, unit, Better::Neither, 2, text)
}

static SPECS: &[MetricSpec] = &[
    MetricSpec {
        by_tokens: true,
        ..spec(
            "loss",
            "loss",
            "nats per token",
            Better::Lower,
            3,
            "Mean negative log-probability of the reply tokens, over all reply tokens of the set.",
        )
    },
    MetricSpec {
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
    share(
        "rewards/accuracies",
        "preference accuracy",
        "share of pairs",
        "Share of held-out pairs whose chosen reply has the higher implicit reward, β·(log π − log π_ref).",
    ),
    spec(
        "rewards/margins",
        "reward margin",
        "nats × β",
        Better::Higher,
        3,
        "Mean implicit reward of the chosen reply minus that of the rejected one.",
    ),
    plain(
        "rewards/chosen",
        "reward of chosen",
        "nats × β",
        "Mean implicit reward β·(log π − log π_ref) of the chosen replies.",
    ),
    plain(
        "rewards/rejected",
        "reward of rejected",
        "nats × β",
        "Mean implicit reward β·(log π − log π_ref) of the rejected replies.",
    ),
    plain(
        "logps/chosen",
        "log π(chosen)",
        "nats",
        "Mean log-probability of the whole chosen reply.",
    ),
    plain(
        "logps/rejected",
        "log π(rejected)",
        "nats",
        "Mean log-probability of the whole rejected reply.",
    ),
    plain(
        "logps/chosen_shift",
        "shift of log π(chosen)",
        "nats",
        "Mean change of the chosen reply's log-probability against the reference; below zero is likelihood displacement.",
    ),
    plain(
        "logps/rejected_shift",
        "shift of log π(rejected)",
        "nats",
        "Mean change of the rejected reply's log-probability against the reference.",
    ),
    spec(
        "prob_margin",
        "probability margin",
        "probability",
        Better::Higher,
        4,
        "Mean of π(chosen) − π(rejected) with π(y) = exp(mean log-probability of the reply's tokens); the paper's exact definition is unconfirmed.",
    ),
    MetricSpec {
        better: Better::Neither,
        ..share(
            "length_baseline/longer",
            "accuracy of “longer”",
            "share of pairs",
            "Accuracy of a judge that always prefers the longer reply: what length alone explains.",
        )
    },
    MetricSpec {
        better: Better::Neither,
        ..share(
            "length_baseline/shorter",
            "accuracy of “shorter”",
            "share of pairs",
            "Accuracy of a judge that always prefers the shorter reply: what length alone explains.",
        )
    },
    share(
        "rule_score",
        "rule score",
        "share of rules",
        "Mean share of the five story rules kept: ends in budget, keeps the name, dialogue as asked, no repeated 5-gram, 60–140 words.",
    ),
    share(
        "rules/ends",
        "ends in budget",
        "share of stories",
        "Share of stories that end before the token budget.",
    ),
    share(
        "rules/name",
        "keeps the name",
        "share of stories",
        "Share of stories that name the hero at least twice.",
    ),
    share(
        "rules/dialogue",
        "dialogue as asked",
        "share of stories",
        "Share of stories with dialogue where asked for, and balanced quotes.",
    ),
    share(
        "rules/no_repeat",
        "no repetition",
        "share of stories",
        "Share of stories without a repeated 5-gram.",
    ),
    share(
        "rules/length",
        "length in range",
        "share of stories",
        "Share of stories of 60 to 140 words.",
    ),
    share(
        "win_rate",
        "win rate",
        "share of prompts",
        "Share of prompts on which it beats its opponent; ties count half.",
    ),
    MetricSpec {
        from_zero: true,
        ..plain(
            "words",
            "words",
            "words per story",
            "Mean number of words of a story.",
        )
    },
    MetricSpec {
        from_zero: true,
        ..spec(
            "grad_norm",
            "gradient norm",
            "",
            Better::Neither,
            3,
            "Global L2 norm of the gradient before clipping.",
        )
    },
    MetricSpec {
        from_zero: true,
        ..spec(
            "learning_rate",
            "learning rate",
            "",
            Better::Neither,
            6,
            "Learning rate of the step.",
        )
    },
    MetricSpec {
        from_zero: true,
        ..spec(
            "num_tokens",
            "tokens seen",
            "tokens",
            Better::Neither,
            0,
            "Real tokens processed so far, padding excluded.",
        )
    },
    share(
        "mean_token_accuracy",
        "token accuracy",
        "share of tokens",
        "Share of target tokens that are the most probable one.",
    ),
    share(
        "acc",
        "accuracy",
        "share of questions",
        "Share of questions whose right answer is the most probable.",
    ),
    share(
        "acc_norm",
        "accuracy by length",
        "share of questions",
        "As accuracy, with log-probabilities divided by the answer's length.",
    ),
    MetricSpec {
        from_zero: true,
        ..spec(
            "training/flops",
            "training compute",
            "FLOPs",
            Better::Neither,
            0,
            "Estimated operations, forward and backward, of the last training stage until the evaluated checkpoint.",
        )
    },
    MetricSpec {
        from_zero: true,
        ..spec(
            "training/tokens",
            "training tokens",
            "tokens",
            Better::Neither,
            0,
            "Real tokens that the last training stage processed until the evaluated checkpoint, padding excluded.",
        )
    },
    MetricSpec {
        from_zero: true,
        ..spec(
            "training/steps",
            "training steps",
            "optimiser steps",
            Better::Neither,
            0,
            "Optimiser steps of the last training stage until the evaluated checkpoint.",
        )
    },
    MetricSpec {
        from_zero: true,
        ..spec(
            "tokens_per_sec",
            "throughput",
            "tokens/s",
            Better::Higher,
            0,
            "Real tokens a second.",
        )
    },
];

static UNKNOWN: MetricSpec = spec(
    "",
    "value",
    "",
    Better::Neither,
    4,
    "A metric that has no description yet.",
);

/// What is known of `key`: the longest suffix that fits at a `/`.
pub fn metric_spec(key: &str) -> &'static MetricSpec {
    SPECS
        .iter()
        .filter(|spec| prefix_of(key, spec.suffix).is_some())
        .max_by_key(|spec| spec.suffix.len())
        .unwrap_or(&UNKNOWN)
}

/// The evaluated set that a key begins with: `stories` of `stories/loss`, empty for `loss`.
pub fn metric_set(key: &str) -> &str {
    let suffix = metric_spec(key).suffix;
    prefix_of(key, suffix).unwrap_or_default()
}

/// The part of `key` before `/suffix`; empty if `key` is the suffix; `None` if it ends otherwise.
fn prefix_of<'a>(key: &'a str, suffix: &str) -> Option<&'a str> {
    if suffix.is_empty() {
        return None;
    }
    let head = key.strip_suffix(suffix)?;
    if head.is_empty() {
        Some(head)
    } else {
        head.strip_suffix('/')
    }
}

impl MetricSpec {
    /// `loss (nats per token)`; the key itself if nothing is known of it.
    pub fn label(&self, key: &str) -> String {
        let name = if self.suffix.is_empty() {
            key
        } else {
            self.name
        };
        if self.unit.is_empty() {
            name.to_owned()
        } else {
            format!("{name} ({})", self.unit)
        }
    }

    /// As [`MetricSpec::label`], led by the evaluated set: `stories: loss (nats per token)`.
    pub fn full_label(&self, key: &str) -> String {
        match metric_set(key) {
            "" => self.label(key),
            set => format!("{set}: {}", self.label(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_at_a_slash_decides() {
        assert_eq!(metric_spec("stories/loss").better, Better::Lower);
        assert_eq!(
            metric_spec("polite/logps/chosen_shift").suffix,
            "logps/chosen_shift"
        );
        assert_eq!(
            metric_spec("eval_polite_test/prob_margin").unit,
            "probability"
        );
        // `floss` does not end in `/loss`, so nothing is known of it.
        assert_eq!(metric_spec("floss").suffix, "");
        assert_eq!(metric_spec("loss").suffix, "loss");
    }

    #[test]
    fn the_set_is_what_stands_before_the_known_suffix() {
        assert_eq!(metric_set("polite/rewards/accuracies"), "polite");
        assert_eq!(metric_set("loss"), "");
        assert_eq!(metric_set("mystery/number"), "");
        assert_eq!(
            metric_spec("polite/rewards/accuracies").full_label("polite/rewards/accuracies"),
            "polite: preference accuracy (share of pairs)"
        );
    }

    #[test]
    fn no_two_families_share_a_suffix_and_each_is_described() {
        let mut suffixes: Vec<_> = SPECS.iter().map(|s| s.suffix).collect();
        suffixes.sort_unstable();
        suffixes.dedup();
        assert_eq!(suffixes.len(), SPECS.len());
        assert!(
            SPECS
                .iter()
                .all(|s| s.description.ends_with('.') && !s.name.is_empty())
        );
    }
}
