//! The metric keys that a trial's evaluation and training produce.

use crate::config::spec::{
    Benchmark, DataSource, DpoRecipe, PipelineStage, ScorerRecipe, TaskRecipe, TrialConfig,
};
use crate::metrics::registry::{
    ALPACA_EVAL, ARENA_HARD, DPO_MONITOR, DPO_STEPS, LENGTH_CONTROLLED, LIKELIHOOD, MT_BENCH,
    PREFERENCE, SFT_MONITOR, SFT_STEPS, STORIES, TRAINING_COST,
};
use crate::metrics::{Family, metric_spec};
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
    for (name, task) in &recipe.tasks {
        keys.extend(task_keys(name, task));
    }
    keys
}

/// The metrics of an evaluation task: of the whole, and of its groups and parts.
pub(super) fn task_keys(name: &str, task: &TaskRecipe) -> Vec<String> {
    let mut keys = Vec::new();
    for scorer in &task.score {
        let (filter, suffixes) = scorer_keys(scorer);
        let filter = filter.map_or(String::new(), |filter| format!("/{filter}"));
        let mut places = vec![String::new()];
        for (group, parts) in task.parts.iter().flat_map(|parts| &parts.groups) {
            places.push(format!("/{group}"));
            places.extend(parts.iter().map(|part| format!("/{part}")));
        }
        for suffix in suffixes {
            // What counts instructions is of the whole only.
            let whole = &places[..1];
            let own = if metric_spec(suffix).row_key.is_empty() {
                whole
            } else {
                &places
            };
            keys.extend(
                own.iter()
                    .map(|place| format!("{name}{place}{filter}/{suffix}")),
            );
        }
    }
    keys
}

/// What stands in the keys of a scorer's metrics before their own, and those.
fn scorer_keys(scorer: &ScorerRecipe) -> (Option<&str>, &'static [&'static str]) {
    match scorer {
        ScorerRecipe::Acc => (None, &["acc"]),
        ScorerRecipe::AccNorm => (None, &["acc_norm"]),
        ScorerRecipe::AccBytes => (None, &["acc_bytes"]),
        ScorerRecipe::Mc2 => (None, &["mc2"]),
        ScorerRecipe::ExactMatch(recipe) => (recipe.name.as_deref(), &["exact_match"]),
        ScorerRecipe::Found(recipe) => (recipe.name.as_deref(), &["found"]),
        ScorerRecipe::Ifeval(_) => (
            None,
            &[
                "prompt_level_strict_acc",
                "prompt_level_loose_acc",
                "inst_level_strict_acc",
                "inst_level_loose_acc",
            ],
        ),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::task_file::load_task;
    use crate::metrics::registry::TASKS;

    #[test]
    fn the_keys_of_tasks_are_metrics_that_are_described() {
        let keys = |name: &str| task_keys(name, &load_task(Path::new(""), name).unwrap());
        assert_eq!(
            keys("arc_challenge"),
            ["arc_challenge/acc", "arc_challenge/acc_norm"]
        );
        assert_eq!(
            keys("gsm8k"),
            [
                "gsm8k/strict-match/exact_match",
                "gsm8k/flexible-extract/exact_match"
            ]
        );
        assert_eq!(keys("ifeval").len(), 4);
        let mmlu = keys("mmlu");
        assert_eq!(mmlu.len(), 1 + 4 + 57);
        assert!(mmlu.contains(&"mmlu/stem/acc".to_owned()));
        let known: Vec<&str> = TASKS.specs().iter().map(|spec| spec.suffix).collect();
        for name in crate::config::task_file::shipped_tasks() {
            for key in keys(name) {
                assert!(known.contains(&metric_spec(&key).suffix), "{key}");
            }
        }
    }
}
