//! Whole stages on the shipped model and real rows, in a project folder of their own.

use super::*;
use crate::base::{Digest, Timestamp, digest_file};
use crate::metrics::registry::{
    DPO_MONITOR, DPO_STEPS, JUDGING, LIKELIHOOD, PREFERENCE, SAMPLING, SFT_MONITOR, SFT_STEPS,
    STORIES, TRAINING_COST,
};
use crate::plan::{
    DigestCache, EVAL_ROWS_ARTIFACT, InputRef, InputRole, MODEL_ARTIFACT, PAIRS_ARTIFACT,
    REF_LOGPS_ARTIFACT, RunId, SAMPLES_ARTIFACT, SELECTION_ARTIFACT, STAGE_FORMAT, StageFile,
    StageRecipe,
};
use crate::rundir::{
    AttemptEvent, FailureClass, Publication, RunDir, StageResult, publish, read_events,
    read_provenance, read_result,
};
use crate::rundir::{BATCH_LAYOUT_ARTIFACT, digest_folder, read_batch_layout, write_made};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

/// A project folder with the shipped model and data, and the results of this test.
pub(super) struct Project(tempfile::TempDir);

impl Project {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["models", "data"] {
            let target = std::fs::canonicalize(name).unwrap();
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        }
        Self(dir)
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Prepares the folder of a run, named by one hex digit.
    pub(super) fn prepare(
        &self,
        name: &str,
        task: serde_json::Value,
        inputs: Inputs,
        data: &[&str],
    ) -> RunDir {
        let run = RunId(name.repeat(64));
        let dir = RunDir::new(self.root(), &run);
        let digest = |path: &str| digest_file(&self.root().join(path)).unwrap();
        let file = StageFile {
            format: STAGE_FORMAT,
            run,
            task: serde_json::from_value::<StageRecipe>(task).unwrap(),
            seed: 3,
            chat_template: None,
            inputs,
            data: data.iter().map(|p| ((*p).to_owned(), digest(p))).collect(),
            runtime: crate::config::spec::TrainRuntime::default(),
            judge_runtime: None,
        };
        let text = serde_json::to_vec(&file).unwrap();
        crate::base::write_atomic(&dir.stage(), &text).unwrap();
        dir
    }

    pub(super) fn context(&self, dir: &RunDir, attempt: u32) -> StageContext {
        StageContext::new(self.root(), dir.clone(), attempt)
    }

    /// Executes attempt 1 and publishes its artifacts as the runner would.
    pub(super) fn finish(&self, dir: &RunDir) -> StageResult {
        let result = execute(&self.context(dir, 1)).unwrap();
        Self::publish(dir);
        result
    }

    fn publish(dir: &RunDir) {
        let stage = crate::rundir::read_stage(dir).unwrap();
        let what = Publication {
            run: stage.run,
            kind: stage.task.kind(),
            attempt: 1,
            started: Timestamp(0),
            finished: Timestamp(1),
        };
        publish(dir, &what).unwrap();
    }
}

/// The metrics of a stage are those of these families, each at its place, and no others.
fn assert_metrics(result: &StageResult, families: &[(&crate::metrics::Family, &str)]) {
    let want: BTreeSet<String> = families.iter().flat_map(|(f, at)| f.keys(at)).collect();
    let got: BTreeSet<String> = result.metrics.keys().cloned().collect();
    assert_eq!(got, want);
}

pub(super) type Inputs = BTreeMap<InputRole, InputRef>;

fn shipped_model() -> &'static Digest {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
        let digest = DigestCache::default().model_folder(&folder);
        digest.unwrap().unwrap()
    })
}

pub(super) fn base_model() -> InputRef {
    InputRef::Folder {
        path: "models/stories260k".to_owned(),
        digest: shipped_model().clone(),
    }
}

pub(super) fn artifact(name: &str, artifact: &str) -> InputRef {
    InputRef::Run {
        id: RunId(name.repeat(64)),
        artifact: artifact.to_owned(),
    }
}

pub(super) const CHAT: &str = "data/sft/instruct_train.jsonl";
const STORY_PROMPTS: &str = "data/sft/stories_test.jsonl";
pub(super) const PAIRS: &str = "data/pref/polite_train.jsonl";
pub(super) const HELD_PAIRS: &str = "data/pref/polite_test.jsonl";

