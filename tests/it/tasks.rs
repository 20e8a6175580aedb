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
    let results: Value =
        serde_json::from_str(&project.read_dated("scores", "results", ".json")).unwrap();
    assert_eq!(results["n-shot"]["arc_challenge"], 2);
    assert_eq!(
        results["n-samples"]["mmlu_anatomy"],
        json!({ "original": 4, "effective": 3 })
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
    let lines = project.read_dated("scores", "samples_mmlu_anatomy", ".jsonl");
    assert_eq!(lines.lines().count(), 3);

    let said = project.lions(&["eval", "models/stories260k", "--tasks", "arc", "--out", "x"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("arc_challenge"), "{said:?}");
}

// The files are lm_eval's own (`tests/golden/eval/make/harness_files.py`): three shots, four rows.
#[test]
fn results_of_the_harness_stand_beside_a_sweep_and_are_compared_row_by_row() {
    let project = project();
    project.edit("sweeps/tasks.toml", "max-rows = 2", "max-rows = 4");
    run(&project);
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval/files");
    copy_tree(&golden, &project.path("others/tiny"));
    let file: Value = serde_json::from_str(&project.read("others/tiny/results.json")).unwrap();

    let tables = project.json(&["compare", "tasks", "--beside", "others/tiny"]);
    let rows = tables[0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{tables}");
    assert_eq!(rows[2]["configuration"], json!({ "sweep": "tiny-qwen2" }));
    let cell = |row: &Value, key: &str| -> Value {
        let mut cells = row["results"].as_array().unwrap().iter();
        let found = cells.find(|cell| cell["metric"] == key);
        found.unwrap_or_else(|| panic!("no {key} in {row}")).clone()
    };
    for (key, task, theirs) in [
        ("winogrande/acc", "winogrande", "acc,none"),
        (
            "gsm8k/strict-match/exact_match",
            "gsm8k",
            "exact_match,strict-match",
        ),
        (
            "gsm8k/flexible-extract/exact_match",
            "gsm8k",
            "exact_match,flexible-extract",
        ),
    ] {
        let got = &cell(&rows[2], key)["estimate"]["value"];
        assert_eq!(got, &file["results"][task][theirs], "{key}");
        assert_eq!(rows[0]["baseline"], 2);
    }
    // What only one of the two measures is no column.
    let keys = rows[2]["results"].as_array().unwrap().iter();
    assert!(keys.clone().all(|cell| !cell["estimate"].is_null()));
    assert!(keys.clone().count() >= 3);
    // The rows are the same four, and the differences are theirs.
    let ours = cell(&rows[0], "winogrande/acc");
    let apart = ours["estimate"]["value"].as_f64().unwrap()
        - file["results"]["winogrande"]["acc,none"].as_f64().unwrap();
    let told = ours["comparison"]["difference"].as_f64();
    assert!(
        told.is_some_and(|told| (told - apart).abs() < 1e-12),
        "{ours}"
    );

    let diff = project.json(&["diff", "others/tiny/results.json", "tasks/0"]);
    let flips = diff["flips"].as_array().unwrap().iter();
    let of = |key: &str| flips.clone().find(|f| f["metric"] == key).unwrap().clone();
    let counts = of("winogrande/acc")["counts"].clone();
    let all = ["both", "gained", "lost", "neither"].map(|of| counts[of].as_f64().unwrap());
    assert!((all.iter().sum::<f64>() - 4.0).abs() < 1e-12, "{counts}");
    assert!(((all[1] - all[2]) / 4.0 - apart).abs() < 1e-12, "{counts}");

    // What `lions eval` writes is read as well, without any run.
    let words =
        "eval models/stories260k --tasks winogrande,mmlu --shots 3 --max-rows 4 --out scores";
    let said = project.lions(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(said.code, 0, "{said:?}");
    let shown = project.lions(&["diff", "others/tiny", "scores"]);
    assert!(
        shown.out.contains("tiny-qwen2") && shown.out.contains("mmlu/stem/acc"),
        "{shown:?}"
    );
    let text = project.lions(&["compare", "tasks", "--beside", "others/tiny"]);
    assert!(text.out.contains("tiny-qwen2"), "{text:?}");

    project.write(
        "others/none.json",
        "{\"results\": {\"else\": {\"acc,none\": 1.0}}}",
    );
    let said = project.lions(&["compare", "tasks", "--beside", "others/none.json"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("`else/acc`"), "{said:?}");
    let said = project.lions(&["diff", "tasks/0", "others/nowhere.json"]);
    assert!(
        said.code == 1 && said.err.contains("nowhere.json"),
        "{said:?}"
    );
    let said = project.lions(&["compare", "tasks", "--beside", "sweeps/tasks.toml"]);
    assert!(said.code == 1 && said.err.contains("no JSON"), "{said:?}");
}

// `tests/golden/eval/files`: what lm_eval 0.4.13 wrote of the same rows, shots and limits.
#[test]
fn files_of_results_are_those_that_the_harness_writes() {
    let project = project();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval");
    let model = golden.join("tiny-qwen2");
    let tasks = "arc_challenge,hellaswag,mmlu,truthfulqa_mc2,winogrande,gsm8k";
    let said = project.lions(&[
        "eval",
        model.to_str().unwrap(),
        "--tasks",
        tasks,
        "--shots",
        "3",
        "--max-rows",
        "4",
        "--max-new-tokens",
        "24",
        "--out",
        "scores",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let theirs = |file: &str| std::fs::read_to_string(golden.join("files").join(file)).unwrap();
    let want: Value = serde_json::from_str(&theirs("results.json")).unwrap();
    let got: Value =
        serde_json::from_str(&project.read_dated("scores", "results", ".json")).unwrap();
    for table in [
        "results",
        "groups",
        "group_subtasks",
        "n-shot",
        "n-samples",
        "higher_is_better",
        "task_hashes",
    ] {
        same(&got[table], &want[table], table);
    }
    for (task, version) in want["versions"].as_object().unwrap() {
        // Those of groups are texts there.
        if version.is_number() {
            assert_eq!(&got["versions"][task], version, "{task}");
        }
    }
    assert_eq!(got["max_length"], want["max_length"]);
    let mut lines = 0;
    for task in want["n-samples"].as_object().unwrap().keys() {
        let own = project.read_dated("scores", &format!("samples_{task}"), ".jsonl");
        let other = theirs(&format!("samples_{task}.jsonl"));
        assert_eq!(own.lines().count(), other.lines().count(), "{task}");
        for (own, other) in own.lines().zip(other.lines()) {
            let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
            same(&parsed(own), &parsed(other), task);
            lines += 1;
        }
    }
    assert_eq!(lines, 35);
}

/// Compares two values: texts of numbers and numbers as close as log-likelihoods are, lists without regard to order where
/// they hold names alone.
fn same(got: &Value, want: &Value, place: &str) {
    let number = |value: &Value| {
        let text = value.as_str().and_then(|text| text.parse::<f64>().ok());
        value.as_f64().or(text)
    };
    match (got, want) {
        (Value::Object(got), Value::Object(want)) => {
            let keys = |map: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = map.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(got), keys(want), "{place}");
            for (key, want) in want {
                same(&got[key], want, &format!("{place}.{key}"));
            }
        }
        (Value::Array(got), Value::Array(want)) => {
            assert_eq!(got.len(), want.len(), "{place}");
            let named = |list: &[Value]| {
                let names: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                names.map(|mut names| {
                    names.sort_unstable();
                    names.join("\n")
                })
            };
            let is_names = place.contains("group_subtasks") || place.ends_with(".metrics");
            if is_names {
                return assert_eq!(named(got), named(want), "{place}");
            }
            for (got, want) in got.iter().zip(want) {
                same(got, want, place);
            }
        }
        (got, want) => match (number(got), number(want)) {
            (Some(got), Some(want)) => {
                assert!((got - want).abs() < 1e-4, "{place}: {got} and {want}");
            }
            _ => assert_eq!(got, want, "{place}"),
        },
    }
}
