//! Cross-validation, from the split in a sweep file to the table and its caption.

use crate::tiny;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Pairs of each of the two files.
const PAIRS: usize = 60;

/// Two pipelines on each of three parts, from a start that knows no text of the part; one β hardly learns, the
/// other a lot.
const SPLIT: &str = r#"extends = ["base/mini.toml"]
[sweep]
name = "split"
question = "Does a weaker pull learn more?"
seeds = [1, 2, 3, 4, 5, 6]
[base]
pipeline = ["sft", "dpo"]
[base.sft.recipe]
max-seq-len = 256
batch = { tokens = 512 }
duration = { steps = 2 }
decontaminate = { data = [{ path = "data/mine/a.jsonl", fold = { of = 3, part = "held-out" } }] }
[base.dpo.recipe]
global-batch-size = 4
duration = { steps = 8 }
data = [
  { path = "data/mine/a.jsonl", fold = { of = 3, part = "train" } },
  { path = "data/mine/b.jsonl", fold = { of = 3, part = "train" } },
]
max-examples = 32
decontaminate = { data = [{ path = "data/mine/a.jsonl", fold = { of = 3, part = "held-out" } }], min-words = 8 }
[base.eval.recipe]
likelihood.instruct = false
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 4 }], max-seq-len = 128 }
[base.eval.recipe.preference.pairs]
data = [
  { path = "data/mine/a.jsonl", fold = { of = 3, part = "held-out" } },
  { path = "data/mine/b.jsonl", fold = { of = 3, part = "held-out" } },
]
limits = { max-seq-len = 256, max-prompt-len = 128, truncation = "keep-end" }
[[axis]]
path = "dpo.recipe.optimizer.learning-rate"
values = [1e-5, 5e-3]
[[report.claim]]
statement = "A higher rate learns more"
metric = "pairs/rewards/margins"
ours = { learning-rate = 5e-3 }
baseline = { learning-rate = 1e-5 }
direction = "higher"
[[report.table]]
name = "rate"
title = "Rates"
metrics = ["pairs/rewards/margins", "tales/loss", "pairs/rewards/accuracies"]
baseline = { learning-rate = 1e-5 }
[[report.table]]
name = "shares"
title = "Accuracy"
metrics = ["pairs/rewards/accuracies"]
baseline = { learning-rate = 1e-5 }
[[report.figure]]
name = "rate"
title = "Margin by rate"
kind = "bars"
metric = "pairs/rewards/margins"
"#;

fn pairs(from: usize) -> String {
    let pair = |n: usize| {
        // Every third prompt comes twice.
        let prompt = format!("Say the word of day {} to me.", n - n % 3 / 2);
        let (chosen, rejected) = (format!("Day {n}, my dear."), format!("No, not {n}."));
        json!({"id": format!("p{n}"), "prompt": prompt, "chosen": chosen, "rejected": rejected})
    };
    let rows = (from..from + PAIRS).map(pair);
    rows.map(|row| format!("{row}\n")).collect()
}

/// By seed, of one rate.
fn evaluated(results: &tiny::Results) -> BTreeMap<u64, BTreeSet<String>> {
    let ids = |run: &str| -> BTreeSet<String> {
        let rows = results.lines(run, "rows.jsonl");
        let rows = rows.iter().filter(|row| row["set"] == "pairs");
        rows.map(|row| row["row"].as_str().unwrap().to_owned())
            .collect()
    };
    let runs = results.by_seed("learning-rate", "0.005", "eval");
    runs.iter().map(|(seed, run)| (*seed, ids(run))).collect()
}

