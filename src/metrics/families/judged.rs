//! Scores that a judge gives to the sampled replies of a prompt.

use crate::metrics::spec::{Metric, plain};

/// Metrics of the scores of one prompt's replies; none where nothing was scored.
pub static JUDGED: &[Metric<[f64]>] = &[
    Metric {
        spec: plain(
            "objective/scores",
            "judge score",
            "judge's scale",
            "Mean score that the judge gives to a sampled reply.",
        ),
        of: |scores| (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
    },
    Metric {
        spec: plain(
            "objective/scores_margin",
            "judge margin",
            "judge's scale",
            "Mean distance between a prompt's best and worst score.",
        ),
        of: |scores| {
            let high = scores.iter().copied().reduce(f64::max)?;
            Some(high - scores.iter().copied().reduce(f64::min)?)
        },
    },
];
