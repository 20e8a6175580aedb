//! The metric keys that a trial's evaluation and training produce.

use crate::config::spec::{Benchmark, DataSource, DpoRecipe, PipelineStage, TrialConfig};
use crate::metrics::Family;
use crate::metrics::registry::{
    ALPACA_EVAL, ARENA_HARD, DPO_MONITOR, DPO_STEPS, LENGTH_CONTROLLED, LIKELIHOOD, MT_BENCH,
    PREFERENCE, SFT_MONITOR, SFT_STEPS, STORIES, TRAINING_COST,
};
use std::path::Path;

/// Final metrics of a trial: `<set>/<key>` for each evaluation that applies to its pipeline, and
/// the cost of its last training stage under `training/` where the pipeline is not empty.
///
/// Preference sets apply only where the pipeline has a reference, that is, a stage
/// that learns from preferences.
pub fn final_metric_keys(config: &TrialConfig) -> Vec<String> {
    let recipe = &config.eval.recipe;
    let mut keys = Vec::new();
    let mut add = |family: &Family, set: &str| keys.extend(family.keys(set));
    for set in recipe.likelihood.keys() {
        add(&LIKELIHOOD, set);
    }
    if has_reference(config) {
        for set in recipe.preference.keys() {
            add(&PREFERENCE, set);
        }
    }
    for set in recipe.stories.keys() {
        add(&STORIES, set);
    }
    for (set, judged) in &recipe.judged {
        match &judged.benchmark {
            Benchmark::MtBench(_) => add(&MT_BENCH, set),
            Benchmark::ArenaHard(_) => add(&ARENA_HARD, set),
            Benchmark::AlpacaEval(files) => {
                add(&ALPACA_EVAL, set);
                if files.gamed_path.is_some() {
                    add(&LENGTH_CONTROLLED, set);
                }
            }
        }
    }
    if !config.pipeline.is_empty() {
        add(&TRAINING_COST, "");
    }
    keys
}

/// Metrics along the training of a trial: each step's, and the monitored files' under
/// `eval_<file>/`.
pub fn step_metric_keys(config: &TrialConfig) -> Vec<String> {
    let mut keys = Vec::new();
    let mut add = |stage, family: &Family, monitor: &Family, monitored: Option<&[DataSource]>| {
        if !config.pipeline.contains(&stage) {
            return;
        }
        keys.extend(family.keys(""));
        for source in monitored.unwrap_or_default() {
            keys.extend(monitor.keys(&format!("eval_{}", file_stem(&source.path))));
        }
    };
    if let Some(sft) = &config.sft {
        let monitor = sft.recipe.training.monitor.as_ref();
        let data = monitor.map(|monitor| monitor.data.as_slice());
        add(PipelineStage::Sft, &SFT_STEPS, &SFT_MONITOR, data);
    }
    for (stage, recipe) in preference_recipes(config) {
        let monitor = recipe.training.monitor.as_ref();
        let data = monitor.map(|monitor| monitor.data.as_slice());
        add(stage, &DPO_STEPS, &DPO_MONITOR, data);
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

/// The name of a monitored file in metric keys: `polite_test` for `data/pref/polite_test.jsonl`.
pub fn file_stem(path: &str) -> String {
    let unpacked = path.strip_suffix(".gz").or(path.strip_suffix(".zst"));
    let stem = Path::new(unpacked.unwrap_or(path)).file_stem();
    stem.unwrap_or_default().to_string_lossy().into_owned()
}
