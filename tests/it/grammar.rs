//! Every form of axis, and what adds trials or drops them, from the sweep file to the table.

use crate::tiny;
use std::collections::BTreeSet;

const STUDY: &str = r#"extends = ["tiny.toml"]
[sweep]
name = "grammar"
question = "Does each form of axis make the trials that it says?"
seeds = [1, 2]
[base.dpo.recipe]
max-examples = 4
data-seed = 3
[[axis]]
name = "stage"
points = [
  { label = "sft", set = { pipeline = ["sft"] } },
  { label = "dpo", set = { pipeline = ["sft", "dpo"] } },
]
[[axis]]
path = "dpo.recipe.beta"
values = [0.1, 0.5]
when = { stage = "dpo" }
[[axis]]
name = "rate"
paths = ["sft.recipe.optimizer.learning-rate", "sft.recipe.schedule.min-ratio"]
values = [[1e-3, 0.1], [2e-3, 0.2]]
labels = ["slow", "fast"]
[[exclude]]
beta = 0.5
rate = ["fast"]
[[trial]]
name = "strong"
set = { pipeline = ["sft", "dpo"], "dpo.recipe.beta" = 5 }
seeds = [1]
[[report.table]]
name = "main"
title = "All"
metrics = ["tales/loss"]
"#;

#[test]
fn axes_conditions_exclusions_and_extra_trials_make_the_rows_of_the_table() {
    let project = tiny::project();
    project.write("sweeps/grammar.toml", STUDY);
    tiny::run(&project, "grammar");
    let store = rusqlite::Connection::open(project.path("results/lions.db")).unwrap();
    let sql =
        "SELECT number, assignments ->> 'stage', assignments ->> 'beta', assignments ->> 'rate',
        assignments ->> 'trial', seed FROM trial JOIN sweep ON sweep.id = trial.sweep
        WHERE sweep.name = 'grammar' ORDER BY number";
    let mut found = store.prepare(sql).unwrap();
    let word = |row: &rusqlite::Row<'_>, at: usize| -> String {
        let value = row.get::<_, rusqlite::types::Value>(at).unwrap();
        match value {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Real(number) => number.to_string(),
            rusqlite::types::Value::Integer(number) => number.to_string(),
            _ => "–".to_owned(),
        }
    };
    let trials = found.query_map([], |row| {
        let words: Vec<String> = (1..6).map(|at| word(row, at)).collect();
        Ok(words.join(" "))
    });
    let trials: Vec<String> = trials.unwrap().map(Result::unwrap).collect();
    // The first axis turns slowest, seeds fastest.
    let want = [
        "sft – slow – 1",
        "sft – slow – 2",
        "sft – fast – 1",
        "sft – fast – 2",
        "dpo 0.1 slow – 1",
        "dpo 0.1 slow – 2",
        "dpo 0.1 fast – 1",
        "dpo 0.1 fast – 2",
        "dpo 0.5 slow – 1",
        "dpo 0.5 slow – 2",
        "– – – strong 1",
    ];
    assert_eq!(trials, want);
    let table = &project.json(&["compare", "grammar"])[0];
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "{table}");
    assert!(
        rows.iter()
            .all(|row| row["results"][0]["estimate"]["value"].is_f64()),
        "{table}"
    );

    // `data-seed` fixes which pairs are drawn, for all seeds of training.
    let drawn = |trial: usize| -> BTreeSet<String> {
        tiny::reply_tokens(&project, "grammar", trial, 4)
            .into_keys()
            .collect()
    };
    assert_eq!(drawn(4).len(), 4);
    assert!([5, 8, 10].iter().all(|trial| drawn(*trial) == drawn(4)));
}
