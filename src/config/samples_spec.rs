//! `[[report.samples]]`: sampled texts of two configurations, side by side.

use crate::config::axis_value::AxisValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// So many prompts, unless a sweep file says otherwise: a page of them.
const USUAL_PROMPTS: usize = 3;

/// Texts that two configurations sampled for the same prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SamplesSpec {
    /// Unique among the samples of the sweep.
    pub name: String,
    /// Shown above them.
    pub title: String,
    /// The evaluated set of sampled stories: a name in `[eval.recipe.stories]`.
    pub set: String,
    /// Axis values of the one configuration on the left.
    pub left: BTreeMap<String, AxisValue>,
    /// Axis values of the one configuration on the right.
    pub right: BTreeMap<String, AxisValue>,
    /// How many prompts, in the order of the data; absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<NonZeroUsize>,
}

impl SamplesSpec {
    /// How many prompts are shown.
    pub fn shown(&self) -> usize {
        self.prompts.map_or(USUAL_PROMPTS, NonZeroUsize::get)
    }
}