pub(super) fn optimizer() -> serde_json::Value {
    json!({"learning-rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight-decay": 0.0,
           "max-grad-norm": 1.0})
}

pub(super) fn schedule() -> serde_json::Value {
    json!({"decay": "cosine", "warmup-ratio": 0.1, "min-ratio": 0.0})
}

pub(super) fn limits() -> serde_json::Value {
    json!({"max-seq-len": 96, "max-prompt-len": 64, "truncation": "keep-end"})
}

pub(super) fn sft_task(steps: u64) -> serde_json::Value {
    json!({"stage": "sft", "recipe": {
        "data": [{"path": CHAT, "count": 40}], "max-examples": 32, "max-seq-len": 64,
        "batching": "concat", "loss-mask": "assistant-only", "batch": {"tokens": 256},
        "duration": {"steps": steps}, "optimizer": optimizer(), "schedule": schedule(),
        "precision": "f32",
        "monitor": {"data": [{"path": "data/sft/instruct_test.jsonl", "count": 4}], "every-steps": 2}
    }})
}

pub(super) fn pair_source(path: &str) -> serde_json::Value {
    json!([{"path": path, "count": 8}])
}

#[test]
fn sft_makes_a_model_that_eval_opens_and_tells_what_it_does() {
    let project = Project::new();
    let inputs = Inputs::from([(InputRole::Model, base_model())]);
    let dir = project.prepare("a", sft_task(5), inputs, &[CHAT]);
    let result = project.finish(&dir);
    assert_eq!(result.artifacts, [MODEL_ARTIFACT]);
    assert_eq!(result.counts["steps"], 5);
    assert_eq!(result.counts["rows_used"], 40);
    assert_eq!(result.counts["documents"], 32);
    assert!(result.metrics["eval_instruct_test/loss"].value < 5.0);
    let families = [(&SFT_STEPS, ""), (&SFT_MONITOR, "eval_instruct_test")];
    assert_metrics(&result, &families);
    assert!(result.usage.flops > 0.0 && result.usage.cpu_secs > 0.0);
    assert!(result.usage.peak_memory_bytes > 1 << 20);
    assert_eq!(read_result(&dir.attempt(1)).unwrap().unwrap(), result);
    assert_eq!(
        read_provenance(&dir.attempt(1)).unwrap().unwrap().device,
        crate::base::Device::Cpu
    );

    let events = read_events(&dir.attempt(1).events()).unwrap();
    assert!(matches!(events[0], AttemptEvent::Started { .. }));
    assert_eq!(*events.last().unwrap(), AttemptEvent::Finished);
    let rows = events.iter().filter_map(|event| match event {
        AttemptEvent::Step { metrics, .. } => Some(metrics.keys().cloned()),
        _ => None,
    });
    let rows: BTreeSet<String> = rows.flatten().collect();
    assert_eq!(rows, result.metrics.keys().cloned().collect());
    let steps: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            AttemptEvent::Step { step, metrics } if metrics.contains_key("loss") => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);

    let task = json!({"stage": "eval", "recipe": {
        "likelihood": {"held": {"data": [{"path": "data/sft/instruct_test.jsonl", "count": 6}],
                                "max-seq-len": 128}},
        "stories": {"tales": {"data": [{"path": STORY_PROMPTS}], "max-prompts": 3, "samples": 2,
            "sampling": {"temperature": 0.7, "top-p": 0.9, "max-new-tokens": 24}, "seed": 1}},
        "precision": "f32"
    }});
    let inputs = Inputs::from([(InputRole::Model, artifact("a", MODEL_ARTIFACT))]);
    let dir = project.prepare("b", task, inputs, &[STORY_PROMPTS]);
    let result = project.finish(&dir);
    let families = [
        (&LIKELIHOOD, "held"),
        (&STORIES, "tales"),
        (&TRAINING_COST, ""),
    ];
    assert_metrics(&result, &families);
    let loss = result.metrics["held/loss"];
    assert!(loss.value > 0.5 && loss.value < 6.0 && loss.stderr.unwrap() > 0.0);
    assert_eq!(loss.n, 6);
    assert!((result.metrics["held/perplexity"].value.ln() - loss.value).abs() < 1e-9);
    let score = result.metrics["tales/rule_score"];
    assert!((0.0..=1.0).contains(&score.value) && score.n == 3);
    let lines = |name: &str| {
        let text = crate::base::fs::read_to_string(&dir.artifacts().join(name)).unwrap();
        text.lines().count()
    };
    assert_eq!(lines(EVAL_ROWS_ARTIFACT), 9);
    assert_eq!(lines("samples.jsonl"), 6);
}

