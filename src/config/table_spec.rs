//! `[[report.table]]`: what a comparison table is told.

use crate::config::axis_value::AxisValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One comparison table: a row per configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TableSpec {
    /// File-name stem, unique in the sweep.
    pub name: String,
    /// Shown above the table.
    pub title: String,
    /// Only trials with these axis values.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, AxisValue>,
    /// Metric keys, first one primary.
    pub metrics: Vec<String>,
    /// Direction of the primary metric; absent: known from the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Axis values of the row that others are compared with.
    #[serde(default)]
    pub baseline: BTreeMap<String, AxisValue>,
    /// Axes on which like is compared with like: the baseline has a row for each of their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
    /// Published results that are printed below, by id (`src/config/published.toml`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}
