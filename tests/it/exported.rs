//! Results that leave the store: `lions store export`, `lions samples`, `lions diff`.

use crate::project::{Project, Said};
use crate::session::Study;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs Python on a text in a project, if there is one that has the module.
fn python(project: &Project, module: &str, text: &str) -> Option<String> {
    let run = |code: &str| {
        Command::new("python3")
            .current_dir(project.path(""))
            .args(["-c", code])
            .output()
    };
    let known = run(&format!("import {module}")).is_ok_and(|said| said.status.success());
    if !known {
        return None;
    }
    let said = Said::of(&run(text).unwrap());
    assert_eq!(said.code, 0, "{text}\n{said:?}");
    Some(said.out)
}

#[test]
fn tables_hold_what_the_commands_show_in_each_form() {
    let project = Study::shared().project.copied();
    let told = project.json(&["store", "export", "tables", "--format", "jsonl"]);
    let names: Vec<&str> = told["written"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one[0].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "runs",
            "trials",
            "trial_axes",
            "trial_runs",
            "metrics",
            "training",
            "rows",
            "samples"
        ]
        .map(|n| format!("{n}.jsonl"))
    );
    let table = |name: &str| lines(&project.read(&format!("tables/{name}.jsonl")));
    let runs = table("runs");
    let status = project.json(&["status", "study"]);
    for run in status["runs"].as_array().unwrap() {
        let row = runs.iter().find(|row| row["run"] == run["id"]).unwrap();
        assert_eq!(
            (&row["stage"], &row["state"]),
            (&run["kind"], &json!("succeeded"))
        );
        let shown = project.json(&["show", row["run"].as_str().unwrap()]);
        let metrics: Vec<Value> = table("metrics")
            .into_iter()
            .filter(|m| m["run"] == row["run"])
            .collect();
        assert_eq!(metrics.len(), shown["metrics"].as_object().unwrap().len());
        for metric in metrics {
            let want = &shown["metrics"][metric["metric"].as_str().unwrap()];
            assert_eq!(
                (&metric["value"], &metric["n"]),
                (&want["value"], &want["n"])
            );
        }
    }
    let trials = table("trials");
    assert!(
        trials
            .iter()
            .any(|trial| trial["sweep"] == "broken" && trial["state"] == "skipped")
    );
    let rates = table("trial_axes")
        .into_iter()
        .filter(|axis| axis["sweep"] == "study");
    let rates: BTreeSet<String> = rates.map(|axis| axis["number"].to_string()).collect();
    assert_eq!(rates.len(), 2, "{rates:?}");
    let samples = table("samples");
    assert!(
        !samples.is_empty()
            && samples
                .iter()
                .all(|s| s["text"].is_string() && s["judge"].is_null())
    );
    let rows = table("rows").len();
    // The other forms have as many, and the same.
    let csv = project.json(&["store", "export", "csvs", "--format", "csv"]);
    let parquet = project.json(&["store", "export", "parquets", "--format", "parquet"]);
    let counts = |told: &Value| -> Vec<Value> {
        told["written"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w[1].clone())
            .collect()
    };
    assert_eq!(
        (counts(&csv), counts(&parquet)),
        (counts(&told), counts(&told))
    );
    let heads = project.read("csvs/rows.csv");
    assert!(heads.starts_with("run,set,row,cluster,metric,value\n"));
    assert_eq!(heads.lines().count(), rows + 1);
    let again = project.lions(&["store", "export", "csvs", "--format", "csv"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("is there already"), "{again:?}");
}

