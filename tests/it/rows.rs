//! Every form of rows that `data/README.md` lists, from the file through `lions run` and the store to
//! a table: the same texts train the same model, however they are written down.

use crate::project::{Project, Said};
use serde_json::{Value, json};
use std::io::Write as _;

/// A label that would run in a browser if a page let it.
const SCRIPT: &str = "<script>alert(1)</script>";

fn turns() -> Vec<(String, String)> {
    let words = [
        "plum", "pear", "fig", "date", "lime", "kiwi", "sloe", "quince",
    ];
    let row = |word: &&str| (format!("Name the {word}."), format!("It is a {word}."));
    words.iter().map(row).collect()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

/// A sweep over `points` of axis `form`.
fn sweep(name: &str, pipeline: &str, points: &[(&str, String)], rest: &str) -> String {
    let point = |(label, set): &(&str, String)| {
        format!("  {{ label = {}, set = {{ {set} }} }},\n", json!(label))
    };
    let points: String = points.iter().map(point).collect();
    format!(
        r#"extends = ["base/mini.toml"]
[sweep]
name = "{name}"
question = "Does it matter how rows are written down?"
seeds = [1, 2]
[base]
pipeline = {pipeline}
[base.sft.recipe]
max-seq-len = 256
batch = {{ tokens = 256 }}
duration = {{ steps = 2 }}
[base.eval.recipe]
likelihood.instruct = {{ data = [{{ path = "data/sft/instruct_test.jsonl", count = 4 }}], max-seq-len = 256 }}
likelihood.tales = {{ data = [{{ path = "data/sft/stories_test.jsonl", count = 2 }}], max-seq-len = 256 }}
[[axis]]
name = "form"
points = [
{points}]
{rest}"#
    )
}

fn run(project: &Project, name: &str, log: Option<&str>) -> Said {
    let file = format!("sweeps/{name}.toml");
    let mut command = project.command(&["run", &file, "--jobs", "2"]);
    if let Some(level) = log {
        command.env("LIONS_LOG", level);
    }
    Said::of(&command.output().unwrap())
}

/// The values of one metric by row of the sweep's first table.
fn values(project: &Project, name: &str, metric: &str) -> Vec<Value> {
    let table = &project.json(&["compare", name, "--metrics", metric])[0];
    let rows = table["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| row["results"][0]["estimate"]["value"].clone())
        .collect()
}

fn one_value(project: &Project, name: &str, metric: &str, forms: usize) {
    let values = values(project, name, metric);
    assert_eq!(values.len(), forms, "{values:?}");
    assert!(
        values[0].is_f64() && values.iter().all(|v| *v == values[0]),
        "{values:?}"
    );
}

#[test]
fn conversations_train_the_same_model_in_every_form_and_file() {
    let project = Project::new();
    let rows = |row: &dyn Fn(&str, &str) -> Value| -> Vec<Value> {
        turns().iter().map(|(q, a)| row(q, a)).collect()
    };
    let chat = rows(
        &|q, a| json!({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}),
    );
    let sharegpt = rows(
        &|q, a| json!({"id": "", "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}),
    );
    let alpaca = rows(&|q, a| json!({"instruction": q, "input": "", "output": a}));
    let renamed = rows(&|q, a| json!({"question": q, "answer": a, "system": null}));
    project.write("data/mine/chat.jsonl", lines(&chat));
    project.write("data/mine/packed.jsonl.gz", gzip(&lines(&chat)));
    project.write("data/mine/sharegpt.json", Value::from(sharegpt).to_string());
    project.write("data/mine/alpaca.ndjson", lines(&alpaca));
    let packed = zstd::encode_all(lines(&renamed).as_bytes(), 3).unwrap();
    project.write("data/mine/renamed.jsonl.zst", packed);
    let data = |source: &str| format!("sft.recipe.data = [{{ {source} }}]");
    let points = [
        (SCRIPT, data(r#"path = "data/mine/chat.jsonl""#)),
        ("gzip", data(r#"path = "data/mine/packed.jsonl.gz""#)),
        ("ShareGPT", data(r#"path = "data/mine/sharegpt.json""#)),
        ("Alpaca", data(r#"path = "data/mine/alpaca.ndjson""#)),
        (
            "renamed",
            data(
                r#"path = "data/mine/renamed.jsonl.zst", columns = { prompt = "question", completion = "answer" }"#,
            ),
        ),
    ];
    let report = r#"
[[report.figure]]
name = "forms"
title = "Every form"
kind = "bars"
metric = "instruct/loss"
"#;
    project.write(
        "sweeps/forms.toml",
        sweep("forms", r#"["sft"]"#, &points, report),
    );

    let said = run(&project, "forms", Some("debug"));
    assert_eq!(said.code, 0, "{said:?}");
    for word in ["claim run=", "launched run=", "DEBUG"] {
        assert!(
            said.err.contains(word),
            "LIONS_LOG tells `{word}`: {}",
            said.err
        );
    }
    one_value(&project, "forms", "instruct/loss", points.len());
    let page = project.read("reports/forms/index.html");
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains(SCRIPT));
    let figure = project.read("reports/forms/figures/forms.svg");
    assert!(!figure.contains(SCRIPT));
    let quiet = run(&project, "forms", Some("loud"));
    assert_eq!(quiet.code, 1, "{quiet:?}");
    assert!(quiet.err.contains("`LIONS_LOG` is `loud`"), "{quiet:?}");
}

#[test]
fn pairs_train_the_same_model_in_every_form() {
    let project = Project::new();
    let rows = |row: &dyn Fn(&str, &str, &str) -> Value| -> Vec<Value> {
        let turns = turns();
        let row = |(q, a): &(String, String)| row(q, a, &a.replace("It is", "No, not"));
        turns.iter().map(row).collect()
    };
    let user = |q: &str| json!({"role": "user", "content": q});
    let bot = |a: &str| json!({"role": "assistant", "content": a});
    let strings = rows(&|q, a, b| json!({"prompt": q, "chosen": a, "rejected": b}));
    let whole = rows(
        &|q, a, b| json!({"prompt": null, "chosen": [user(q), bot(a)], "rejected": [user(q), bot(b)]}),
    );
    let transcript = |q: &str, a: &str| format!("\n\nHuman: {q}\n\nAssistant: {a}");
    let transcripts =
        rows(&|q, a, b| json!({"chosen": transcript(q, a), "rejected": transcript(q, b)}));
    for (name, rows) in [
        ("strings", strings),
        ("whole", whole),
        ("transcripts", transcripts),
    ] {
        project.write(format!("data/mine/{name}.jsonl").as_str(), lines(&rows));
    }
    let point = |name: &'static str, more: &str| {
        let data = format!(r#"dpo.recipe.data = [{{ path = "data/mine/{name}.jsonl" }}]"#);
        (name, format!("{data}{more}"))
    };
    let points = [
        point("strings", ""),
        point("whole", ""),
        point("transcripts", ""),
    ];
    let report = r#"
[base.dpo.runtime]
recompute-layers = true
[base.dpo.recipe]
loss = "aot-unpaired"
global-batch-size = 4
duration = { steps = 2 }
[base.eval.recipe.preference.polite]
data = [{ path = "data/pref/polite_test.jsonl", count = 8 }]
limits = { max-seq-len = 256, max-prompt-len = 128, truncation = "keep-end" }
[[report.table]]
name = "main"
title = "Margins"
metrics = ["polite/rewards/margins", "polite/logps/rejected_shift"]
[[report.figure]]
name = "against"
title = "Against strings"
kind = "differences"
where = { form = "whole" }
metric = "polite/rewards/margins"
baseline = { form = "strings" }
"#;
    let text = sweep("pairs", r#"["sft", "dpo"]"#, &points, report);
    project.write("sweeps/pairs.toml", text);
    let said = run(&project, "pairs", None);
    assert_eq!(said.code, 0, "{said:?}");
    one_value(&project, "pairs", "polite/rewards/margins", points.len());
    one_value(
        &project,
        "pairs",
        "polite/logps/rejected_shift",
        points.len(),
    );
    // Nothing differs, by either seed.
    let rows = project.read("reports/pairs/figures/against.csv");
    let marks: Vec<&str> = rows.lines().filter(|line| line.starts_with(",,")).collect();
    assert_eq!(marks.len(), 3, "a mean and two seeds: {rows}");
    for line in marks {
        let value: f64 = line.split(',').nth(5).unwrap().parse().unwrap();
        assert!(value.abs() <= 0.0, "{rows}");
    }
}
