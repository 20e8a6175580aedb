//! What the training of an evaluated checkpoint cost.

use crate::metrics::spec::{Better, Metric, MetricSpec, spec};

/// What the last training stage had spent when the checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingCost {
    /// Estimated floating-point operations.
    pub flops: f64,
    /// Real tokens processed forward.
    pub tokens: u64,
    /// Optimiser steps.
    pub steps: u64,
}

const fn cost(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
) -> MetricSpec {
    MetricSpec {
        from_zero: true,
        ..spec(suffix, name, unit, Better::Neither, 0, description)
    }
}

/// Metrics of a training as a whole.
pub static TRAINING: &[Metric<TrainingCost>] = &[
    Metric {
        spec: cost(
            "training/flops",
            "training compute",
            "FLOPs",
            "Estimated operations, forward and backward, of the last training stage until the evaluated checkpoint.",
        ),
        of: |training| Some(training.flops),
    },
    Metric {
        spec: cost(
            "training/tokens",
            "training tokens",
            "tokens",
            "Real tokens that the last training stage processed until the evaluated checkpoint, padding excluded.",
        ),
        of: |training| Some(training.tokens as f64),
    },
    Metric {
        spec: cost(
            "training/steps",
            "training steps",
            "optimiser steps",
            "Optimiser steps of the last training stage until the evaluated checkpoint.",
        ),
        of: |training| Some(training.steps as f64),
    },
];
