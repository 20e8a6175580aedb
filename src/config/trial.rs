//! One point of a sweep.

use crate::config::axis_value::{AxisValue, show_value};
use crate::config::spec::TrialConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One point of the sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Position in the sweep, from 0.
    pub index: usize,
    /// Axis name to value; axes that do not apply are absent.
    pub assignments: BTreeMap<String, AxisValue>,
    /// The trial's seed.
    pub seed: u64,
    /// The complete typed configuration.
    pub config: TrialConfig,
}

impl Trial {
    /// `beta=0.1 size=440`, in axis-name order; `base` if nothing is assigned.
    pub fn label(&self) -> String {
        if self.assignments.is_empty() {
            return "base".to_owned();
        }
        let parts = self
            .assignments
            .iter()
            .map(|(k, v)| format!("{k}={}", show_value(v)));
        parts.collect::<Vec<_>>().join(" ")
    }
}
