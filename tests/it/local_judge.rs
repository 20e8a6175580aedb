//! A model of a folder as the judge of chat benchmarks, and the same model behind `lions serve-model`, with what goes
//! wrong on the way, from the sweep file to the table.

use crate::benchmarks::write_questions;
use crate::judged::{Call, Endpoint};
use crate::project::{Project, Said, copy_tree};
use crate::serve_model::{Served, post};
use crate::tiny::{Results, close};
use candle_core::{Device, IndexOp as _, Tensor};
use lions::eval::judged::files::{AlpacaAnnotation, ArenaJudgment, MtJudgment, read_rows};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The token that the shipped model begins replies with most often, a blank.
const BLANK: usize = 410;
/// Its token `m`.
const FIRST: usize = 423;
/// Its token `M`.
const SECOND: usize = 446;
/// Its tokens for both with a blank before them.
const BEHIND_BLANK: [usize; 2] = [284, 392];

/// A judge made of the shipped model: it says `m` or `M` about as often as a blank, by what it has read, and writes
/// `text` wherever it would write an `e`.
fn judge(project: &Project, folder: &str, text: &str) {
    judge_saying(project, folder, text, [FIRST, SECOND]);
}

/// The same with the tokens that it says.
fn judge_saying(project: &Project, folder: &str, text: &str, verdicts: [usize; 2]) {
    copy_tree(&project.path("models/stories260k"), &project.path(folder));
    let path = format!("{folder}/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&project.read(&path)).unwrap();
    let rate = json!({"type": "Replace", "pattern": {"String": "e"}, "content": text});
    tokenizer["decoder"] = json!({"type": "Sequence", "decoders": [tokenizer["decoder"], rate]});
    project.write(&path, tokenizer.to_string());
    project.edit(
        &format!("{folder}/config.json"),
        "\"tie_word_embeddings\": true",
        "\"tie_word_embeddings\": false",
    );
    let file = project.path(folder).join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let embedding = tensors["model.embed_tokens.weight"].clone();
    let row = |at: usize| embedding.i(at).unwrap();
    let near_blank = |at: usize| ((row(at) * 0.2).unwrap() + row(BLANK)).unwrap();
    let rows = (0..embedding.dim(0).unwrap()).map(|at| match at {
        at if verdicts.contains(&at) => near_blank(at),
        at => row(at),
    });
    let head = Tensor::stack(&rows.collect::<Vec<_>>(), 0).unwrap();
    tensors.insert("lm_head.weight".to_owned(), head);
    candle_core::safetensors::save(&tensors, &file).unwrap();
}

/// A study `name` of the shipped model; `who` says who judges in each of three benchmarks.
fn write_sweep(project: &Project, name: &str, who: &dyn Fn(&str) -> String, rest: &str) {
    let sweep = format!(
        r#"extends = ["base/mini.toml"]
[sweep]
name = "{name}"
question = "What does a model of ours say of the shipped one?"
seeds = [1]
[base]
pipeline = []
[base.eval.recipe]
likelihood.instruct = {{ data = [{{ path = "data/sft/instruct_test.jsonl", count = 2 }}], max-seq-len = 256 }}
likelihood.tales = {{ data = [{{ path = "data/sft/stories_test.jsonl", count = 2 }}], max-seq-len = 256 }}
[base.eval.recipe.judged.mt]
max-new-tokens = 12
seed = 1
judge = {{ {}, temperature = 0.0, max-tokens = 24 }}
benchmark.mt-bench = {{ questions-path = "bench/mt.jsonl", prompts-path = "bench/mt-prompts.jsonl", references-path = "bench/mt-references.jsonl" }}
[base.eval.recipe.judged.arena]
max-new-tokens = 12
seed = 1
judge = {{ {}, temperature = 0.0, max-tokens = 24 }}
benchmark.arena-hard = {{ questions-path = "bench/arena.jsonl", baseline-path = "bench/arena-base.jsonl", system-path = "bench/arena-system.txt", prompt-path = "bench/arena-user.txt" }}
[base.eval.recipe.judged.alpaca]
max-new-tokens = 12
seed = 1
judge = {{ {}, temperature = 1.0, max-tokens = 1, seed = 3 }}
benchmark.alpaca-eval = {{ baseline-path = "bench/alpaca.json", prompt-path = "bench/alpaca-prompt.txt", gamed-path = "bench/gamed.csv" }}
{rest}
[[report.table]]
name = "main"
title = "By a judge"
metrics = ["mt/rating", "arena/win_rate", "alpaca/win_rate", "alpaca/lc_win_rate"]
"#,
        who("models/rater"),
        who("models/chooser"),
        who("models/chooser"),
    );
    project.write(format!("sweeps/{name}.toml"), sweep);
}

fn local(folder: &str) -> String {
    format!("model-path = \"{folder}\", precision = \"f32\"")
}

fn project() -> Project {
    let project = Project::new();
    write_questions(&project);
    judge(&project, "models/rater", "[[7]]");
    judge(&project, "models/chooser", "[[A>B]]");
    project
}

fn run(project: &Project, sweep: &str, words: &[&str]) -> Said {
    let file = format!("sweeps/{sweep}.toml");
    project.lions(&[&["run", &file, "--jobs", "1"], words].concat())
}

/// The evaluation of a study; others of the project may have their own.
fn evaluation(project: &Project, sweep: &str) -> String {
    let status = project.json(&["status", sweep]);
    let runs = status["runs"].as_array().unwrap();
    let evals = runs.iter().filter(|run| run["kind"] == "eval");
    let mut ids = evals.map(|run| run["id"].as_str().unwrap()[..12].to_owned());
    let id = ids.next().unwrap();
    assert_eq!(ids.next(), None);
    id
}

/// What judgments and metrics of a study come to, without the judge's name.
fn judgments(project: &Project, sweep: &str) -> (Vec<f64>, Vec<String>, Vec<Option<f64>>) {
    let results = Results::open(project, sweep);
    let eval = evaluation(project, sweep);
    let keys = [
        "mt/rating",
        "mt/rating/turn_2",
        "arena/win_rate",
        "arena/first_wins",
        "alpaca/win_rate",
        "alpaca/lc_win_rate",
    ];
    let metrics = keys.map(|key| results.metric(&eval, key)).to_vec();
    let artifact = |name: &str| results.artifact(&eval, name);
    let mt: Vec<MtJudgment> = read_rows(&artifact("mt.judgments.jsonl")).unwrap();
    let arena: Vec<ArenaJudgment> = read_rows(&artifact("arena.judgments.jsonl")).unwrap();
    let alpaca: Vec<AlpacaAnnotation> = read_rows(&artifact("alpaca.annotations.json")).unwrap();
    let games = arena.iter().flat_map(|one| &one.games);
    let words = mt.iter().map(|one| &one.judgment);
    let words = words.chain(games.map(|game| &game.judgment));
    let words = words.map(|text| text.trim().to_owned()).collect();
    let preferences = alpaca.iter().map(|one| one.preference).collect();
    (metrics, words, preferences)
}

/// Files of that name in `work/` of the attempts of a study's evaluation, by attempt.
fn kept(project: &Project, sweep: &str, name: &str) -> Vec<PathBuf> {
    let results = Results::open(project, sweep);
    let attempts = results.folder(&evaluation(project, sweep)).join("attempts");
    let mut all: Vec<PathBuf> = fs::read_dir(attempts)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("work").join(name))
        .filter(|path| path.is_file())
        .collect();
    all.sort();
    all
}

