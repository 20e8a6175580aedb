//! What is too long, what is no target, and what has no place in the order of rows: how rows become what a model
//! sees, from the file to the counts in the store.

use crate::project::Project;
use crate::tiny::{self, Results, close};
use serde_json::{Value, json};

const SENTENCE: &str = "Tom ran home to his mom and the big red dog sat by the tree. ";

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A token of a row as `inspect` shows it: its text, and whether it is a target of which side.
fn shown(project: &Project, sweep: &str, trial: usize, row: usize) -> (String, Vec<Value>) {
    let (file, trial, row) = (
        format!("sweeps/{sweep}.toml"),
        trial.to_string(),
        row.to_string(),
    );
    let shown = project.json(&["inspect", &file, "--trial", &trial, "--row", &row]);
    let title = shown["title"].as_str().unwrap();
    let id = title.split('`').nth(1).unwrap_or_default().to_owned();
    (id, shown["tokens"].as_array().unwrap().clone())
}

fn texts(tokens: &[Value], keep: impl Fn(&Value) -> bool) -> Vec<String> {
    let kept = tokens.iter().filter(|token| keep(token));
    kept.map(|token| token["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn pairs_that_are_too_long_lose_an_end_of_the_prompt_or_are_left_out() {
    let project = tiny::project();
    let long = SENTENCE.repeat(4);
    let pair = |id: &str, prompt: &str, chosen: &str, rejected: &str| json!({"id": id, "prompt": prompt, "chosen": chosen, "rejected": rejected});
    let pairs = [
        pair("short", "Say hi.", "Hi.", "No."),
        pair("asked", &long, "Yes, he did.", "No."),
        pair("told", "Tell me.", &long, "No."),
        pair("both", &long, &long, "Go."),
    ];
    project.write("data/mine/pairs.jsonl", lines(&pairs));
    let limits = |longest: usize, prompt: usize, truncation: &str| {
        format!(
            "\"dpo.recipe.limits\" = {{ max-seq-len = {longest}, max-prompt-len = {prompt}, truncation = \"{truncation}\" }}"
        )
    };
    let arms = [
        ("whole", limits(512, 40, "keep-end")),
        ("keep-end", limits(60, 40, "keep-end")),
        ("keep-start", limits(60, 40, "keep-start")),
        ("drop", limits(60, 40, "drop")),
    ];
    let rest = "[base]\npipeline = [\"dpo\"]\n[base.dpo.recipe]\ndata = [{ path = \"data/mine/pairs.jsonl\" }]\n";
    let results = tiny::run_arms(&project, "lengths", &arms, &["tales/loss"], rest);
    let count = |arm: &str, name: &str| results.count(&results.only(arm, "dpo"), name);
    for (arm, kept, dropped, prompts, replies) in [
        ("whole", 4, 0, 0, 0),
        ("keep-end", 4, 0, 2, 2),
        ("keep-start", 4, 0, 2, 2),
        ("drop", 1, 3, 0, 0),
    ] {
        let counts = [
            "pairs_kept",
            "pairs_dropped_too_long",
            "prompts_cut",
            "replies_cut",
        ];
        let got = counts.map(|name| count(arm, name));
        assert_eq!(got, [kept, dropped, prompts, replies], "{arm}");
    }
    // The prompt of a pair that is not too long stays whole, however long it is.
    let sides = |trial: usize, pair: &str| -> [Vec<String>; 3] {
        let rows = (0..4).map(|row| shown(&project, "lengths", trial, row));
        let (_, tokens) = rows.into_iter().find(|(id, _)| id == pair).unwrap();
        let of = |side: &str, target: bool| {
            texts(&tokens, |t| t["document"] == side && t["target"] == target)
        };
        [
            of("chosen", false),
            of("chosen", true),
            of("rejected", true),
        ]
    };
    let whole = sides(0, "asked");
    assert!(whole[0].len() > 40, "{whole:?}");
    for (trial, end) in [(1, true), (2, false)] {
        let cut = sides(trial, "asked");
        assert_eq!(cut[0].len(), 40);
        // The token that begins a text stays.
        assert_eq!(cut[0][0], whole[0][0]);
        let kept = if end {
            &whole[0][whole[0].len() - 39..]
        } else {
            &whole[0][1..40]
        };
        assert_eq!(&cut[0][1..], kept, "trial {trial}");
        assert_eq!(cut[1..], whole[1..], "replies stay");
        let both = sides(trial, "both");
        assert_eq!([both[0].len(), both[1].len()], [40, 20]);
        assert_eq!(both[1], sides(0, "both")[1][..20]);
        let told = sides(trial, "told");
        assert_eq!(
            told[0],
            sides(0, "told")[0],
            "a short prompt leaves its room to the reply"
        );
        assert_eq!(told[0].len() + told[1].len(), 60);
    }
}

#[test]
fn documents_are_cut_at_the_end_or_go_on_in_the_next_window() {
    let project = tiny::project();
    let long = SENTENCE.repeat(4);
    let chat = |id: &str, prompt: &str, reply: &str| json!({"id": id, "prompt": prompt, "completion": reply});
    let chats = [
        chat("a", "Say hi.", "Hi."),
        chat("b", "Tell me.", &long),
        chat("c", &long, "Yes."),
    ];
    project.write("data/mine/chats.jsonl", lines(&chats));
    let arms: Vec<(&str, String)> = ["padded", "concat", "best-fit"]
        .map(|kind| (kind, format!("\"sft.recipe.batching\" = \"{kind}\"")))
        .into();
    let rest = r#"[base.sft.recipe]
data = [{ path = "data/mine/chats.jsonl" }]
max-seq-len = 60
batch = { rows = 3 }
[base.eval.recipe.likelihood.mine]
data = [{ path = "data/mine/chats.jsonl" }]
max-seq-len = 60
"#;
    let results = tiny::run_arms(&project, "cuts", &arms, &["tales/loss"], rest);
    let count = |arm: &str, name: &str| results.count(&results.only(arm, "sft"), name);
    for (arm, _) in &arms {
        assert_eq!(count(arm, "documents"), 3, "{arm}");
        assert_eq!(count(arm, "documents_cut"), 2, "{arm}");
        let kept = count(arm, "tokens") - count(arm, "tokens_dropped");
        assert_eq!(
            kept + count(arm, "padding"),
            count(arm, "positions"),
            "{arm}"
        );
        // What could be learnt was learnt, was the first token behind a cut, or lies behind the limit.
        let told =
            ["targets", "targets_lost_at_cuts", "targets_dropped"].map(|name| count(arm, name));
        assert_eq!(told.iter().sum::<usize>(), 115, "{arm}: {told:?}");
    }
    // Two documents of 60 tokens; the reply of one of them lies behind.
    assert_eq!(count("padded", "documents_without_targets"), 1);
    assert_eq!(
        count("padded", "tokens_dropped"),
        count("padded", "tokens") - 60 - 60 - 24
    );
    for arm in ["concat", "best-fit"] {
        assert_eq!(count(arm, "tokens_dropped"), 0, "{arm}");
        assert_eq!(count(arm, "documents_kept"), 3, "{arm}");
    }
    let eval = results.only("padded", "eval");
    let notes = project.json(&["show", &eval])["notes"].to_string();
    assert!(
        notes.contains("`mine`: 2 of 3 documents cut to 60 tokens"),
        "{notes}"
    );
}

/// Targets of a run, and the rows that reports name.
#[test]
fn flags_systems_and_names_of_rows_are_honoured() {
    let project = tiny::project();
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let talk = |more: Value| {
        let mut row = json!({"messages": [turn("user", "Name a fruit."), turn("assistant", "A plum."),
            turn("user", "Another?"), turn("assistant", "A pear.")]});
        row.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        row
    };
    let flagged = |key: &str, value: Value| {
        let mut row = talk(json!({}));
        row["messages"][1][key] = value;
        row
    };
    let files = [
        (
            "plain",
            talk(json!({"id": "talk", "tool_calls": [], "note": "kept", "system": ""})),
        ),
        ("weight", flagged("weight", json!(0))),
        ("train", flagged("train", json!(false))),
        ("trainable", flagged("trainable", json!(false))),
        ("column", talk(json!({"system": "Be brief."}))),
        (
            "turn",
            json!({"messages": [turn("system", "Be brief."), turn("user", "Name a fruit."), turn("assistant", "A plum."),
            turn("user", "Another?"), turn("assistant", "A pear.")]}),
        ),
    ];
    for (name, row) in &files {
        project.write(
            format!("data/mine/{name}.jsonl"),
            lines(std::slice::from_ref(row)),
        );
    }
    let arms: Vec<(&str, String)> = files
        .iter()
        .map(|(name, _)| (*name, format!("\"sft.recipe.data\" = [{{ path = \"data/mine/{name}.jsonl\" }}]")))
        .chain([("weight, all tokens", "\"sft.recipe\" = { data = [{ path = \"data/mine/weight.jsonl\" }], loss-mask = \"all-tokens\" }".to_owned())])
        .collect();
    let rest = r#"[base.eval.recipe.likelihood.talk]
data = [{ path = "data/mine/plain.jsonl" }]
max-seq-len = 256
"#;
    let results: Results = tiny::run_arms(&project, "flags", &arms, &["tales/loss"], rest);
    let run = |arm: &str| results.only(arm, "sft");
    let targets = |arm: &str| results.count(&run(arm), "targets");
    let said = |trial: usize| -> String {
        let (_, tokens) = shown(&project, "flags", trial, 0);
        texts(&tokens, |token| token["target"] == true)
            .concat()
            .replace('▁', " ")
    };
    assert_eq!(said(0), " A plum.</s> A pear.</s>");
    for (trial, arm) in ["weight", "train", "trainable"].into_iter().enumerate() {
        assert_eq!(said(trial + 1), " A pear.</s>", "{arm}");
        assert_eq!(
            results.weights(&run(arm)),
            results.weights(&run("weight")),
            "{arm}"
        );
        assert!(targets(arm) < targets("plain"));
    }
    // The flag is one of replies, and counts where replies alone are learnt.
    let tokens = results.count(&run("weight, all tokens"), "tokens");
    assert_eq!(targets("weight, all tokens"), tokens - 1);
    // A column is the first turn.
    assert_eq!(
        results.weights(&run("column")),
        results.weights(&run("turn"))
    );
    assert!(results.count(&run("column"), "tokens") > results.count(&run("plain"), "tokens"));
    // Reports name a row by its own id.
    let rows = results.lines(&results.only("plain", "eval"), "rows.jsonl");
    let row = rows.iter().find(|row| row["set"] == "talk").unwrap();
    assert_eq!(row["row"], "talk");
    let tokens = row["metrics"]["tokens"].as_f64().unwrap();
    close(
        tokens,
        targets("plain") as f64,
        1e-9,
        "both replies are measured",
    );
}
