//! `[[report.claim]]`: what a sweep sets out to show, written down before it runs.

use crate::config::axis_value::AxisValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a claim says of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimDirection {
    /// The metric is higher than the baseline's.
    Higher,
    /// The metric is lower than the baseline's.
    Lower,
    /// The two differ by less than `delta`.
    Equal,
}

/// A primary comparison. The claims of a sweep are corrected together (Holm); every other comparison is
/// exploratory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClaimSpec {
    /// What is claimed, a sentence without its full stop.
    pub statement: String,
    /// Metric key.
    pub metric: String,
    /// Only trials with these axis values; their seeds' variance is pooled.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, AxisValue>,
    /// Axis values of what the claim is about. Several configurations may have them: each is compared with
    /// its counterpart, and the claim is about the mean of these differences.
    pub ours: BTreeMap<String, AxisValue>,
    /// Axis values of what it is compared with.
    pub baseline: BTreeMap<String, AxisValue>,
    /// What is claimed of the difference.
    pub direction: ClaimDirection,
    /// Differences up to here make no difference, in the metric's unit; absent: the report's or the metric's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
}