#[test]
fn a_training_that_would_change_nothing_fails() {
    let project = Project::new();
    let inputs = || Inputs::from([(InputRole::Model, base_model())]);
    // The one step of a run with a warm-up has rate 0.
    let dir = project.prepare("d", sft_task(1), inputs(), &[CHAT]);
    let error = execute(&project.context(&dir, 1)).unwrap_err();
    assert!(
        matches!(error, StageError::NoLearningRate { steps: 1 }),
        "{error}"
    );
    assert_eq!(error.class(), crate::rundir::FailureClass::User);

    // No reply begins within two tokens.
    let mut task = sft_task(5);
    task["recipe"]["max-seq-len"] = json!(2);
    task["recipe"]["batching"] = json!("padded");
    let dir = project.prepare("e", task, inputs(), &[CHAT]);
    let error = execute(&project.context(&dir, 1)).unwrap_err();
    let documents = 32;
    assert!(
        matches!(error, StageError::NoTargets { documents: n, max_seq_len: 2 } if n == documents),
        "{error}"
    );
}

#[test]
fn dpo_trains_and_is_evaluated_against_the_stored_reference() {
    let project = Project::new();
    let model = Inputs::from([(InputRole::Model, base_model())]);
    let sets = json!([{"data": pair_source(PAIRS), "limits": limits(), "data-seed": 3},
                      {"data": pair_source(HELD_PAIRS), "limits": limits(), "data-seed": 3},
                      {"data": pair_source(HELD_PAIRS), "limits": limits(), "data-seed": 0}]);
    let task = json!({"stage": "ref-logps", "recipe": {"sets": sets, "precision": "f32"}});
    let dir = project.prepare("c", task, model.clone(), &[PAIRS, HELD_PAIRS]);
    let result = project.finish(&dir);
    assert!(result.counts["pairs"] >= 16 && result.counts["pairs"] <= 24);
    assert_metrics(&result, &[]);

    let reference = artifact("c", REF_LOGPS_ARTIFACT);
    let inputs = Inputs::from([
        (InputRole::Model, base_model()),
        (InputRole::RefLogps, reference.clone()),
    ]);
    let task = json!({"stage": "dpo", "recipe": {
        "data": pair_source(PAIRS), "limits": limits(), "loss": {"sigmoid": {}}, "beta": 0.1,  "reference": "init", "global-batch-size": 4,
        "duration": {"epochs": 2.0}, "optimizer": optimizer(), "schedule": schedule(),
        "precision": "f32", "monitor": {"data": pair_source(HELD_PAIRS), "every-steps": 10}
    }});
    let dir = project.prepare("d", task, inputs, &[PAIRS]);
    let result = project.finish(&dir);
    assert_eq!(result.counts["steps"], 4);
    assert_eq!(result.counts["pairs_kept"], 8);
    assert_eq!(result.artifacts, [MODEL_ARTIFACT, BATCH_LAYOUT_ARTIFACT]);
    let layout = read_batch_layout(&dir).unwrap().unwrap();
    // Four of the eight pairs that `tokens` counts.
    assert_eq!(layout.pairs.len(), 4);
    assert!(layout.flat() < result.counts["tokens"] as usize && layout.longest() <= 96);
    assert!(result.metrics["rewards/margins"].value > 0.0);
    let families = [(&DPO_STEPS, ""), (&DPO_MONITOR, "eval_polite_test")];
    assert_metrics(&result, &families);

    let task = json!({"stage": "eval", "recipe": {
        "preference": {"polite": {"data": pair_source(HELD_PAIRS), "limits": limits()}},
        "precision": "f32"
    }});
    let inputs = |model: InputRef| {
        Inputs::from([
            (InputRole::Model, model),
            (InputRole::RefLogps, reference.clone()),
        ])
    };
    let trained = inputs(artifact("d", MODEL_ARTIFACT));
    let trained = project.finish(&project.prepare("e", task.clone(), trained, &[HELD_PAIRS]));
    let base = project.finish(&project.prepare("f", task, inputs(base_model()), &[HELD_PAIRS]));
    // Against itself the base model has no rewards; the trained one has.
    assert!(base.metrics["polite/rewards/margins"].value.abs() < 1e-4);
    assert!(trained.metrics["polite/rewards/chosen"].value.abs() > 1e-3);
    assert_metrics(&trained, &[(&PREFERENCE, "polite"), (&TRAINING_COST, "")]);
    assert_metrics(&base, &[(&PREFERENCE, "polite")]);
    let sum = |key: &str| trained.metrics[&format!("polite/length_baseline/{key}")].value;
    assert!((sum("longer") + sum("shorter") - 1.0).abs() < 1e-12);
}