#[test]
fn a_local_judge_says_what_the_same_model_says_behind_an_endpoint_that_fails_in_every_way() {
    let project = project();
    write_sweep(&project, "local", &local, "");
    let plan = project.lions(&["plan", "sweeps/local.toml"]);
    assert!(!plan.out.contains("requests"), "{plan:?}");
    let said = run(&project, "local", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let (metrics, words, preferences) = judgments(&project, "local");
    assert!(words.iter().any(|text| text.contains("[[7]]")), "{words:?}");
    assert!(
        words.iter().any(|text| text.contains("[[A>B]]")),
        "{words:?}"
    );
    // Always for what stands first: half of the verdicts, whichever that is.
    close(metrics[2], 0.5, 1e-12, "arena");
    close(metrics[3], 1.0, 1e-12, "arena");
    let preferred: Vec<f64> = preferences.iter().map(|one| one.unwrap()).collect();
    assert!(
        preferred.iter().all(|p| *p > 1.0 && *p < 2.0),
        "{preferred:?}"
    );
    assert!(
        preferred
            .windows(2)
            .any(|two| (two[0] - two[1]).abs() > 1e-6)
    );
    let table = &project.json(&["compare", "local"])[0];
    let cell = &table["rows"][0]["results"][3]["estimate"]["value"];
    close(cell.as_f64().unwrap(), metrics[5], 1e-9, "lc_win_rate");
    let results = Results::open(&project, "local");
    let eval = evaluation(&project, "local");
    assert!(results.count(&eval, "judge_completion_tokens") > 6);

    // The same models behind an endpoint, in front of which everything goes wrong once.
    let rater = Served::of(&project, "models/rater", &[]);
    let chooser = Served::of(&project, "models/chooser", &[]);
    let (calls, mended) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let now = Arc::clone(&mended);
    let addresses = (rater.address.clone(), chooser.address.clone());
    let endpoint = Endpoint::serving(move |call: &Call| {
        let address = match call.body["model"].as_str() {
            Some("rater") => &addresses.0,
            _ => &addresses.1,
        };
        let answer = post(address, "/v1/chat/completions", &call.body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let asked = call.messages.last().unwrap()["content"].as_str().unwrap();
        if asked.contains("Name 5") && !now.load(Ordering::SeqCst) {
            return (400, "{\"error\": \"no credit left\"}".to_owned());
        }
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => (429, "{\"error\": \"slow down\"}".to_owned()),
            1 => (500, "oops".to_owned()),
            // Cut before anything is said, and in the midst of it.
            2 => (0, String::new()),
            3 => (0, answer.body),
            4 => (200, "{\"choices\": []}".to_owned()),
            // AlpacaEval's is the first; its verdict is no text.
            5 => (200, answer.body.replace("top_logprobs", "tops")),
            _ => (200, answer.body),
        }
    });
    let served = |folder: &str| {
        let name = folder.strip_prefix("models/").unwrap();
        format!("base-url = \"{}\", model = \"{name}\"", endpoint.url)
    };
    let runtime = "[base.eval.judge-runtime]\nconcurrency = 2\n";
    write_sweep(&project, "served", &served, runtime);
    let said = run(&project, "served", &[]);
    assert_eq!(said.code, 100, "{said:?}");
    assert!(said.err.contains("no credit left"), "{said:?}");
    mended.store(true, Ordering::SeqCst);
    let said = run(&project, "served", &["--retry"]);
    assert_eq!(said.code, 0, "{said:?}");
    let (by_endpoint, said_there, preferred_there) = judgments(&project, "served");
    for (one, other) in metrics.iter().zip(&by_endpoint) {
        close(*one, *other, 1e-9, "an endpoint's number");
    }
    assert_eq!(words, said_there);
    for (one, other) in preferences.iter().zip(&preferred_there) {
        close(
            one.unwrap(),
            other.unwrap(),
            1e-9,
            "an endpoint's preference",
        );
    }
    rater.end();
    chooser.end();
}

// A model of SentencePiece begins a reply with `▁m`; an endpoint of it tells that token as ` m`.
#[test]
fn a_judge_whose_words_carry_their_blank_has_verdicts_in_a_folder_and_behind_an_endpoint() {
    let project = project();
    judge_saying(&project, "models/chooser", "[[A>B]]", BEHIND_BLANK);
    write_sweep(&project, "local", &local, "");
    assert_eq!(run(&project, "local", &[]).code, 0);
    let (_, _, preferences) = judgments(&project, "local");
    let preferences: Vec<f64> = preferences.iter().map(|one| one.unwrap()).collect();
    // Neither token is next to nothing beside the other, and it matters what the judge has read.
    assert!(
        preferences.iter().all(|p| *p > 1.05 && *p < 1.95),
        "{preferences:?}"
    );
    assert!(
        preferences
            .windows(2)
            .any(|two| (two[0] - two[1]).abs() > 1e-6)
    );

    let rater = Served::of(&project, "models/rater", &[]);
    let chooser = Served::of(&project, "models/chooser", &[]);
    let served = |folder: &str| {
        let name = folder.strip_prefix("models/").unwrap();
        let address = match name {
            "rater" => &rater.address,
            _ => &chooser.address,
        };
        format!("base-url = \"http://{address}/v1\", model = \"{name}\"")
    };
    write_sweep(&project, "served", &served, "");
    assert_eq!(run(&project, "served", &[]).code, 0);
    let (_, _, there) = judgments(&project, "served");
    assert_eq!(there.len(), preferences.len());
    for (one, other) in preferences.iter().zip(&there) {
        close(*one, other.unwrap(), 1e-9, "an endpoint's preference");
    }
    rater.end();
    chooser.end();
}

#[test]
fn a_local_judge_is_part_of_the_identity_by_its_content_and_is_not_asked_twice() {
    let project = project();
    // The last of the sets fails, when the others have been judged.
    let endpoint = Endpoint::serving(|_| (400, "{\"error\": \"no credit left\"}".to_owned()));
    let last = format!(
        "[base.eval.recipe.judged.zz]\nmax-new-tokens = 12\nseed = 1\njudge = {{ base-url = \"{}\", model = \"j\", temperature = 0.0, max-tokens = 24 }}\nbenchmark.mt-bench = {{ questions-path = \"bench/mt.jsonl\", prompts-path = \"bench/mt-prompts.jsonl\", references-path = \"bench/mt-references.jsonl\" }}\n",
        endpoint.url
    );
    write_sweep(&project, "failing", &local, &last);
    let said = run(&project, "failing", &[]);
    assert_eq!(said.code, 100, "{said:?}");
    let first = kept(&project, "failing", "alpaca-judge-1-000000.json");
    assert_eq!(first.len(), 1);
    // What a byte of has changed is asked again, the rest is not.
    let damaged = kept(&project, "failing", "arena-judge-1-000000.json");
    let text = fs::read_to_string(&damaged[0]).unwrap();
    let other = text.replacen("[[A>B]]", "[[B>A]]", 1);
    lions::base::write_atomic(&damaged[0], other.as_bytes()).unwrap();
    let said = run(&project, "failing", &["--retry"]);
    assert_eq!(said.code, 100, "{said:?}");
    assert_eq!(
        kept(&project, "failing", "alpaca-judge-1-000000.json"),
        first
    );
    let again = kept(&project, "failing", "arena-judge-1-000000.json");
    assert_eq!(again.len(), 2);
    assert_eq!(fs::read_to_string(&again[1]).unwrap(), text);

    write_sweep(&project, "local", &local, "");
    assert_eq!(run(&project, "local", &[]).code, 0);
    let results = Results::open(&project, "local");
    let eval = evaluation(&project, "local");
    // Another folder of the same content is the same judge, of other content another one.
    copy_tree(
        &project.path("models/rater"),
        &project.path("models/elsewhere/rater"),
    );
    copy_tree(
        &project.path("models/chooser"),
        &project.path("models/elsewhere/chooser"),
    );
    let moved = |folder: &str| local(&folder.replace("models/", "models/elsewhere/"));
    write_sweep(&project, "moved", &moved, "");
    assert_eq!(run(&project, "moved", &[]).code, 0);
    assert_eq!(evaluation(&project, "moved"), eval);
    judge(&project, "models/elsewhere/rater", "[[2]]");
    let said = run(&project, "moved", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let other = evaluation(&project, "moved");
    assert_ne!(other, eval);
    let mt = |run: &str| -> Vec<MtJudgment> {
        read_rows(&results.artifact(run, "mt.judgments.jsonl")).unwrap()
    };
    let (named, renamed) = (mt(&eval), mt(&other));
    assert!(named[0].judge.0.starts_with("local-"), "{named:?}");
    assert_ne!(named[0].judge.0, renamed[0].judge.0);
    assert_eq!(
        renamed[0].judgment,
        named[0].judgment.replace("[[7]]", "[[2]]")
    );

    // A run of its own, in a project of its own, has the same bytes.
    let fresh = self::project();
    write_sweep(&fresh, "local", &local, "");
    assert_eq!(run(&fresh, "local", &[]).code, 0);
    let theirs = Results::open(&fresh, "local");
    assert_eq!(evaluation(&fresh, "local"), eval);
    for name in [
        "mt.judgments.jsonl",
        "arena.judgments.jsonl",
        "alpaca.annotations.json",
        "rows.jsonl",
    ] {
        let read = |results: &Results| fs::read(results.artifact(&eval, name)).unwrap();
        assert!(read(&results) == read(&theirs), "{name}");
    }
}

#[test]
fn a_judge_is_an_endpoint_or_a_folder_and_its_folder_is_looked_at_before_anything_runs() {
    let project = project();
    let both = |folder: &str| format!("{}, model = \"j\"", local(folder));
    write_sweep(&project, "both", &both, "");
    let said = project.lions(&["check", "sweeps/both.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("either `base-url` and `model` or `model-path`"),
        "{said:?}"
    );
    write_sweep(&project, "none", &|_| local("models/nowhere"), "");
    let said = project.lions(&["check", "sweeps/none.toml"]);
    assert!(
        said.code != 0 && said.err.contains("models/nowhere"),
        "{said:?}"
    );
    fs::remove_file(project.path("models/rater/model.safetensors")).unwrap();
    write_sweep(&project, "hollow", &local, "");
    let said = project.lions(&["check", "sweeps/hollow.toml"]);
    assert!(
        said.code != 0 && said.err.contains("models/rater"),
        "{said:?}"
    );
}
