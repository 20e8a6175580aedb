//! Recipes of TRL become a sweep (`init --from trl`), and a run's recipe becomes one of TRL (`export-recipe`).

use crate::project::Project;
use crate::session::Study;
use crate::tiny;
use serde_json::{Value, json};

/// In the form of alignment-handbook's recipe for supervised fine-tuning.
const SFT: &str = "# Model arguments
model_name_or_path: org/Base-7B-v0.1
model_revision: main
torch_dtype: bfloat16
attn_implementation: flash_attention_2

# Data training arguments
chat_template: \"{% for message in messages %}{{ message['content'] }}{% endfor %}\"
dataset_mixer:
  org/chats_200k: 1.0
dataset_splits:
- train_sft
- test_sft
preprocessing_num_workers: 12

# SFT trainer config
bf16: true
do_eval: true
evaluation_strategy: epoch
gradient_accumulation_steps: 1
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
hub_model_id: base-7b-sft-full
learning_rate: 2.0e-05
log_level: info
logging_steps: 5
lr_scheduler_type: cosine
max_seq_length: 2048
max_steps: -1
num_train_epochs: 1
output_dir: data/base-7b-sft-full
overwrite_output_dir: true
per_device_eval_batch_size: 8
per_device_train_batch_size: 16
push_to_hub: true
remove_unused_columns: true
report_to:
- tensorboard
save_strategy: \"no\"
seed: 42
warmup_ratio: 0.1
neftune_noise_alpha: 5
";

/// In the form of alignment-handbook's recipe for DPO.
const DPO: &str = "model_name_or_path: org/base-7b-sft-full
torch_dtype: null
dataset_mixer:
  org/feedback_binarized: 0.5
dataset_splits:
- train_prefs
- test_prefs
bf16: true
beta: 0.01
optim: adamw_torch
gradient_accumulation_steps: 2
learning_rate: 5.0e-7
lr_scheduler_type: cosine
max_length: 1024
max_prompt_length: 512
num_train_epochs: 1
per_device_train_batch_size: 8
seed: 42
warmup_ratio: 0.1
";

