//! Number formats from one stage to the next, through `lions run` and the store to a table.

use crate::project::Project;
use serde_json::Value;

/// Two stages in bf16 whose updates are far below half a unit of most weights.
const SWEEP: &str = r#"extends = ["base/mini.toml"]
[sweep]
name = "formats"
question = "Does a small update reach the evaluation?"
seeds = [1]
[base]
pipeline = ["sft", "dpo"]
[base.sft.recipe]
precision = "bf16"
max-seq-len = 256
batch = { tokens = 256 }
duration = { steps = 2 }
optimizer.learning-rate = 1e-6
schedule = { decay = "constant", warmup-ratio = 0.0, min-ratio = 1.0 }
[base.dpo.recipe]
precision = "bf16"
data = [{ path = "data/pref/polite_train.jsonl", count = 8 }]
global-batch-size = 4
optimizer.learning-rate = 1e-6
schedule = { decay = "constant", warmup-ratio = 0.0, min-ratio = 1.0 }
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl" }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }
[[axis]]
name = "format"
points = [
  { label = "none", set = { pipeline = [] } },
  { label = "f32", set = { sft.recipe.precision = "f32", dpo.recipe.precision = "f32" } },
  { label = "bf16", set = {} },
  { label = "adapters", set = { dpo.recipe.lora = { rank = 2, alpha = 4.0, targets = ["q_proj"] } } },
  { label = "rounded", set = { sft.recipe.save-precision = "bf16", dpo.recipe.save-precision = "bf16" } },
]
"#;

#[test]
fn a_small_update_reaches_the_next_stage_and_the_evaluation() {
    let project = Project::new();
    project.write("sweeps/formats.toml", SWEEP);
    let said = project.lions(&["run", "sweeps/formats.toml", "--jobs", "2"]);
    assert_eq!(said.code, 0, "{said:?}");

    let table = &project.json(&["compare", "formats", "--metrics", "instruct/loss"])[0];
    let loss = |format: &str| {
        let rows = table["rows"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["configuration"]["format"] == format);
        row.unwrap()["results"][0]["estimate"]["value"]
            .as_f64()
            .unwrap()
    };
    let moved = |format| loss(format) - loss("none");
    let error = |format| (moved(format) / moved("f32") - 1.0).abs();
    assert!(moved("f32") < -1e-4, "{table}");
    assert!(error("bf16") < 0.2, "{table}");
    // What is rounded twice on its way is off by the rounding, whichever way that goes.
    assert!(error("rounded") > 2.0 * error("bf16"), "{table}");

    // Of the stage that begins with f32 weights, and of the one that writes in bf16.
    let runs = project.json(&["status", "formats"]);
    let runs = runs["runs"].as_array().unwrap();
    let changed = |run: &Value| {
        let shown = project.json(&["show", run["id"].as_str().unwrap()]);
        let count = |name: &str| shown["counts"][name].as_f64().unwrap();
        (count("weights_changed"), count("weights"))
    };
    let of = |kind: &str| {
        let runs = runs.iter().filter(|run| run["kind"] == kind);
        let mut shares: Vec<_> = runs.map(changed).collect();
        shares.sort_by(|a, b| a.0.total_cmp(&b.0));
        shares
    };
    let sft = of("sft");
    assert_eq!(sft.len(), 3, "{runs:?}");
    assert!(
        sft[0].0 < 0.2 * sft[0].1 && sft[1].0 > 0.9 * sft[1].1,
        "{sft:?}"
    );
    // Adapters on weights that were rounded for training change their own matrices alone.
    let q_proj = 5.0 * 64.0 * 64.0;
    let adapted = of("dpo")
        .into_iter()
        .filter(|(n, _)| *n > 0.9 * q_proj && *n <= q_proj);
    assert_eq!(adapted.count(), 1, "{:?}", of("dpo"));
}

#[test]
fn a_run_in_bf16_is_exported_in_bf16() {
    let project = Project::new();
    project.write("sweeps/formats.toml", SWEEP);
    let only = [
        "  { label = \"none\"",
        "  { label = \"f32\"",
        "  { label = \"adapters\"",
        "  { label = \"rounded\"",
    ];
    let text = project.read("sweeps/formats.toml");
    let left = text
        .lines()
        .filter(|line| !only.iter().any(|arm| line.starts_with(arm)));
    project.write("sweeps/formats.toml", left.collect::<Vec<_>>().join("\n"));
    let said = project.lions(&["run", "sweeps/formats.toml", "--jobs", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    let runs = project.json(&["status", "formats"]);
    let dpo = runs["runs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["kind"] == "dpo");
    let id = dpo.unwrap()["id"].as_str().unwrap().to_owned();
    let model = format!("results/runs/{}/artifacts/model", &id[..12]);
    let said = project.lions(&["export", &id, "--out", "mine"]);
    assert_eq!(said.code, 0, "{said:?}");
    let format = |folder: &str| project.read(&format!("{folder}/config.json"));
    assert!(format(&model).contains("float32") && format("mine").contains("bfloat16"));
    let size = |folder: &str| {
        let weights = project.path(format!("{folder}/model.safetensors"));
        std::fs::metadata(weights).unwrap().len() as f64
    };
    let ratio = size(&model) / size("mine");
    assert!((1.9..2.1).contains(&ratio), "{ratio}");
}
