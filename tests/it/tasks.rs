//! Sweeps that evaluate with tasks, from the file to the comparison.

use crate::parity_tasks::project as golden_rows;
use crate::project::{Project, copy_tree};
use serde_json::{Value, json};

/// The small project with the golden rows of the shipped tasks.
pub(crate) fn project() -> Project {
    let project = Project::new();
    copy_tree(&golden_rows().path("data/eval"), &project.path("data/eval"));
    project.write("tasks/capitals.toml", CAPITALS);
    project.write("data/eval/capitals.jsonl", ROWS);
    project.write("sweeps/tasks.toml", SWEEP);
    project
}

const ROWS: &str = r#"{"land": "France", "city": "Paris"}
{"land": "Japan", "city": "Tokyo"}
{"land": "Kenya", "city": "Nairobi"}
"#;

/// A task of a user's own: no code.
const CAPITALS: &str = r#"data = ["data/eval/capitals.jsonl"]
prompt = "The capital of {{ land }} is"
request = { choices = { of = "['Paris', 'Tokyo', 'Nairobi']" } }
target = "['Paris', 'Tokyo', 'Nairobi'].index(city)"
score = ["acc", "acc-bytes"]
"#;

const SWEEP: &str = r#"extends = ["base/mini.toml"]

[sweep]
name = "tasks"
question = "Does a task run?"
seeds = [1]

[base]
pipeline = ["sft"]

[base.sft.recipe]
batch = { tokens = 512 }
max-seq-len = 256
duration = { steps = 2 }

[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl" }], max-seq-len = 256 }

[base.eval.recipe.tasks]
winogrande = { file = "winogrande", max-rows = 4 }
gsm8k = { file = "gsm8k", max-rows = 2, few-shot = { count = 1 }, request = { generate = { max-new-tokens = 8 } } }
capitals = { file = "tasks/capitals.toml" }

[[axis]]
path = "sft.recipe.optimizer.learning-rate"
values = [1e-4, 1e-3]

[[report.table]]
name = "scores"
title = "Scores"
metrics = ["winogrande/acc", "gsm8k/strict-match/exact_match", "capitals/acc"]
"#;

fn run(project: &Project) -> Value {
    let said = project.lions(&["run", "sweeps/tasks.toml", "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    last["summary"].clone()
}

#[test]
fn a_sweep_evaluates_with_tasks_and_compares_them() {
    let project = project();
    assert_eq!(run(&project)["failed"], 0);
    let table = &project.json(&["compare", "tasks"])[0];
    let text = table.to_string();
    for key in [
        "winogrande/acc",
        "gsm8k/strict-match/exact_match",
        "capitals/acc",
    ] {
        assert!(text.contains(key), "{key}: {text}");
    }
    assert_eq!(table["rows"].as_array().unwrap().len(), 2, "{table}");
    assert_eq!(run(&project)["executed"], 0);

    // What a task says and what its rows hold is part of a run's identity; where they lie is not.
    let moved = CAPITALS.replace("data/eval/capitals.jsonl", "data/eval/cities.jsonl");
    project.write("tasks/capitals.toml", format!("# A remark.\n{moved}"));
    project.write("data/eval/cities.jsonl", ROWS);
    assert_eq!(run(&project)["executed"], 0);
    project.write("data/eval/cities.jsonl", ROWS.replace("Kenya", "Ghana"));
    assert_eq!(run(&project)["executed"], 2);
    project.edit("tasks/capitals.toml", "The capital of", "The main town of");
    assert_eq!(run(&project)["executed"], 2);
}

#[test]
fn a_task_that_is_wrong_is_told_at_its_place() {
    let project = project();
    project.edit(
        "tasks/capitals.toml",
        "score = [\"acc\", \"acc-bytes\"]",
        "score = [\"akk\"]",
    );
    let said = project.lions(&["check", "sweeps/tasks.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("tasks/capitals.toml:5"), "{said:?}");
    let words = [
        "eval",
        "models/stories260k",
        "--tasks",
        "tasks/capitals.toml",
        "--out",
        "x",
    ];
    let said = project.lions(&words);
    assert!(said.err.contains("tasks/capitals.toml:5:10: "), "{said:?}");
    project.edit(
        "tasks/capitals.toml",
        "score = [\"akk\"]",
        "score = [\"acc\"]",
    );
    project.edit(
        "sweeps/tasks.toml",
        "file = \"winogrande\"",
        "file = \"winogrand\"",
    );
    let said = project.lions(&["check", "sweeps/tasks.toml"]);
    assert!(said.err.contains("did you mean `winogrande`?"), "{said:?}");
    // What the file would say is not missed beside it.
    assert_eq!(said.err.matches("error: ").count(), 1, "{said:?}");
    project.edit(
        "sweeps/tasks.toml",
        "file = \"winogrand\"",
        "file = \"winogrande\"",
    );
    // A row that does not fit is found before anything runs.
    project.write(
        "data/eval/capitals.jsonl",
        ROWS.replace("\"city\": \"Tokyo\"", "\"town\": \"Tokyo\""),
    );
    let said = project.lions(&["check", "sweeps/tasks.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("data/eval/capitals.jsonl:2"), "{said:?}");
}

#[test]
fn a_checkpoint_is_evaluated_without_a_sweep() {
    let project = project();
    let words = [
        "eval",
        "models/stories260k",
        "--tasks",
        "arc_challenge,mmlu,tasks/capitals.toml",
        "--out",
        "scores",
        "--max-rows",
        "3",
        "--shots",
        "2",
    ];
    let said = project.json(&words);
    assert!(
        said["metrics"]["arc_challenge/acc_norm"]["value"].is_number(),
        "{said}"
    );
    let results: Value = serde_json::from_str(&project.read("scores/results.json")).unwrap();
    assert_eq!(results["n-shot"]["arc_challenge"], 2);
    assert_eq!(
        results["n-samples"]["mmlu_anatomy"],
        json!({ "original": 3, "effective": 3 })
    );
    let groups = results["groups"].as_object().unwrap();
    assert!(
        groups.contains_key("mmlu") && groups.contains_key("mmlu_stem"),
        "{groups:?}"
    );
    assert!(
        results["results"]["capitals"]["acc,none"].is_number(),
        "{results}"
    );
    let lines = project.read("scores/samples_mmlu.jsonl");
    assert_eq!(lines.lines().count(), 9);

    let said = project.lions(&["eval", "models/stories260k", "--tasks", "arc", "--out", "x"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("arc_challenge"), "{said:?}");
}
