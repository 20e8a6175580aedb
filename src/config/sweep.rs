//! A sweep after expansion: trials, the question, and what to report.

use crate::config::expected::ExpectedInputs;
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
    /// What is known beforehand of inputs that may not be there; never part of an identity.
    #[serde(default, skip_serializing_if = "ExpectedInputs::is_empty")]
    pub inputs: ExpectedInputs,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// One figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Metric key on the y axis: a final metric, or for `training` a step metric; empty for
    /// `layout`, which measures nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// Which way the metric is better; absent: known from the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Axis on x (`bars`, `lines`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Final metric on x (`scaling`), for example `training/flops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_metric: Option<String>,
    /// Axis that makes series or groups of bars; absent: one series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Axis that makes panels, one a value, side by side; absent: every axis that is placed
    /// nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panels: Option<String>,
    /// Logarithmic x axis.
    #[serde(default)]
    pub log_x: bool,
    /// Order of `bars`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<BarOrder>,
    /// Axis values of the one configuration whose value is a line across `bars` instead of a bar;
    /// `where` does not apply to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reference: BTreeMap<String, AxisValue>,
    /// Final metrics written under each panel of a `training` figure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<String>,
    /// The figure of the paper that this one redraws, for example `Figure 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<String>,
    /// Published results that are printed below, by id (`src/config/published.toml`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// A caption under the figure, for example the definition of the metric.
    #[serde(default)]
    pub caption: String,
}

/// In which order bars stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BarOrder {
    /// As the axis has its values.
    Axis,
    /// The best first.
    Value,
}

/// Kinds of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FigureKind {
    /// Grouped bars with intervals over seeds.
    #[default]
    Bars,
    /// Lines over a numeric axis with intervals over seeds; the best point marked.
    Lines,
    /// A step metric along training, one line per configuration.
    Training,
    /// A final metric over another one, such as compute: a point per configuration, a parabola
    /// through each series, and where it saturates.
    Scaling,
    /// The first batch of preference pairs, padded, without padding, and with shared prompts.
    Layout,
}