// The blocks of docs/export.md, as they stand there.
#[test]
fn the_examples_of_the_guide_run_where_python_has_what_they_import() {
    let project = Study::shared().project.copied();
    let said = project.lions(&["store", "export", "tables", "--format", "parquet"]);
    assert_eq!(said.code, 0, "{said:?}");
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/export.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks: Vec<&str> = guide
        .split("```python\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 2);
    for (module, block) in ["pandas", "polars"].into_iter().zip(blocks) {
        assert!(block.contains(&format!("import {module}")) && block.lines().count() <= 11);
        match python(&project, module, block) {
            Some(out) => assert!(out.contains("instruct"), "{module}: {out}"),
            None => eprintln!("left out: no python3 with `{module}`"),
        }
    }
}

/// Records of an event file: the data of each.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        found.push(&bytes[12..12 + length]);
        bytes = &bytes[16 + length..];
    }
    found
}

#[test]
fn training_curves_are_events_that_tensorboard_reads() {
    let study = Study::shared();
    let project = study.project.copied();
    let told = project.json(&["store", "export", "curves", "--format", "tensorboard"]);
    let written = told["written"].as_array().unwrap();
    assert!(written.len() >= 2, "{told}");
    project.lions(&["store", "export", "tables", "--format", "jsonl"]);
    let training = lines(&project.read("tables/training.jsonl"));
    for one in written {
        let name = one[0].as_str().unwrap();
        let file = std::fs::read(project.path(format!("curves/{name}"))).unwrap();
        let records = records(&file);
        assert_eq!(json!(records.len() - 1), one[1], "{name}");
        assert!(records[0].ends_with(b"brain.Event:2"));
    }
    let name = written[0][0].as_str().unwrap();
    let (stage, run) = name.split('/').next().unwrap().split_once('-').unwrap();
    let own = training
        .iter()
        .filter(|row| row["run"].as_str().unwrap().starts_with(run));
    let own: Vec<&Value> = own.collect();
    assert_eq!(
        (own[0]["stage"].as_str().unwrap(), json!(own.len())),
        (stage, written[0][1].clone())
    );
    let code = format!(
        "import json\nfrom tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n\
         found = EventAccumulator('curves/{}', size_guidance={{'scalars': 0}}).Reload()\n\
         print(json.dumps([[tag, e.step, e.value] for tag in found.Tags()['scalars'] for e in found.Scalars(tag)]))",
        name.split('/').next().unwrap()
    );
    if let Some(out) = python(&project, "tensorboard", &code) {
        let read: Vec<(String, u64, f64)> = serde_json::from_str(&out).unwrap();
        assert_eq!(read.len(), own.len());
        for (tag, step, value) in read {
            let want = own
                .iter()
                .find(|row| row["metric"] == tag.as_str() && row["step"] == step)
                .unwrap();
            let want = want["value"].as_f64().unwrap();
            assert!(
                (value - want).abs() <= 1e-6 * want.abs().max(1e-6),
                "{tag} {step}: {value} {want}"
            );
        }
    }
}

