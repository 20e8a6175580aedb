//! A sweep after expansion: trials, the question, and what to report.

use crate::config::expected::ExpectedInputs;
use crate::config::halving::Halving;
use crate::config::keep::KeepPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use crate::config::axis_value::{AxisValue, show_value};
pub use crate::config::claim_spec::{ClaimDirection, ClaimSpec};
pub use crate::config::figure_spec::{
    AxisRole, BarOrder, BarsSpec, ChartSpec, DifferencesSpec, FigureHead, FigureSpec, LinesSpec,
    Measured, MetricRole, Numbers, ScalingSpec, TrainingSpec,
};
pub use crate::config::samples_spec::SamplesSpec;
pub use crate::config::table_spec::{Direction, TableSpec};
pub use crate::config::trial::Trial;

/// A sweep file, fully expanded and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Unique name; the folder under `reports/`.
    pub name: String,
    /// The question that the sweep answers, one sentence.
    pub question: String,
    /// Words that it is filed under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What stays on the disk.
    #[serde(default, skip_serializing_if = "KeepPolicy::is_usual")]
    pub keep: KeepPolicy,
    /// Axis names in the order of the file.
    pub axes: Vec<AxisInfo>,
    /// Every trial: each point of the grid times each seed, in a fixed order.
    pub trials: Vec<Trial>,
    /// How configurations are stopped early, and which have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halving: Option<Halving>,
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
    /// What its values count, where that is known; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}

impl AxisInfo {
    /// Its name with the unit: `length (tokens)`.
    pub fn label(&self) -> String {
        if self.unit.is_empty() {
            return self.name.clone();
        }
        format!("{} ({})", self.name, self.unit)
    }
}

/// What a sweep reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReportSpec {
    /// What the sweep sets out to show, in order; its primary comparisons.
    #[serde(default, rename = "claim", skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimSpec>,
    /// By metric: differences up to here make no difference, in its unit; absent: the metric's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delta: BTreeMap<String, f64>,
    /// Comparison tables, in order.
    #[serde(default, rename = "table")]
    pub tables: Vec<TableSpec>,
    /// Figures, in order.
    #[serde(default, rename = "figure")]
    pub figures: Vec<FigureSpec>,
    /// Sampled texts of two configurations side by side, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SamplesSpec>,
}