/// Inputs of a `sample` run on the shipped stories.
fn sample_task(max_new_tokens: usize) -> serde_json::Value {
    json!({"stage": "sample", "recipe": {
        "prompts": {"data": [{"path": STORY_PROMPTS, "count": 12}], "per-round": 6, "max-prompt-len": 128},
        "round": 1, "samples": 4, "precision": "f32",
        "sampling": {"temperature": 1.0, "top-p": 1.0, "max-new-tokens": max_new_tokens}
    }})
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = crate::base::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_round_of_online_dpo_goes_from_prompts_to_a_trained_model() {
    let project = Project::new();
    let model = Inputs::from([(InputRole::Model, base_model())]);
    let dir = project.prepare("1", sample_task(60), model.clone(), &[STORY_PROMPTS]);
    let result = project.finish(&dir);
    assert_eq!(result.counts["prompts"], 6);
    let samples = lines(&dir.artifacts().join(SAMPLES_ARTIFACT));
    assert_eq!(samples.len(), 6);
    assert!(
        samples
            .iter()
            .all(|line| line["replies"].as_array().unwrap().len() == 4)
    );
    assert!(samples[0]["extra"]["constraints"].is_object());
    assert_eq!(result.metrics["completions/mean_length"].n, 6);
    assert_metrics(&result, &[(&SAMPLING, "")]);

    let task = json!({"stage": "judge", "recipe": {"judge": "rules"}});
    let inputs = Inputs::from([(InputRole::Samples, artifact("1", SAMPLES_ARTIFACT))]);
    let dir = project.prepare("2", task, inputs, &[]);
    let result = project.finish(&dir);
    let pairs = lines(&dir.artifacts().join(PAIRS_ARTIFACT));
    let dropped = |key: &str| result.counts.get(key).copied().unwrap_or(0);
    let lost = dropped("prompts_dropped_tie") + dropped("prompts_dropped_equal");
    assert_eq!(pairs.len() as u64 + lost, 6);
    assert_eq!(result.counts["pairs_online"], pairs.len() as u64);
    assert!(result.metrics["objective/scores_margin"].value > 0.0);
    assert_metrics(&result, &[(&JUDGING, "")]);
    // A reply that was cut off by its budget has no end to learn.
    let cut = pairs
        .iter()
        .filter(|pair| pair["rejected_finished"] == false);
    assert!(cut.count() > 0);

    let pairs_of = (InputRole::Pairs, artifact("2", PAIRS_ARTIFACT));
    let task = json!({"stage": "ref-logps", "recipe": {
        "sets": [], "online": limits(), "precision": "f32"}});
    let inputs = Inputs::from([(InputRole::Model, base_model()), pairs_of.clone()]);
    let dir = project.prepare("3", task, inputs, &[]);
    assert_eq!(project.finish(&dir).counts["pairs"], pairs.len() as u64);

    let inputs = Inputs::from([
        (InputRole::Model, base_model()),
        (InputRole::RefLogps, artifact("3", REF_LOGPS_ARTIFACT)),
        pairs_of,
    ]);
    let task = json!({"stage": "dpo", "recipe": {
        "data": [], "limits": limits(), "loss": {"sigmoid": {}}, "beta": 0.1,
        "reference": "init", "global-batch-size": 2, "duration": {"epochs": 1.0},
        "optimizer": optimizer(), "schedule": schedule(), "precision": "f32"
    }});
    let dir = project.prepare("4", task, inputs, &[]);
    let result = project.finish(&dir);
    assert_eq!(result.counts["pairs_kept"], pairs.len() as u64);
    assert!(dir.artifacts().join(MODEL_ARTIFACT).is_dir());
}

#[test]
fn the_shares_of_offline_pairs_are_those_that_the_recipe_names() {
    let project = Project::new();
    let model = Inputs::from([(InputRole::Model, base_model())]);
    let task = json!({"stage": "sample", "recipe": {
        "prompts": {"data": [{"path": PAIRS, "count": 20}], "max-prompt-len": 64},
        "round": 0, "samples": 2, "precision": "f32",
        "sampling": {"temperature": 1.0, "top-p": 1.0, "max-new-tokens": 4}
    }});
    let dir = project.prepare("1", task, model, &[PAIRS]);
    execute(&project.context(&dir, 1)).unwrap();
    // Rules need constraints, which pairs do not have: give each prompt some.
    let path = dir.attempt(1).out().join(SAMPLES_ARTIFACT);
    let mut prompts = lines(&path);
    for (index, prompt) in prompts.iter_mut().enumerate() {
        prompt["extra"]["constraints"] = json!({"name": null, "dialogue": false});
        for (k, reply) in prompt["replies"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .enumerate()
        {
            reply["text"] = json!(format!("reply {k} to {index}"));
            reply["finished"] = json!(k == 0);
        }
    }
    let text: Vec<String> = prompts.iter().map(ToString::to_string).collect();
    crate::base::write_atomic(&path, text.join("\n").as_bytes()).unwrap();
    let files = digest_folder(&dir.attempt(1).out()).unwrap();
    write_made(&dir.attempt(1), &files).unwrap();
    Project::publish(&dir);

    // 20 rows with 18 prompts: 0.15 and 0.35 of them are 2.7 and 6.3, rounded 3 and 6.
    assert_eq!(prompts.len(), 18);
    let task = json!({"stage": "judge", "recipe": {
        "judge": "rules", "p-ori-pair": 0.15, "p-ori-chosen": 0.35}});
    let inputs = Inputs::from([(InputRole::Samples, artifact("1", SAMPLES_ARTIFACT))]);
    let dir = project.prepare("2", task, inputs, &[]);
    let result = project.finish(&dir);
    assert_eq!(result.counts["pairs_original"], 3);
    assert_eq!(result.counts["pairs_original_chosen"], 6);
    assert_eq!(result.counts["pairs_online"], 9);
    let pairs = lines(&dir.artifacts().join(PAIRS_ARTIFACT));
    let sampled = |pair: &serde_json::Value, key: &str| {
        pair[key][0]["content"]
            .as_str()
            .unwrap()
            .starts_with("reply ")
    };
    assert_eq!(pairs.iter().filter(|p| sampled(p, "chosen")).count(), 9);
    assert_eq!(pairs.iter().filter(|p| sampled(p, "rejected")).count(), 15);
    let worst = pairs.iter().filter(|p| sampled(p, "rejected"));
    assert!(worst.clone().all(|p| p["rejected_finished"] == false));
}

#[test]
fn samples_that_an_earlier_attempt_kept_are_not_drawn_again() {
    let project = Project::new();
    let model = Inputs::from([(InputRole::Model, base_model())]);
    let dir = project.prepare("1", sample_task(8), model.clone(), &[STORY_PROMPTS]);
    project.finish(&dir);
    let mut kept = lines(&dir.artifacts().join(SAMPLES_ARTIFACT));
    kept[0]["replies"][0]["text"] = json!("kept from before");
    let other = project.prepare("2", sample_task(8), model, &[STORY_PROMPTS]);
    let chunk = other.attempt(1).work().join("chunk-000000.json");
    let text = crate::base::with_check(&json!({ "replies": kept }).to_string());
    crate::base::write_atomic(&chunk, text.as_bytes()).unwrap();
    execute(&project.context(&other, 2)).unwrap();
    let got = lines(&other.attempt(2).out().join(SAMPLES_ARTIFACT));
    assert_eq!(got, kept);

    crate::base::write_atomic(&chunk, text.replace("kept from", "kept form").as_bytes()).unwrap();
    let result = execute(&project.context(&other, 3)).unwrap();
    assert!(result.notes[0].contains("is damaged"), "{:?}", result.notes);
    let got = lines(&other.attempt(3).out().join(SAMPLES_ARTIFACT));
    assert_eq!(got, lines(&dir.artifacts().join(SAMPLES_ARTIFACT)));
}

#[test]
fn a_filter_keeps_the_rows_that_training_then_sees() {
    let project = Project::new();
    let model = Inputs::from([(InputRole::Model, base_model())]);
    let task = json!({"stage": "select", "recipe": {
        "rows": {"chat": {"data": [{"path": CHAT, "count": 40}], "max-seq-len": 64}},
        "data-seed": 3, "select": {"keep": 32, "method": "random"}
    }});
    let dir = project.prepare("1", task, model.clone(), &[CHAT]);
    let result = project.finish(&dir);
    assert_eq!(result.counts["rows_kept"], 32);
    assert_eq!(lines(&dir.artifacts().join(SELECTION_ARTIFACT)).len(), 32);
    assert_eq!(lines(&dir.artifacts().join("scores.jsonl")).len(), 40);

    // The seeded prefix of `max-examples` and the filter `random` are the same choice.
    let plain = project.finish(&project.prepare("2", sft_task(2), model.clone(), &[CHAT]));
    let mut inputs = model;
    inputs.insert(InputRole::Selection, artifact("1", SELECTION_ARTIFACT));
    let filtered = project.finish(&project.prepare("3", sft_task(2), inputs, &[CHAT]));
    assert_eq!(filtered.counts["rows_kept_by_select"], 32);
    assert_eq!(filtered.counts["documents"], plain.counts["documents"]);
    assert_eq!(filtered.counts["tokens"], plain.counts["tokens"]);
}

#[test]
fn a_stopped_stage_goes_on_in_its_next_attempt_with_the_same_bytes() {
    let project = Project::new();
    let inputs = Inputs::from([(InputRole::Model, base_model())]);
    let straight = project.prepare("a", sft_task(4), inputs.clone(), &[CHAT]);
    let want = execute(&project.context(&straight, 1)).unwrap();

    // The same recipe under another name: a request to stop is heard after each step.
    let stopped = project.prepare("b", sft_task(4), inputs, &[CHAT]);
    let context = project.context(&stopped, 1);
    context.shutdown.request();
    let error = execute(&context).unwrap_err();
    assert!(matches!(error, StageError::Interrupted));
    let events = read_events(&stopped.attempt(1).events()).unwrap();
    assert_eq!(*events.last().unwrap(), AttemptEvent::Interrupted);
    assert!(events.contains(&AttemptEvent::Checkpointed { step: 1 }));
    assert_eq!(read_result(&stopped.attempt(1)).unwrap(), None);

    let got = execute(&project.context(&stopped, 2)).unwrap();
    let events = read_events(&stopped.attempt(2).events()).unwrap();
    assert!(events.contains(&AttemptEvent::Resumed { step: 1 }));
    assert_eq!(got.metrics, want.metrics);
    let weights = |dir: &RunDir, attempt: u32| {
        let out = dir.attempt(attempt).out().join(MODEL_ARTIFACT);
        digest_file(&out.join("model.safetensors")).unwrap()
    };
    assert_eq!(weights(&stopped, 2), weights(&straight, 1));
}

#[test]
fn data_that_changed_since_the_plan_fails_before_any_work() {
    let project = Project::new();
    let inputs = Inputs::from([(InputRole::Model, base_model())]);
    let dir = project.prepare("a", sft_task(1), inputs, &[CHAT]);
    let text = crate::base::fs::read_to_string(&dir.stage()).unwrap();
    let planned = digest_file(Path::new(CHAT)).unwrap();
    let text = text.replace(&planned.0, &"0".repeat(64));
    crate::base::write_atomic(&dir.stage(), text.as_bytes()).unwrap();
    let error = execute(&project.context(&dir, 1)).unwrap_err();
    assert_eq!(error.class(), FailureClass::User);
    assert!(
        error
            .to_string()
            .starts_with("`data/sft/instruct_train.jsonl` has changed"),
        "{error}"
    );
    let events = read_events(&dir.attempt(1).events()).unwrap();
    assert!(matches!(
        events.last().unwrap(),
        AttemptEvent::Failed { .. }
    ));
}

#[test]
fn a_missing_input_is_named_by_role_and_path() {
    let project = Project::new();
    let inputs = Inputs::from([(InputRole::Model, artifact("9", MODEL_ARTIFACT))]);
    let dir = project.prepare("a", sft_task(1), inputs, &[CHAT]);
    let error = execute(&project.context(&dir, 1)).unwrap_err().to_string();
    assert!(error.starts_with("input `model` is missing: `"), "{error}");
    assert!(
        error.contains("results/runs/999999999999/artifacts/model"),
        "{error}"
    );
}
