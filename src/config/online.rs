//! Recipes of online DPO and of the place where training data are filtered.

use crate::config::data_source::DataSource;
use crate::config::evaluation::SamplingRecipe;
use crate::config::judge::{JudgeRecipe, JudgeRuntime};
use crate::config::preference::DpoRecipe;
use crate::config::range::UnitInterval;
use crate::config::select::SelectRecipe;
use crate::config::training::{Precision, TrainRuntime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Online preference learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnlineDpoConfig {
    /// Everything that can change the trained weights.
    pub recipe: OnlineDpoRecipe,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
    /// How an endpoint is asked.
    #[serde(default)]
    pub judge_runtime: JudgeRuntime,
}

/// Online DPO: rounds of sampling from the current policy, judging, and a DPO pass over the pairs of
/// best against worst (Yu et al. 2024; Guo et al. 2024 for the idea). Each round is planned as four
/// runs, `sample`, `judge`, `ref-logps` and `dpo`, so that each part is kept and resumed by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnlineDpoRecipe {
    /// Rounds; each starts from the weights that the one before has trained.
    pub rounds: NonZeroUsize,
    /// Where the prompts come from.
    pub prompts: PromptRecipe,
    /// Samples of each prompt, 2 or more (the released recipe: 5).
    pub samples: NonZeroUsize,
    /// How they are drawn (the released recipe: temperature 0.8).
    pub sampling: SamplingRecipe,
    /// Number format of sampling.
    pub precision: Precision,
    /// Who compares them.
    pub judge: JudgeRecipe,
    /// Share of the judged prompts whose pair is the offline one. The prompts must come from
    /// preference data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_ori_pair: Option<UnitInterval>,
    /// Share of the judged prompts whose chosen reply is the offline one, against the worst sample;
    /// at most 1 together with `p-ori-pair`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_ori_chosen: Option<UnitInterval>,
    /// The DPO pass of each round. Its `data` are offline pairs that are trained along, often none;
    /// `reference = "init"` is the policy that the round starts from.
    pub dpo: DpoRecipe,
    /// Fixes the seed of sampling and judging, and of training unless `dpo` has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The prompts of online DPO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PromptRecipe {
    /// Preference pairs, or chat data whose last reply is left away.
    pub data: Vec<DataSource>,
    /// Prompts of one round, taken in turn from a seeded permutation that starts anew when all have
    /// been used; absent: all of them in each round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_round: Option<NonZeroUsize>,
    /// Prompts with more tokens are left out, counted.
    pub max_prompt_len: usize,
}

/// Filtering of training data before a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SelectConfig {
    /// The stage whose data are filtered.
    pub of: SelectOf,
    /// Everything that can change which rows are kept.
    pub recipe: SelectRecipe,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
}

/// A stage whose data can be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SelectOf {
    /// The chat data of `sft`.
    Sft,
    /// The preference pairs of `dpo`.
    Dpo,
}
