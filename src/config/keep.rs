//! What stays on the disk of what a sweep has made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which weights of finished runs `lions gc` leaves; results, samples and log-probabilities always stay.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum KeepPolicy {
    /// None, once nothing more needs them.
    None,
    /// As `last` of the configurations that are not clearly worse than the best by the first metric of the
    /// sweep's first table, once all trials are done; none of the others.
    Best,
    /// The model at the end of each training, and no checkpoints of earlier steps.
    Last,
    /// All.
    #[default]
    All,
}

impl KeepPolicy {
    /// Whether it is what holds where nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::All
    }

    /// What the rungs of a sweep keep that keeps this: once a rung is decided its weights are worth nothing.
    #[must_use]
    pub fn of_rung(self) -> Self {
        match self {
            Self::All => Self::All,
            _ => Self::None,
        }
    }
}
