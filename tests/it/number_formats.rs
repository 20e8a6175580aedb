//! Number formats from one stage to the next, through `lions run` and the store to a table.

use crate::project::Project;

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
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 4 }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }
[[axis]]
name = "format"
points = [
  { label = "none", set = { pipeline = [] } },
  { label = "f32", set = { sft.recipe.precision = "f32", dpo.recipe.precision = "f32" } },
  { label = "bf16", set = {} },
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
    assert!(moved("f32") < -1e-4, "{table}");
    assert!((moved("bf16") / moved("f32") - 1.0).abs() < 0.2, "{table}");
    assert!(
        (moved("rounded") / moved("f32") - 1.0).abs() > 0.5,
        "{table}"
    );

    // Of the stage that begins with f32 weights, and of the one that writes in bf16.
    let runs = project.json(&["status", "formats"]);
    let sft = runs["runs"].as_array().unwrap().iter();
    let shares = sft.filter(|run| run["kind"] == "sft").map(|run| {
        let shown = project.json(&["show", run["id"].as_str().unwrap()]);
        let count = |name: &str| shown["counts"][name].as_f64().unwrap();
        count("weights_changed") / count("weights")
    });
    let mut shares: Vec<f64> = shares.collect();
    shares.sort_by(f64::total_cmp);
    assert_eq!(shares.len(), 3, "{runs}");
    assert!(shares[0] < 0.2 && shares[1] > 0.9, "{shares:?}");
}
