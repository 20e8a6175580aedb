//! What is measured on a trial's last checkpoint.

use crate::config::data_source::DataSource;
use crate::config::judge::JudgeRuntime;
use crate::config::judged::JudgedEval;
use crate::config::preference::PairLimits;
use crate::config::range::{NonNegative, Share};
use crate::config::task::TaskRecipe;
use crate::config::training::{Precision, TrainRuntime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// Evaluation of a trial's last checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EvalConfig {
    /// Everything that can change a score.
    pub recipe: EvalRecipe,
    /// Evaluates the weights that the last stage kept after this step (one of its `save-steps`);
    /// absent: its final ones. One training run so serves many points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_step: Option<u64>,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
    /// How the judge of a chat benchmark is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_runtime: Option<JudgeRuntime>,
}

/// What is measured. Every set is named; metric keys begin with that name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EvalRecipe {
    /// Loss and perplexity per reply token: `<name>/loss`, `<name>/perplexity`.
    #[serde(default)]
    pub likelihood: BTreeMap<String, LikelihoodEval>,
    /// Implicit-reward accuracy, margins and probability margin, where the pipeline has a
    /// reference (`dpo`): `<name>/rewards/accuracies` and so on.
    #[serde(default)]
    pub preference: BTreeMap<String, PreferenceEval>,
    /// Rule score of sampled stories: `<name>/rule_score` and so on.
    #[serde(default)]
    pub stories: BTreeMap<String, StoriesEval>,
    /// Chat benchmarks whose answers a judge scores: `<name>/rating` or `<name>/win_rate` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judged: BTreeMap<String, JudgedEval>,
    /// Evaluation tasks, each a file or written here: `<name>/acc` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, TaskRecipe>,
    /// Number format.
    pub precision: Precision,
}

impl EvalRecipe {
    /// The data entries of the set of this name; none of a benchmark or a task, which have files of their own.
    pub fn data_of(&self, set: &str) -> &[DataSource] {
        let likelihood = self.likelihood.get(set).map(|of| &of.data);
        let preference = || self.preference.get(set).map(|of| &of.data);
        let stories = || self.stories.get(set).map(|of| &of.data);
        likelihood
            .or_else(preference)
            .or_else(stories)
            .map_or(&[], Vec::as_slice)
    }
}

/// Held-out likelihood of the assistant's replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LikelihoodEval {
    /// Chat or instruction data.
    pub data: Vec<DataSource>,
    /// Longer documents are cut, counted; tokens.
    pub max_seq_len: usize,
    /// Rows that have the same value under this key of the data are one cluster: they are not independent,
    /// and an interval counts them as one. `"id"`: each row by itself. Absent: rows of one prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Held-out preference pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreferenceEval {
    /// Preference pairs.
    pub data: Vec<DataSource>,
    /// Length limits, in tokens.
    pub limits: PairLimits,
    /// Rows that have the same value under this key of the data are one cluster: they are not independent,
    /// and an interval counts them as one. `"id"`: each row by itself. Absent: rows of one prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Sampled stories, judged by verifiable rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoriesEval {
    /// Rows with `messages` and `constraints` (`name`, `dialogue`).
    pub data: Vec<DataSource>,
    /// Use the first so many prompts; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompts: Option<NonZeroUsize>,
    /// Samples a prompt.
    pub samples: NonZeroUsize,
    /// Sampling parameters.
    pub sampling: SamplingRecipe,
    /// Seed of the samples, the same for every trial so that comparisons are paired.
    pub seed: u64,
    /// Rows that have the same value under this key of the data are one cluster: they are not independent,
    /// and an interval counts them as one. `"id"`: each row by itself. Absent: rows of one prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Sampling from a policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SamplingRecipe {
    /// Softmax temperature; 0 is greedy.
    pub temperature: NonNegative,
    /// Nucleus mass; 1 keeps every token.
    pub top_p: Share,
    /// Most new tokens.
    pub max_new_tokens: NonZeroUsize,
}
