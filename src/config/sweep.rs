//! A sweep after expansion: trials, the question, and what to report.

use crate::config::spec::TrialConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An axis value as a person wrote it, for tables and matching: `0.1`, `"concat"`, a label.
pub type AxisValue = serde_json::Value;

/// A sweep file, fully expanded and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Unique name; the folder under `reports/`.
    pub name: String,
    /// The question that the sweep answers, one sentence.
    pub question: String,
    /// Axis names in the order of the file.
    pub axes: Vec<AxisInfo>,
    /// Every trial: each point of the grid times each seed, in a fixed order.
    pub trials: Vec<Trial>,
    /// What to report.
    pub report: ReportSpec,
}

/// An axis, for tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AxisInfo {
    /// Its name.
    pub name: String,
    /// Its values in file order.
    pub values: Vec<AxisValue>,
}

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

/// A value without JSON's quotes around strings.
pub fn show_value(value: &AxisValue) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// What a sweep reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReportSpec {
    /// Comparison tables, in order.
    #[serde(default, rename = "table")]
    pub tables: Vec<TableSpec>,
    /// Figures, in order.
    #[serde(default, rename = "figure")]
    pub figures: Vec<FigureSpec>,
}

/// One comparison table: a row per configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FigureSpec {
    /// File-name stem, unique in the sweep.
    pub name: String,
    /// Shown above the figure.
    pub title: String,
    /// What is drawn.
    pub kind: FigureKind,
    /// Only trials with these axis values.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, AxisValue>,
    /// Metric key on the y axis: a final metric, or for `training` a step metric.
    pub metric: String,
    /// Axis on x (`bars`, `lines`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Axis that makes series or groups of bars; absent: one series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Logarithmic x axis.
    #[serde(default)]
    pub log_x: bool,
    /// A caption under the figure, for example the definition of the metric.
    #[serde(default)]
    pub caption: String,
}

/// Kinds of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FigureKind {
    /// Grouped bars with intervals over seeds.
    Bars,
    /// Lines over a numeric axis with intervals over seeds; the best point marked.
    Lines,
    /// A step metric along training, one line per configuration.
    Training,
}
