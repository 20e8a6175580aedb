//! The metric keys that a trial's evaluation and training produce.

use crate::config::spec::{DataSource, DpoRecipe, PipelineStage, TrialConfig};
use std::path::Path;

/// Keys of a likelihood evaluation, after the set's name.
const LIKELIHOOD: [&str; 2] = ["loss", "perplexity"];

/// Keys of held-out preference pairs, after the set's name.
const PREFERENCE: [&str; 10] = [
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
    "logps/chosen_shift",
    "prob_margin",
    "length_baseline/longer",
    "length_baseline/shorter",
];

/// Keys of a story evaluation, after the set's name.
const STORIES: [&str; 7] = [
    "rule_score",
    "rules/ends",
    "rules/name",
    "rules/dialogue",
    "rules/no_repeat",
    "rules/length",
    "words",
];

/// What the training of the evaluated checkpoint cost; keys without a set.
const TRAINING: [&str; 3] = ["training/flops", "training/tokens", "training/steps"];

/// Keys of every training step.
const STEP: [&str; 4] = ["loss", "grad_norm", "learning_rate", "num_tokens"];

/// Further keys of an SFT step.
const SFT_STEP: [&str; 1] = ["mean_token_accuracy"];

/// Further keys of a DPO step, and of a DPO monitor after `eval_<file stem>/`.
const DPO_STEP: [&str; 7] = [
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
    "prob_margin",
];

/// What both kinds of monitor measure.
const MONITOR: [&str; 1] = ["loss"];

/// Final metrics of a trial: `<set>/<key>` for each evaluation that applies to its pipeline, and
/// the cost of its last training stage under `training/` where the pipeline is not empty.
///
/// Preference sets apply only where the pipeline has a reference, that is, a stage
/// that learns from preferences.
pub fn final_metric_keys(config: &TrialConfig) -> Vec<String> {
    let recipe = &config.eval.recipe;
    let mut keys = Vec::new();
    let mut add = |set: &String, names: &[&str]| {
        keys.extend(names.iter().map(|name| format!("{set}/{name}")));
    };
    recipe
        .likelihood
        .keys()
        .for_each(|set| add(set, &LIKELIHOOD));
    if has_reference(config) {
        recipe
            .preference
            .keys()
            .for_each(|set| add(set, &PREFERENCE));
    }
    recipe.stories.keys().for_each(|set| add(set, &STORIES));
    if !config.pipeline.is_empty() {
        keys.extend(TRAINING.map(str::to_owned));
    }
    keys
}

/// Metrics along the training of a trial: each step's, and the monitored files' under
/// `eval_<file stem>/`.
pub fn step_metric_keys(config: &TrialConfig) -> Vec<String> {
    let mut keys = Vec::new();
    if config.pipeline.is_empty() {
        return keys;
    }
    keys.extend(STEP.map(str::to_owned));
    let mut monitored = |data: &[DataSource], names: &[&str]| {
        for source in data {
            let stem = file_stem(&source.path);
            keys.extend(names.iter().map(|name| format!("eval_{stem}/{name}")));
        }
    };
    let applies = |stage| config.pipeline.contains(&stage);
    if let Some(monitor) = config
        .sft
        .as_ref()
        .and_then(|sft| sft.recipe.monitor.as_ref())
        && applies(PipelineStage::Sft)
    {
        monitored(&monitor.data, &MONITOR);
    }
    for (stage, recipe) in preference_recipes(config) {
        if let Some(monitor) = &recipe.monitor
            && applies(stage)
        {
            monitored(&monitor.data, &MONITOR);
            monitored(&monitor.data, &DPO_STEP);
        }
    }
    if applies(PipelineStage::Sft) {
        keys.extend(SFT_STEP.map(str::to_owned));
    }
    if has_reference(config) {
        keys.extend(DPO_STEP.map(str::to_owned));
    }
    keys
}

/// Whether the pipeline learns from preferences, and so has a reference.
pub(crate) fn has_reference(config: &TrialConfig) -> bool {
    let learns = |stage: &PipelineStage| *stage != PipelineStage::Sft;
    config.pipeline.iter().any(learns)
}

/// The recipes of preference learning, offline and online.
fn preference_recipes(config: &TrialConfig) -> impl Iterator<Item = (PipelineStage, &DpoRecipe)> {
    let offline = config.dpo.as_ref();
    let offline = offline.map(|dpo| (PipelineStage::Dpo, &dpo.recipe));
    let online = config.online_dpo.as_ref();
    let online = online.map(|online| (PipelineStage::OnlineDpo, &online.recipe.dpo));
    offline.into_iter().chain(online)
}

/// `polite_test` for `data/pref/polite_test.jsonl`.
pub fn file_stem(path: &str) -> String {
    let stem = Path::new(path).file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}
