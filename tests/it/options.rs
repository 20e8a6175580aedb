//! Batching, masks, schedules and the options of the training stages, from the sweep file to the table.

use crate::tiny::{self, close};
use serde_json::{Value, json};
use std::f64::consts::PI;

/// The same tokens, laid out in another way, in f32.
const LAYOUT: f64 = 2e-5;

fn chat(id: &str, prompt: &str, reply: &str) -> Value {
    json!({"id": id, "prompt": prompt, "completion": reply})
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Every layout computes the same mean over the same targets: documents do not see each other, and
/// positions start anew in each.
#[test]
fn packed_and_padded_documents_have_the_same_loss() {
    let project = tiny::project();
    let rows = [
        chat("a", "Name a fruit.", "The plum."),
        chat(
            "b",
            "Tell me of Tom.",
            "Tom ran home to his mom and the dog.",
        ),
        chat("c", "Say hello to the big red dog.", "Hello!"),
        chat("d", "Go.", "No, I do not want to go."),
    ];
    project.write("data/mine/four.jsonl", lines(&rows));
    let batchings = ["padded", "concat", "best-fit"];
    let masks = ["assistant-only", "all-tokens"];
    let mut arms = vec![("base", "pipeline = []".to_owned())];
    let labels: Vec<String> = masks
        .iter()
        .flat_map(|mask| batchings.map(|b| format!("{b} {mask}")))
        .collect();
    for label in &labels {
        let (batching, mask) = label.split_once(' ').unwrap();
        // All four documents in the one step.
        let rows = if batching == "padded" { 4 } else { 1 };
        let set = format!(
            "\"sft.recipe\" = {{ batching = \"{batching}\", loss-mask = \"{mask}\", batch = {{ rows = {rows} }} }}"
        );
        arms.push((label, set));
    }
    let rest = r#"[base.sft.recipe]
data = [{ path = "data/mine/four.jsonl" }]
max-seq-len = 512
duration = { steps = 1 }
schedule = { warmup-ratio = 0.0 }
[base.eval.recipe.likelihood.four]
data = [{ path = "data/mine/four.jsonl" }]
max-seq-len = 512
"#;
    let results = tiny::run_arms(&project, "layouts", &arms, &["tales/loss"], rest);
    let run = |batching: &str, mask: &str| results.only(&format!("{batching} {mask}"), "sft");
    let count = |run: &str, name: &str| results.count(run, name);
    for mask in masks {
        let loss = |batching| results.steps(&run(batching, mask), "loss")[&1];
        let padded = run("padded", mask);
        for batching in batchings {
            let run = run(batching, mask);
            assert_eq!(count(&run, "documents_kept"), 4, "{batching}");
            assert_eq!(
                count(&run, "tokens"),
                count(&run, "positions") - count(&run, "padding")
            );
            assert_eq!(
                count(&run, "padding") > 0,
                batching == "padded",
                "{batching}"
            );
            assert_eq!(
                count(&run, "rows"),
                if batching == "padded" { 4 } else { 1 }
            );
            assert_eq!(
                count(&run, "targets"),
                count(&padded, "targets"),
                "{batching}"
            );
            close(
                loss(batching),
                loss("padded"),
                LAYOUT,
                &format!("{batching}, {mask}"),
            );
        }
    }
    // All tokens but the first of each document.
    let (all, own) = (run("padded", "all-tokens"), run("padded", "assistant-only"));
    assert_eq!(count(&all, "targets"), count(&all, "tokens") - 4);
    assert!(count(&own, "targets") < count(&all, "targets"));
    // Before its first update the model is the base model.
    let rows = results.lines(&results.only("base", "eval"), "rows.jsonl");
    let rows = rows.iter().filter(|row| row["set"] == "four").map(|row| {
        let of = |key: &str| row["metrics"][key].as_f64().unwrap();
        (of("loss") * of("tokens"), of("tokens"))
    });
    let (loss, tokens) = rows.fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    assert!((tokens - count(&own, "targets") as f64).abs() < 1e-9);
    close(
        results.steps(&own, "loss")[&1],
        loss / tokens,
        LAYOUT,
        "the base model's loss",
    );
}

#[test]
fn every_schedule_gives_the_rates_of_its_formula() {
    let project = tiny::project();
    let kinds = ["constant", "linear", "cosine", "warmup-stable-decay", "wsd"];
    let of = |kind: &str| {
        let stable = if kind.starts_with('w') {
            ", decay-ratio = 0.4"
        } else {
            ""
        };
        format!(
            "\"sft.recipe.schedule\" = {{ decay = \"{kind}\", warmup-ratio = 0.2, min-ratio = 0.1{stable} }}"
        )
    };
    let arms: Vec<_> = kinds.iter().map(|kind| (*kind, of(kind))).collect();
    let rest = "[base.sft.recipe]\nbatch = { rows = 1 }\nduration = { steps = 10 }\n";
    let results = tiny::run_arms(&project, "schedules", &arms, &["tales/loss"], rest);
    // Two steps of warm-up from 0 to the peak of the base file.
    let want = |kind: &str, step: u32| {
        let step = f64::from(step);
        let down = |start: f64| (step - start) / (10.0 - start);
        let share = match kind {
            _ if step < 2.0 => step / 2.0,
            "constant" => 1.0,
            "linear" => 1.0 - 0.9 * down(2.0),
            "cosine" => 0.1 + 0.9 * 0.5 * (1.0 + (PI * down(2.0)).cos()),
            _ => 1.0 - 0.9 * down(6.0).max(0.0),
        };
        2e-3 * share
    };
    for kind in kinds {
        let rates = results.steps(&results.only(kind, "sft"), "learning_rate");
        assert_eq!(rates.len(), 10);
        for (step, rate) in (0..).zip(rates.into_values()) {
            assert!(
                (rate - want(kind, step)).abs() < 1e-12,
                "{kind}, step {step}: {rate}"
            );
        }
    }
    assert_eq!(
        results.only("wsd", "sft"),
        results.only("warmup-stable-decay", "sft"),
        "two names of one schedule"
    );
}

#[test]
fn rows_that_are_repeated_contaminated_or_masked_are_left_out_and_counted() {
    let project = tiny::project();
    let long = "Tell me of the old man and the boy who went to the sea to find a fish.";
    let rows = [
        chat("a", "Name a fruit.", "The plum."),
        chat("again", "Name a fruit.", "The plum."),
        chat(
            "b",
            "Tell me of Tom.",
            "He ran home to his mom and the big dog.",
        ),
        chat("c", "Did he say: NAME  a fruit. ?", "Yes, he did."),
        chat(
            "d",
            "Where is the dog that ran home to his mom today?",
            "Here is the dog, my dear.",
        ),
        chat("e", long, "No."),
        chat("f", "Say hello.", "Hello, my dear friend, how are you?"),
    ];
    project.write("data/mine/rows.jsonl", lines(&rows));
    let held_out = [
        chat("t", "Name a fruit.", "ran home to his mom"),
        chat("u", "Go.", "Say so."),
    ];
    project.write("data/mine/held_out.jsonl", lines(&held_out));
    let pair = |row: &Value| {
        let mut pair =
            json!({"id": row["id"], "prompt": row["prompt"], "chosen": row["completion"]});
        pair["rejected"] = "I will not.".into();
        pair
    };
    project.write("data/mine/pairs.jsonl", lines(&rows.each_ref().map(pair)));
    let held = "data = [{ path = \"data/mine/held_out.jsonl\" }]";
    let options = [
        ("none", String::new()),
        ("dedup", "dedup = true".to_owned()),
        ("decontaminate", format!("decontaminate = {{ {held} }}")),
        (
            "words in a row",
            format!("decontaminate = {{ {held}, ngram = 4 }}"),
        ),
        (
            "no short texts",
            format!("decontaminate = {{ {held}, min-words = 4 }}"),
        ),
        ("system", "empty-system-turn = 1.0".to_owned()),
        ("some systems", "empty-system-turn = 0.5".to_owned()),
        ("masked", "max-masked-fraction = 0.8".to_owned()),
        ("count", "count".to_owned()),
        ("fraction", "fraction".to_owned()),
        ("first", "max-examples = 3".to_owned()),
    ];
    let mut arms = Vec::new();
    for stage in ["sft", "dpo"] {
        let file = if stage == "sft" { "rows" } else { "pairs" };
        for (label, option) in &options {
            let source = |more: &str| {
                format!("\"{stage}.recipe.data\" = [{{ path = \"data/mine/{file}.jsonl\"{more} }}]")
            };
            let set = match option.as_str() {
                "" => source(""),
                "count" => source(", count = 3"),
                "fraction" => source(", fraction = 2.0"),
                option => format!(
                    "{}, \"{stage}.recipe.{}",
                    source(""),
                    option.replacen(" = ", "\" = ", 1)
                ),
            };
            if *label == "masked" && stage == "dpo" {
                continue;
            }
            arms.push((
                format!("{stage}: {label}"),
                format!("pipeline = [\"{stage}\"], {set}"),
            ));
        }
    }
    let arms: Vec<(&str, String)> = arms.iter().map(|(l, s)| (l.as_str(), s.clone())).collect();
    let rest = "[base.sft.recipe]\nduration = { steps = 2 }\n[base.dpo.recipe]\nduration = { steps = 2 }\n";
    let results = tiny::run_arms(&project, "options", &arms, &["tales/loss"], rest);
    for stage in ["sft", "dpo"] {
        let run = |label: &str| results.only(&format!("{stage}: {label}"), stage);
        let kept_as = if stage == "sft" {
            "documents_kept"
        } else {
            "pairs_kept"
        };
        let kept = |label: &str| results.count(&run(label), kept_as);
        let counted = |label: &str, name: &str| results.counted(&run(label), name);
        assert_eq!(kept("none"), 7, "{stage}");
        assert_eq!(
            counted("none", "rows_duplicate"),
            None,
            "off changes nothing"
        );
        assert_eq!(
            (kept("dedup"), counted("dedup", "rows_duplicate")),
            (6, Some(1)),
            "{stage}"
        );
        // `a`, `again` and `c` hold the prompt, `b` and `d` the reply.
        assert_eq!(
            (
                kept("decontaminate"),
                counted("decontaminate", "rows_contaminated")
            ),
            (2, Some(5)),
            "{stage}"
        );
        assert_eq!(
            counted("decontaminate", "evaluation_texts"),
            Some(4),
            "{stage}"
        );
        assert_eq!(kept("words in a row"), 2, "{stage}");
        // Only the reply has four words.
        assert_eq!(
            (
                kept("no short texts"),
                counted("no short texts", "rows_contaminated")
            ),
            (5, Some(2)),
            "{stage}"
        );
        assert_eq!(
            counted("no short texts", "evaluation_texts_too_short"),
            Some(3),
            "{stage}"
        );
        assert_eq!(counted("system", "system_turns_added"), Some(7), "{stage}");
        let some = counted("some systems", "system_turns_added").unwrap();
        assert!((1..7).contains(&some), "{stage}: {some}");
        assert_eq!(
            (kept("count"), kept("fraction"), kept("first")),
            (3, 14, 3),
            "{stage}"
        );
        let shown = project.json(&["show", &run("decontaminate")]);
        assert!(
            shown["notes"].to_string().contains("again"),
            "rows are named: {shown}"
        );
    }
    let masked = results.only("sft: masked", "sft");
    let masked = |name| results.count(&masked, name);
    let (dropped, kept) = (masked("rows_masked"), masked("documents_kept"));
    assert!(dropped >= 1 && dropped + kept == 7, "{dropped}, {kept}");
    assert!(masked("targets_masked") >= 2 && masked("tokens_masked") > masked("targets_masked"));
}

/// The rows of the fixtures, which pyarrow wrote, as JSON lines.
#[test]
fn parquet_trains_the_model_that_json_lines_train() {
    let project = tiny::project();
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["chat", "pairs"] {
        let bytes = std::fs::read(here.join(format!("{name}.parquet"))).unwrap();
        project.write(format!("data/mine/{name}.parquet"), bytes);
    }
    let turns = |texts: &[&str]| -> Value {
        let role = |at: usize| ["user", "assistant"][at % 2];
        let turn = |(at, text): (usize, &&str)| json!({"role": role(at), "content": text});
        texts.iter().enumerate().map(turn).collect()
    };
    let chats = [
        json!({"messages": turns(&["Hi", "Oh."])}),
        json!({"messages": turns(&["a", "b", "c", "Zürich"])}),
    ];
    project.write("data/mine/chat.jsonl", lines(&chats));
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": turns(&[prompt, chosen]), "rejected": turns(&[prompt, rejected])});
    project.write(
        "data/mine/pairs.jsonl",
        lines(&[pair("Hi", "Hello.", "Go."), pair("Why?", "So.", "No.")]),
    );
    let of = |ending: &str| {
        let data = |name: &str| format!("data = [{{ path = \"data/mine/{name}.{ending}\" }}]");
        format!(
            "\"sft.recipe\" = {{ {} }}, \"dpo.recipe\" = {{ {} }}",
            data("chat"),
            data("pairs")
        )
    };
    let arms = [("Parquet", of("parquet")), ("lines", of("jsonl"))];
    let rest = format!("[base]\npipeline = [\"sft\", \"dpo\"]\n{}", tiny::POLITE);
    let metrics = ["tales/loss", "polite/rewards/margins"];
    let results = tiny::run_arms(&project, "parquet", &arms, &metrics, &rest);
    let weights = |arm: &str| results.weights(&results.only(arm, "dpo"));
    assert!(weights("Parquet") == weights("lines"));
}
