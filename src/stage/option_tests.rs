//! Options of whole stages: kept checkpoints, filtered rows, a moving reference.

use super::tests::{
    CHAT, HELD_PAIRS, Inputs, PAIRS, Project, artifact, base_model, limits, optimizer, pair_source,
    schedule, sft_task,
};
use super::*;
use crate::base::digest_file;
use crate::plan::{InputRole, MODEL_ARTIFACT, REF_LOGPS_ARTIFACT, checkpoint_artifact};
use crate::rundir::{AttemptEvent, RunDir, StageResult, read_events};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn saving(steps: u64, save: &[u64]) -> Value {
    let mut task = sft_task(steps);
    task["recipe"]["save-steps"] = json!(save);
    task
}

fn from_base() -> Inputs {
    Inputs::from([(InputRole::Model, base_model())])
}

/// Every file below a folder with its digest.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            found.insert(name, digest_file(&path).unwrap().0);
        }
    }
    found
}

fn record(dir: &Path) -> Value {
    let text = crate::base::fs::read_to_string(&dir.join("training.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn models_are_kept_at_chosen_steps_and_say_what_they_cost() {
    let project = Project::new();
    let dir = project.prepare("a", saving(4, &[1, 2, 4]), from_base(), &[CHAT]);
    let result = project.finish(&dir);
    let names = [1, 2, 4].map(checkpoint_artifact);
    assert_eq!(result.artifacts[0], MODEL_ARTIFACT);
    assert_eq!(result.artifacts[1..], names);
    let weights = |name: &str| {
        let file = dir.artifacts().join(name).join("model.safetensors");
        digest_file(&file).unwrap()
    };
    assert_eq!(weights(&names[2]), weights(MODEL_ARTIFACT));
    assert_ne!(weights(&names[1]), weights(&names[2]));
    let costs = names
        .clone()
        .map(|name| record(&dir.artifacts().join(name)));
    let steps = costs.each_ref().map(|cost| cost["steps"].as_u64().unwrap());
    assert_eq!(steps, [1, 2, 4]);
    let last = record(&dir.artifacts().join(MODEL_ARTIFACT));
    assert_eq!(last, costs[2]);
    assert_eq!(last["stage"], "sft");
    assert_eq!(last["tokens"], result.usage.tokens);
    assert_eq!(last["positions"], result.usage.positions);
    assert_eq!(last["flops"], result.usage.flops);
    assert!(costs[0]["flops"].as_f64() < costs[1]["flops"].as_f64());

    // A training without the option ends with the same model.
    let plain = project.prepare("b", sft_task(4), from_base(), &[CHAT]);
    project.finish(&plain);
    let model = |run: &RunDir| files(&run.artifacts().join(MODEL_ARTIFACT));
    assert_eq!(model(&plain), model(&dir));
}

fn eval_task() -> Value {
    json!({"stage": "eval", "recipe": {
        "likelihood": {"held": {"data": [{"path": "data/sft/instruct_test.jsonl", "count": 4}],
                                "max-seq-len": 128}},
        "precision": "f32"
    }})
}

#[test]
fn an_evaluation_tells_where_in_training_its_checkpoint_stands() {
    let project = Project::new();
    let dir = project.prepare("a", saving(3, &[2]), from_base(), &[CHAT]);
    project.finish(&dir);
    let kept = artifact("a", &checkpoint_artifact(2));
    let inputs = Inputs::from([(InputRole::Model, kept)]);
    let got = project.finish(&project.prepare("b", eval_task(), inputs, &[]));
    let cost = record(&dir.artifacts().join(checkpoint_artifact(2)));
    for key in ["steps", "tokens", "flops"] {
        let metric = got.metrics[&format!("training/{key}")];
        assert_eq!(Some(metric.value), cost[key].as_f64(), "{key}");
        assert_eq!((metric.n, metric.stderr), (1, None));
    }
    assert!(got.metrics.contains_key("held/loss"));
    let base = project.finish(&project.prepare("c", eval_task(), from_base(), &[]));
    assert!(!base.metrics.keys().any(|key| key.starts_with("training/")));
}

#[test]
fn checkpoints_of_interrupted_attempts_are_taken_over() {
    let project = Project::new();
    let task = || saving(4, &[1, 2, 4]);
    let straight = project.prepare("a", task(), from_base(), &[CHAT]);
    let want = execute(&project.context(&straight, 1)).unwrap();

    let stopped = project.prepare("b", task(), from_base(), &[CHAT]);
    for attempt in [1, 2] {
        let context = project.context(&stopped, attempt);
        context.shutdown.request();
        let error = execute(&context).unwrap_err();
        assert!(matches!(error, StageError::Interrupted));
    }
    let got = execute(&project.context(&stopped, 3)).unwrap();
    let events = read_events(&stopped.attempt(3).events()).unwrap();
    assert!(events.contains(&AttemptEvent::Resumed { step: 2 }));
    assert_eq!(got.artifacts, want.artifacts);
    let made = files(&stopped.attempt(3).out());
    assert_eq!(made, files(&straight.attempt(1).out()));
    assert_eq!(
        made.keys()
            .filter(|name| name.ends_with("training.json"))
            .count(),
        4
    );
}

#[test]
fn where_an_earlier_checkpoint_is_gone_training_starts_anew() {
    let project = Project::new();
    let task = || saving(3, &[1]);
    let straight = project.prepare("a", task(), from_base(), &[CHAT]);
    execute(&project.context(&straight, 1)).unwrap();
    let stopped = project.prepare("b", task(), from_base(), &[CHAT]);
    let context = project.context(&stopped, 1);
    context.shutdown.request();
    execute(&context).unwrap_err();
    let kept = stopped.attempt(1).out().join(checkpoint_artifact(1));
    std::fs::remove_dir_all(kept).unwrap();
    let got = execute(&project.context(&stopped, 2)).unwrap();
    assert!(
        got.notes
            .iter()
            .any(|note| note.ends_with("training starts anew")),
        "{:?}",
        got.notes
    );
    assert_eq!(
        files(&stopped.attempt(2).out()),
        files(&straight.attempt(1).out())
    );
}

#[test]
fn a_step_behind_the_end_is_refused_before_training() {
    let project = Project::new();
    let mut task = saving(3, &[2, 500]);
    task["recipe"]["duration"] = json!({"epochs": 1.0});
    let dir = project.prepare("a", task, from_base(), &[CHAT]);
    let error = execute(&project.context(&dir, 1)).unwrap_err().to_string();
    assert!(
        error.starts_with("`save-steps` names step 500, but the run has "),
        "{error}"
    );
}

fn dpo_task(options: &Value) -> Value {
    let mut recipe = json!({
        "data": pair_source(PAIRS), "limits": limits(), "loss": {"sigmoid": {}}, "beta": 0.1,  "reference": "init", "global-batch-size": 4,
        "duration": {"epochs": 2.0}, "optimizer": optimizer(), "schedule": schedule(),
        "precision": "f32"
    });
    for (key, value) in options.as_object().unwrap() {
        recipe[key] = value.clone();
    }
    json!({"stage": "dpo", "recipe": recipe})
}

fn with_reference() -> Inputs {
    Inputs::from([
        (InputRole::Model, base_model()),
        (InputRole::RefLogps, artifact("c", REF_LOGPS_ARTIFACT)),
    ])
}

// The stage's seed is 3; see `Project::prepare`.
#[test]
fn filtered_pairs_with_drawn_system_turns_have_their_references() {
    let project = Project::new();
    let filters = json!({
        "dedup": true, "empty-system-turn": 0.5,
        "decontaminate": {"data": [{"path": HELD_PAIRS}], "min-words": 4}
    });
    let mut set = json!({"data": pair_source(PAIRS), "limits": limits(), "data-seed": 3});
    for (key, value) in filters.as_object().unwrap() {
        set[key] = value.clone();
    }
    let task = json!({"stage": "ref-logps", "recipe": {"sets": [set], "precision": "f32"}});
    let asked = project.finish(&project.prepare("c", task, from_base(), &[PAIRS, HELD_PAIRS]));
    let task = dpo_task(&filters);
    let dir = project.prepare("d", task, with_reference(), &[PAIRS, HELD_PAIRS]);
    let result = project.finish(&dir);
    for key in ["rows_duplicate", "rows_contaminated", "system_turns_added"] {
        assert_eq!(result.counts[key], asked.counts[key], "{key}");
    }
    assert_eq!(result.counts["rows_used"], 8);
    assert!((1..8).contains(&result.counts["system_turns_added"]));
    assert!(result.counts["evaluation_texts"] > 0);
    // Without the draws the tokens are others, for which nobody asked.
    let task = dpo_task(&json!({"dedup": true, "decontaminate": filters["decontaminate"]}));
    let dir = project.prepare("e", task, with_reference(), &[PAIRS, HELD_PAIRS]);
    let error = execute(&project.context(&dir, 1)).unwrap_err().to_string();
    assert!(
        error.starts_with("no reference log-probabilities for pair"),
        "{error}"
    );
}

/// What a preference training gives; it is then stopped twice and resumed to the same bytes.
fn stopped_and_straight(project: &Project, options: &Value) -> (RunDir, StageResult) {
    let set = json!({"data": pair_source(PAIRS), "limits": limits(), "data-seed": 3});
    let task = json!({"stage": "ref-logps", "recipe": {"sets": [set], "precision": "f32"}});
    project.finish(&project.prepare("c", task, from_base(), &[PAIRS]));
    let straight = project.prepare("d", dpo_task(options), with_reference(), &[PAIRS]);
    let want = execute(&project.context(&straight, 1)).unwrap();

    let stopped = project.prepare("e", dpo_task(options), with_reference(), &[PAIRS]);
    for attempt in [1, 2] {
        let context = project.context(&stopped, attempt);
        context.shutdown.request();
        execute(&context).unwrap_err();
    }
    let got = execute(&project.context(&stopped, 3)).unwrap();
    assert_eq!(got.metrics, want.metrics);
    assert_eq!(
        files(&stopped.attempt(3).out()),
        files(&straight.attempt(1).out())
    );
    (straight, want)
}

#[test]
fn a_moving_reference_resumes_to_the_same_bytes_and_tells_its_memory() {
    let options = json!({"reference-update": {"every-steps": 1, "mix": 0.6},
                         "trainable-embeddings": {"below": 300}, "save-steps": [1, 2]});
    let (_, result) = stopped_and_straight(&Project::new(), &options);
    let note = "the moving reference keeps a copy of the weights in memory: 1 MiB";
    assert!(result.notes.iter().any(|n| n == note), "{:?}", result.notes);
}

#[test]
fn adapters_leave_merged_models_and_themselves_and_their_reference_moves() {
    let lora = json!({"rank": 2, "alpha": 4.0, "targets": ["q_proj", "v_proj"]});
    let options = json!({"lora": lora, "save-steps": [1, 2],
                         "reference-update": {"every-steps": 1, "mix": 0.6}});
    let project = Project::new();
    let (dir, result) = stopped_and_straight(&project, &options);
    assert!(result.artifacts.iter().any(|name| name == "adapter"));
    let out = dir.attempt(1).out();
    let made = files(&out);
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        assert!(made.contains_key(&format!("adapter/{file}")), "{made:?}");
    }
    let tensors = |folder: &Path| {
        let device = &candle_core::Device::Cpu;
        crate::model::load_tensors(folder, device, candle_core::DType::F32).unwrap()
    };
    let base = tensors(&project.root().join("models/stories260k"));
    let model = tensors(&out.join(MODEL_ARTIFACT));
    let kept = tensors(&out.join(checkpoint_artifact(2)));
    let names = |of: &BTreeMap<String, _>| of.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(&model), names(&base));
    for (name, tensor) in &model {
        let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let adapted = name.contains("q_proj") || name.contains("v_proj");
        assert_eq!(flat(tensor) != flat(&base[name]), adapted, "{name}");
        assert_eq!(flat(tensor) != flat(&kept[name]), adapted, "{name}");
    }
}
