//! Steps of a training, and what is held out along it.

use crate::metrics::spec::{Better, Metric, MetricSpec, share, spec};

/// One optimiser step, of any objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMeasures {
    /// Mean loss of the step.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Real tokens processed until here.
    pub tokens: u64,
}

/// How many targets of a step the model would have chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetHits {
    /// Targets that are the most probable token.
    pub correct: usize,
    /// All targets.
    pub targets: usize,
}

const fn from_zero(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    decimals: usize,
    description: &'static str,
) -> MetricSpec {
    MetricSpec {
        from_zero: true,
        ..spec(suffix, name, unit, Better::Neither, decimals, description)
    }
}

/// What is trained, on the trained rows or on held-out ones. It has no unit that holds for all: of documents
/// it is nats per token, of pairs what the loss and its β make of it.
const LOSS: MetricSpec = spec(
    "loss",
    "loss",
    "",
    Better::Lower,
    3,
    "The loss that is trained: of documents nats per target token; of pairs its size depends on the loss and on β, so that those of different losses or β do not compare.",
);

/// Metrics of every step.
pub static STEP: &[Metric<StepMeasures>] = &[
    Metric {
        spec: LOSS,
        of: |step| Some(step.loss),
    },
    Metric {
        spec: from_zero(
            "grad_norm",
            "gradient norm",
            "",
            3,
            "Global L2 norm of the gradient before clipping.",
        ),
        of: |step| Some(step.grad_norm),
    },
    Metric {
        spec: from_zero(
            "learning_rate",
            "learning rate",
            "",
            6,
            "Learning rate of the step.",
        ),
        of: |step| Some(step.learning_rate),
    },
    Metric {
        spec: from_zero(
            "num_tokens",
            "tokens seen",
            "tokens",
            0,
            "Real tokens processed so far, padding excluded.",
        ),
        of: |step| Some(step.tokens as f64),
    },
];

/// Further metrics of a step of supervised fine-tuning.
pub static SFT_STEP: &[Metric<TargetHits>] = &[Metric {
    spec: share(
        "mean_token_accuracy",
        "token accuracy",
        "share of tokens",
        "Share of target tokens that are the most probable one.",
    ),
    of: |hits| Some(hits.correct as f64 / hits.targets.max(1) as f64),
}];

/// The mean loss of held-out data along training, whatever the objective.
pub static HELD_OUT_LOSS: &[Metric<f64>] = &[Metric {
    spec: LOSS,
    of: |&loss| Some(loss),
}];