#[test]
fn the_handbooks_recipes_become_a_sweep_that_is_planned_before_anything_is_there() {
    let project = Project::bare();
    project.write("sft.yaml", SFT);
    project.write("dpo.yaml", DPO);
    let words = [
        "init",
        ".",
        "--from",
        "trl",
        "dpo.yaml",
        "--from",
        "alignment-handbook",
        "sft.yaml",
        "--processes",
        "8",
        "--name",
        "zephyr",
    ];
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    let answered = |key: &str, word: &str| {
        let mut lines = said.out.lines();
        let line = lines.find(|line| line.trim_start().starts_with(&format!("{key} ")));
        assert!(
            line.is_some_and(|line| line.contains(word)),
            "{key}: {line:?} in {}",
            said.out
        );
    };
    answered("learning_rate", "taken");
    answered("neftune_noise_alpha", "unknown");
    answered("gradient_checkpointing", "left out");
    answered("chat_template", "differs");
    assert!(
        said.err
            .contains("the file of `sft` has 1 key that lions does not know"),
        "{said:?}"
    );

    let shown = project.lions(&["config", "show", "sweeps/zephyr.toml"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for line in [
        "pipeline = [\"sft\", \"dpo\"]",
        "learning-rate = 2e-5",
        "learning-rate = 5e-7",
        "rows = 128",
        "global-batch-size = 128",
        "max-seq-len = 2048",
        "max-prompt-len = 512",
        "batching = \"padded\"",
        "loss-mask = \"all-tokens\"",
        "path = \"models/Base-7B-v0.1\"",
    ] {
        assert!(shown.out.contains(line), "no `{line}` in {}", shown.out);
    }
    assert!(shown.out.contains("fraction = 0.5"), "{}", shown.out);
    let plan = project.json(&["plan", "sweeps/zephyr.toml"]);
    let missing: Vec<&Value> = plan["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| &input["from"])
        .collect();
    assert!(
        missing
            .iter()
            .any(|from| from.as_str() == Some("data set org/chats_200k, split train_sft")),
        "{missing:?}"
    );
    assert_eq!(plan["trials"].as_array().unwrap().len(), 9);
    // `check` refuses what is not there, and says where it comes from.
    let checked = project.lions(&["check", "sweeps/zephyr.toml"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(
        checked.err.contains("model org/Base-7B-v0.1"),
        "{checked:?}"
    );
}

#[test]
fn a_recipe_of_trl_runs_on_a_model_and_files_of_ones_own() {
    let project = Project::new();
    let dpo = DPO
        .replace("max_length: 1024", "max_length: 256")
        .replace("max_prompt_length: 512", "max_prompt_length: 128")
        .replace("bf16: true", "bf16: false")
        .replace(
            "per_device_train_batch_size: 8",
            "per_device_train_batch_size: 2",
        );
    project.write("dpo.yaml", dpo);
    let words = [
        "init",
        ".",
        "--from",
        "trl",
        "dpo.yaml",
        "--model",
        "models/stories260k",
        "--pairs",
        "data/pref/polite_train.jsonl",
        "--test-pairs",
        "data/pref/polite_test.jsonl",
        "--name",
        "own",
        "--json",
    ];
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["recipes"][0]["stage"], "dpo");
    let run = project.lions(&["run", "sweeps/own.toml", "--quiet", "--jobs", "2"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(project.path("reports/own/figures/beta.svg").is_file());
}

#[test]
fn what_is_no_recipe_is_refused_with_the_formats() {
    let project = Project::bare();
    project.write("list.yaml", "- a\n- b\n");
    let refused = |format: &str, file: &str, part: &str| {
        let said = project.lions(&["init", ".", "--from", format, file]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(part), "no `{part}` in {said:?}");
        assert!(!project.path("sweeps/first.toml").exists());
    };
    refused(
        "axolotl",
        "list.yaml",
        "known are trl and alignment-handbook",
    );
    refused("trl", "list.yaml", "no table of keys");
    refused("trl", "gone.yaml", "cannot read `gone.yaml`");
}

#[test]
fn a_runs_recipe_is_written_for_trl_with_what_it_cannot_say() {
    let study = Study::shared();
    let project = &study.project;
    let said = project.lions(&["export-recipe", study.id("dpo")]);
    assert_eq!(said.code, 0, "{said:?}");
    let config: Value = serde_yaml_ng::from_str(&said.out).unwrap();
    let recipe = &project.json(&["show", study.id("dpo")])["identity"]["recipe"];
    assert_eq!(config["beta"], recipe["beta"]);
    assert_eq!(
        config["learning_rate"],
        recipe["optimizer"]["learning-rate"]
    );
    assert_eq!(config["loss_type"], "sigmoid");
    let rows = config["per_device_train_batch_size"].as_u64().unwrap();
    let summed = config["gradient_accumulation_steps"].as_u64().unwrap();
    assert_eq!(Some(rows * summed), recipe["global-batch-size"].as_u64());
    assert!(said.out.contains("trl dpo --config"), "{said:?}");
    assert!(
        said.out.contains("#   limits.max-prompt-len = "),
        "{said:?}"
    );
    // Every field of the recipe is a key or a remark.
    let json = project.json(&["export-recipe", study.id("sft")]);
    assert_eq!(json["trainer"], "sft");
    let lost = json["not_expressed"].as_array().unwrap();
    assert!(
        lost.iter()
            .all(|lost| lost["why"] != "TRL has no such option"),
        "{lost:?}"
    );
    let refused = project.lions(&["export-recipe", study.id("eval")]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("trains nothing"), "{refused:?}");
}

/// The rows of a run as lists of turns, which TRL reads: those that were drawn, and no others. What TRL does with them
/// is seen by `tests/clients/export_recipe.py`.
#[test]
fn the_rows_of_a_run_are_written_for_trl() {
    let project = tiny::project();
    let held = "[{ path = \"data/sft/instruct_test.jsonl\" }]";
    let arms = [
        (
            "drawn",
            format!(
                "\"sft.recipe\" = {{ max-examples = 5, dedup = true, empty-system-turn = 1.0, decontaminate = {{ data = {held} }} }}, \
                 \"dpo.recipe\" = {{ max-examples = 6, schedule = {{ decay = \"constant\", warmup-ratio = 1.0 }}, \
                 monitor = {{ data = [{{ path = \"data/pref/polite_test.jsonl\" }}], every-steps = 1 }}, \
                 reference-update = {{ every-steps = 1, mix = 1.0 }} }}"
            ),
        ),
        (
            "kept",
            "select = { of = \"dpo\", recipe = { keep = 4, method = \"longest\" } }, \
             \"dpo.recipe.loss\" = { sigmoid = { label-smoothing = 0.1 } }"
                .to_owned(),
        ),
    ];
    let rest = "[base]\npipeline = [\"sft\", \"dpo\"]\n";
    let results = tiny::run_arms(&project, "written", &arms, &["tales/loss"], rest);
    let exported = |run: &str, file: &str| -> (Value, Vec<Value>) {
        let said = project.lions(&["export-recipe", run, "--rows", file, "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let told: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(told["config"]["datasets"][0]["data_files"], file);
        let rows = project.read(file);
        let rows = rows.lines().map(|row| serde_json::from_str(row).unwrap());
        (told, rows.collect())
    };
    let lost = |told: &Value| -> Vec<String> {
        let lost = told["not_expressed"].as_array().unwrap().iter();
        lost.map(|lost| lost["field"].as_str().unwrap().to_owned())
            .collect()
    };

    let (told, rows) = exported(
        &results.only("drawn", "sft"),
        "data/mine/talks for TRL.jsonl",
    );
    assert_eq!(rows.len(), 5);
    for row in &rows {
        let turns = row["messages"].as_array().unwrap();
        assert_eq!(turns[0], json!({"role": "system", "content": ""}), "{row}");
        assert_eq!(turns[turns.len() - 1]["role"], "assistant", "{row}");
        assert_eq!(row.as_object().unwrap().len(), 1, "{row}");
    }
    // What says which rows there are is said by the file.
    assert_eq!(lost(&told), ["batch.tokens", "loss-mask"]);

    let run = results.only("drawn", "dpo");
    let (told, rows) = exported(&run, "rows.jsonl");
    assert_eq!(rows.len(), 6);
    for row in &rows {
        for (side, role) in [
            ("prompt", "user"),
            ("chosen", "assistant"),
            ("rejected", "assistant"),
        ] {
            let last = row[side].as_array().unwrap().last().unwrap();
            assert_eq!(last["role"], role, "{row}");
        }
    }
    let config = &told["config"];
    assert_eq!(
        (&config["max_steps"], &config["warmup_steps"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(
        config["precompute_ref_log_probs"], false,
        "a reference that moves"
    );
    assert!(
        config["eval_strategy"].is_null(),
        "there is no split for it"
    );
    assert_eq!(
        lost(&told),
        ["limits.max-prompt-len", "limits.truncation", "monitor"]
    );

    let (told, rows) = exported(&results.only("kept", "dpo"), "kept.jsonl");
    let kept = results.lines(&results.only("kept", "select"), "selected.jsonl");
    let shipped = project.read("data/pref/polite_train.jsonl");
    let text = |id: &Value| -> Value {
        let mut rows = shipped
            .lines()
            .map(|row| serde_json::from_str::<Value>(row).unwrap());
        rows.find(|row| row["id"] == *id).unwrap()["chosen"].clone()
    };
    let replies = |row: &Value| row["chosen"][0]["content"].clone();
    let mut got: Vec<String> = rows.iter().map(|row| replies(row).to_string()).collect();
    let mut want: Vec<String> = kept
        .iter()
        .map(|row| text(&row["id"]).to_string())
        .collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
    assert!(
        lost(&told).contains(&"loss.sigmoid.label-smoothing".to_owned()),
        "{told}"
    );
    assert!(told["config"]["label_smoothing"].is_null());

    // Without them it says that they may have to be written; of a file that was changed they cannot be.
    let said = project.lions(&["export-recipe", &run]);
    assert!(said.out.contains("`--rows FILE`"), "{said:?}");
    project.write("data/pref/polite_train.jsonl", "\n");
    let said = project.lions(&["export-recipe", &run, "--rows", "late.jsonl"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("`data/pref/polite_train.jsonl` is not what the run was trained on"),
        "{said:?}"
    );
    assert!(!project.path("late.jsonl").exists());
}

#[test]
fn what_goes_out_comes_back_as_the_same_recipe() {
    let study = Study::copied();
    let project = &study.project;
    let said = project.lions(&["export-recipe", study.id("dpo"), "--out", "trl.yaml"]);
    assert_eq!(said.code, 0, "{said:?}");
    let words = [
        "init",
        "back",
        "--from",
        "trl",
        "trl.yaml",
        "--model",
        "models/stories260k",
        "--pairs",
        "data/pref/polite_train.jsonl",
        "--test-pairs",
        "data/pref/polite_test.jsonl",
    ];
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    let back = project.json(&["config", "show", "back/sweeps/first.toml", "--root", "back"]);
    let recipe = &project.json(&["show", study.id("dpo")])["identity"]["recipe"];
    let value = |path: &str| {
        let mut values = back["values"].as_array().unwrap().iter();
        values
            .find(|value| value["path"] == path)
            .map(|value| value["value"].clone())
    };
    for (path, pointer) in [
        (
            "dpo.recipe.optimizer.learning-rate",
            "/optimizer/learning-rate",
        ),
        ("dpo.recipe.optimizer.beta2", "/optimizer/beta2"),
        ("dpo.recipe.schedule.decay", "/schedule/decay"),
        ("dpo.recipe.schedule.warmup-ratio", "/schedule/warmup-ratio"),
        ("dpo.recipe.global-batch-size", "/global-batch-size"),
        ("dpo.recipe.limits.max-seq-len", "/limits/max-seq-len"),
        ("dpo.recipe.precision", "/precision"),
    ] {
        assert_eq!(value(path).as_ref(), recipe.pointer(pointer), "{path}");
    }
    let least = value("dpo.recipe.schedule.min-ratio")
        .unwrap()
        .as_f64()
        .unwrap();
    let ours = recipe["schedule"]["min-ratio"].as_f64().unwrap();
    assert!((least - ours).abs() < 1e-9, "{least} and {ours}");
}
