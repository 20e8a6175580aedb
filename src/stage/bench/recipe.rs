//! The recipe of a bench.

use crate::config::parse_toml;
use crate::config::spec::{OptimizerRecipe, PreferenceLoss, SamplingRecipe, ScheduleRecipe};
use crate::stage::error::StageError;
use serde::Deserialize;

/// Optimiser, schedule and loss of a bench, the same in `benches/compare`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct BenchRecipe {
    pub(super) optimizer: OptimizerRecipe,
    pub(super) schedule: ScheduleRecipe,
    pub(super) objective: PreferenceLoss,
    pub(super) sampling: SamplingRecipe,
}

impl BenchRecipe {
    /// As `recipe.toml` says.
    pub(super) fn read() -> Result<Self, StageError> {
        Ok(parse_toml(include_str!("recipe.toml"))?)
    }
}