#[test]
fn every_row_is_held_out_from_the_pipelines_of_one_part() {
    let project = tiny::project();
    project.write("data/mine/a.jsonl", pairs(0));
    project.write("data/mine/b.jsonl", pairs(PAIRS));
    project.write("sweeps/split.toml", SPLIT);
    let checked = project.lions(&["check", "sweeps/split.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(
        !checked.out.contains("warning") && !checked.err.contains("warning"),
        "{checked:?}"
    );

    let planned = project.lions(&["plan", "sweeps/split.toml"]).out;
    let told = "table shares, pairs/rewards/accuracies: with 6 seeds on 3 parts of the rows, one each, a true";
    assert!(planned.contains(told), "{planned}");

    let results = tiny::run(&project, "split");
    let held_out = evaluated(&results);
    assert_eq!(held_out.len(), 6);
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    for seed in 1..=3 {
        let rows = &held_out[&seed];
        assert_eq!(rows, &held_out[&(seed + 3)], "seed {seed}");
        assert!(
            rows.len() > 15 && rows.iter().all(|row| seen.insert(row)),
            "seed {seed}"
        );
    }
    assert_eq!(seen.len(), 2 * PAIRS);
    // Both pairs of a prompt are on one side.
    for n in (1..2 * PAIRS).step_by(3) {
        let (one, other) = (format!("p{n}"), format!("p{}", n + 1));
        for rows in held_out.values() {
            assert_eq!(rows.contains(&one), rows.contains(&other), "{one}");
        }
    }
    trained_on_the_others(&results, &held_out);
    // TRL would take the files whole, and so it is said.
    let dpo = results.by_seed("learning-rate", "0.005", "dpo");
    let exported = project.lions(&["export-recipe", &dpo[&1], "--json"]);
    assert!(exported.out.contains("\"data.1.fold\""), "{exported:?}");
    the_table_speaks_of_all_rows(&project);
}

/// What a stage reads is what its part leaves, and its identity says which part that is.
fn trained_on_the_others(results: &tiny::Results, held_out: &BTreeMap<u64, BTreeSet<String>>) {
    let runs = results.by_seed("learning-rate", "0.005", "dpo");
    for (seed, run) in &runs {
        let stage = std::fs::read_to_string(results.folder(run).join("stage.json")).unwrap();
        let stage: Value = serde_json::from_str(&stage).unwrap();
        let text = stage.to_string();
        let index = format!("\"index\":{}", seed % 3);
        assert_eq!(text.matches("\"fold\":{").count(), 3, "{text}");
        assert_eq!(text.matches(&index).count(), 3, "{text}");
        assert_eq!(results.count(run, "pairs_kept"), 32);
    }
    let ids: BTreeSet<&String> = runs.values().collect();
    assert_eq!(ids.len(), 6);
    let starts: BTreeSet<String> = results
        .by_seed("learning-rate", "0.005", "sft")
        .into_values()
        .collect();
    assert_eq!(starts.len(), 6);
    assert_eq!(held_out.len(), 6);
}

fn the_table_speaks_of_all_rows(project: &crate::project::Project) {
    let shown = project.json(&["compare", "split"]);
    let found = &shown[0]["rows"][1]["results"][0]["comparison"];
    let method = &found["method"];
    assert_eq!(method["method"], "seeds-and-rows", "{shown}");
    assert_eq!(
        (&method["seeds"], &method["rows"]),
        (&json!(6), &json!(120)),
        "{shown}"
    );
    assert_eq!(method["clusters"], 80, "{shown}");
    let end = |name: &str| found["interval"][name].as_f64().unwrap();
    assert!(end("low") < end("high"), "{shown}");
    assert!(found["fixed_rows"].is_null(), "{shown}");
    // One split for all seeds, whose rows are all the same: the other column.
    let told = &shown[0]["rows"][1]["results"][1]["comparison"];
    assert!(!told["fixed_rows"].is_null(), "{shown}");

    assert_eq!(project.lions(&["report", "split"]).code, 0);
    let page = project.read("reports/split/report.md");
    let figure = project.read("reports/split/figures/rate.json");
    let caption = "Cross-validation: each seed is measured on one of 3 parts of the rows, ";
    for text in [&page, &figure] {
        assert!(
            text.contains(caption) && text.contains("together on 120 rows"),
            "{text}"
        );
    }
    assert!(page.contains("A higher rate learns more"), "{page}");
    // What length alone gives is of all pairs, and a page with halves of two seeds or more checks its test.
    assert!(page.contains("(n = 120 pairs)"), "{page}");
    assert!(
        page.contains("How often the test is wrong on these results"),
        "{page}"
    );
    let null = project.lions(&["compare", "--null", "split"]);
    assert!(
        null.out
            .contains("each split at random in halves of 3 seeds"),
        "{null:?}"
    );
}

/// A part that is trained on and measured is told, whatever the names of the files.
#[test]
fn measuring_on_the_part_that_is_trained_on_is_told() {
    let project = tiny::project();
    project.write("data/mine/a.jsonl", pairs(0));
    project.write("data/mine/b.jsonl", pairs(PAIRS));
    let text = SPLIT.replace(
        "{ path = \"data/mine/b.jsonl\", fold = { of = 3, part = \"held-out\" } },\n]\nlimits",
        "{ path = \"data/mine/b.jsonl\", fold = { of = 3, part = \"train\" } },\n]\nlimits",
    );
    assert_ne!(text, SPLIT);
    project.write("sweeps/split.toml", text);
    let said = project.lions(&["check", "sweeps/split.toml"]);
    let told = format!("{} {}", said.out, said.err);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    // The advice takes the side that is measured, not the file, of which nothing would be left.
    for part in [
        "is held out here, and `dpo` trains on it",
        "decontaminate = { data = [{ path = \"data/mine/b.jsonl\", fold = { of = 3, part = \"train\" } }] }",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