/// Records of a file of Weights & Biases: parts of blocks, put together; checks are those of its own reader.
fn offline_records(bytes: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(&bytes[..7], b":W&B\xe1\xbe\0");
    let (mut at, mut found, mut begun) = (7, Vec::new(), Vec::new());
    while at < bytes.len() {
        let left = 32_768 - at % 32_768;
        if left < 7 {
            at += left;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        let kind = bytes[at + 6];
        begun.extend(&bytes[at + 7..at + 7 + length]);
        at += 7 + length;
        if kind == 1 || kind == 4 {
            found.push(std::mem::take(&mut begun));
        }
    }
    assert!(begun.is_empty());
    found
}

#[test]
fn runs_are_files_that_wandb_sync_uploads() {
    let project = Study::shared().project.copied();
    let told = project.json(&["store", "export", "offline", "--format", "wandb"]);
    project.lions(&["store", "export", "tables", "--format", "jsonl"]);
    let table = |name: &str| lines(&project.read(&format!("tables/{name}.jsonl")));
    let (runs, training, metrics) = (table("runs"), table("training"), table("metrics"));
    let written = told["written"].as_array().unwrap();
    let with_results = |run: &&Value| {
        let own = |row: &Value| row["run"] == run["run"];
        training.iter().any(own) || metrics.iter().any(own)
    };
    assert_eq!(written.len(), runs.iter().filter(with_results).count());
    for one in written {
        let name = one[0].as_str().unwrap();
        let id = name.rsplit_once("/run-").unwrap().1;
        let id = id.strip_suffix(".wandb").unwrap();
        let run = runs
            .iter()
            .find(|row| row["run"].as_str().unwrap().starts_with(id));
        let run = run.unwrap();
        let file = std::fs::read(project.path(format!("offline/{name}"))).unwrap();
        let records = offline_records(&file);
        // Versions, the run, a record for each step, the final numbers, the end.
        assert_eq!(json!(records.len() - 4), one[1], "{name}");
        let holds = |record: &[u8], text: &str| {
            let found = record.windows(text.len()).any(|w| w == text.as_bytes());
            assert!(found, "{name}: `{text}`");
        };
        holds(&records[1], run["stage"].as_str().unwrap());
        let own = |row: &&Value| row["run"] == run["run"];
        let mut steps = BTreeSet::new();
        for row in training
            .iter()
            .filter(own)
            .filter(|row| !row["value"].is_null())
        {
            steps.insert(row["step"].as_u64().unwrap());
            let record = &records[2 + steps.len() - 1];
            holds(record, row["metric"].as_str().unwrap());
            holds(record, &row["value"].to_string());
        }
        assert_eq!(steps.len(), records.len() - 4, "{name}");
        for row in metrics.iter().filter(own) {
            holds(&records[records.len() - 2], row["metric"].as_str().unwrap());
            holds(&records[records.len() - 2], &row["value"].to_string());
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/wandb_sync.py");
    let code = format!(
        "import runpy, sys\nsys.argv = ['', {:?}, '.']\nrunpy.run_path({script:?}, run_name='__main__')",
        env!("CARGO_BIN_EXE_lions"),
    );
    match python(&project, "wandb", &code) {
        Some(out) => assert!(out.contains("ok  "), "{out}"),
        None => eprintln!("left out: no python3 with wandb"),
    }
}

#[test]
fn samples_stand_side_by_side_with_their_scores() {
    let study = Study::shared();
    let project = &study.project;
    let all = project.json(&["samples", "study"]);
    let labels: Vec<&str> = all["configurations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels.len(), 2, "{all}");
    let rows = all["rows"].as_array().unwrap();
    assert_eq!(all["all"], json!(rows.len()));
    let apart: Vec<f64> = rows
        .iter()
        .map(|row| row["apart"].as_f64().unwrap_or(-1.0))
        .collect();
    assert!(apart.is_sorted_by(|a, b| a >= b), "{apart:?}");
    let by_words = project.json(&["samples", "study", "--metric", "words"]);
    for row in by_words["rows"].as_array().unwrap() {
        let words = |side: usize| row["replies"][side]["scores"]["words"].as_f64().unwrap();
        let apart = row["apart"].as_f64().unwrap();
        assert!(((words(0) - words(1)).abs() - apart).abs() < 1e-12, "{row}");
    }
    // The texts are those of the evaluations.
    let run = all["configurations"][1]["run"].as_str().unwrap();
    let own = lines(&project.read(&format!(
        "results/runs/{}/artifacts/samples.jsonl",
        &run[..12]
    )));
    for row in rows {
        let same = |s: &&Value| {
            s["row"] == row["row"] && s["sample"] == row["sample"] && s["set"] == row["set"]
        };
        let sample = own.iter().find(same).unwrap();
        assert_eq!(sample["text"], row["replies"][1]["text"]);
        assert_eq!(sample["metrics"], row["replies"][1]["scores"].clone());
    }
    let csv = project.lions(&["samples", "study", "--csv", "--where", "rate=0.01"]);
    assert!(
        csv.out
            .starts_with("set,row,sample,apart,prompt,configuration,seed,run,text,"),
        "{csv:?}"
    );
    let page = project.json(&["samples", "study", "--page", "2", "--rows", "1"]);
    assert_eq!(page["rows"][0], rows[1]);
    let shown = project.lions(&["samples", "study", "--rows", "1"]);
    let (first, second) = (&rows[0]["replies"][0], &rows[0]["replies"][1]);
    for text in [&rows[0]["prompt"], &first["text"], &second["text"]] {
        assert!(shown.out.contains(text.as_str().unwrap()), "{shown:?}");
    }
}

#[test]
fn two_runs_are_compared_in_recipe_metrics_and_rows() {
    let study = Study::shared();
    let project = &study.project;
    // Trials 0 and 1 are seeds of one configuration.
    let diff = project.json(&["diff", "study/0", "study/2"]);
    assert_eq!(
        project.json(&["show", diff["first"].as_str().unwrap()])["run"]["kind"],
        "eval"
    );
    // What the sweep varies is what differs, and nothing else.
    let fields: BTreeSet<&str> = diff["stages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|stage| stage["fields"].as_array().unwrap())
        .map(|field| field["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields.len(), 1, "{fields:?}");
    let same = project.lions(&["diff", "study/0", "study/0"]);
    assert!(same.out.starts_with("both are run"), "{same:?}");
}

/// The probability of at most so many heads, twice, of so many fair coins.
fn two_sided(fewer: u64, coins: u64) -> f64 {
    let choose = |k: u64| (0..k).fold(1.0, |all, i| all * (coins - i) as f64 / (i + 1) as f64);
    let heads: f64 = (0..=fewer).map(choose).sum();
    (2.0 * heads / 2.0_f64.powf(coins as f64)).min(1.0)
}

// A task is right or wrong on each row: which flipped is told with the exact test.
#[test]
fn rows_that_flipped_are_named_with_the_exact_test() {
    let project = crate::tasks::project();
    project.edit(
        "sweeps/tasks.toml",
        "values = [1e-4, 1e-3]",
        "values = [1e-5, 1e-1]",
    );
    project.edit(
        "sweeps/tasks.toml",
        "file = \"winogrande\", max-rows = 4",
        "file = \"winogrande\"",
    );
    let said = project.lions(&["run", "sweeps/tasks.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    let diff = project.json(&["diff", "tasks/0", "tasks/1"]);
    let values = |side: &str| -> Vec<Value> {
        let run = diff[side].as_str().unwrap();
        lines(&project.read(&format!("results/runs/{}/artifacts/rows.jsonl", &run[..12])))
    };
    let (first, second) = (values("first"), values("second"));
    let mut flipped = 0;
    for task in ["winogrande", "capitals"] {
        let found = diff["flips"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["metric"] == format!("{task}/acc"))
            .unwrap();
        let right = |rows: &[Value]| -> Vec<(String, bool)> {
            let own = rows.iter().filter(|row| row["set"] == task);
            own.map(|row| {
                (
                    row["row"].as_str().unwrap().to_owned(),
                    row["metrics"]["acc"] == 1.0,
                )
            })
            .collect()
        };
        let pairs: Vec<_> = right(&first).into_iter().zip(right(&second)).collect();
        let changed = pairs.iter().filter(|(a, b)| a.1 != b.1);
        let want: Vec<Value> = changed
            .map(|(_, b)| json!({"row": b.0, "gained": b.1}))
            .collect();
        assert_eq!(found["rows"], json!(want));
        let (gained, lost) = (
            found["counts"]["gained"].as_u64().unwrap(),
            found["counts"]["lost"].as_u64().unwrap(),
        );
        assert_eq!(gained + lost, want.len() as u64);
        let p = found["p"].as_f64().unwrap();
        assert!(
            (p - two_sided(gained.min(lost), gained + lost)).abs() < 1e-12,
            "{found}"
        );
        flipped += want.len();
    }
    assert!(flipped > 0, "a ruined model answers as the other one");
    let shown = project.lions(&["diff", "tasks/0", "tasks/1"]);
    assert!(
        shown.out.contains("McNemar's exact test") && shown.out.contains("winogrande/acc"),
        "{shown:?}"
    );
}
