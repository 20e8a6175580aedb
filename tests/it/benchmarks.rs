//! Chat benchmarks under a judge behind an endpoint, from the sweep file to the table, with what goes wrong on the way.

use crate::judged::{Call, Endpoint, KEY, files_with, say};
use crate::project::{Project, Said};
use crate::tiny::{Results, close};
use lions::eval::judged::files::{
    AlpacaAnnotation, AlpacaOutput, ArenaAnswer, ArenaJudgment, MtAnswer, MtJudgment, read_rows,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Questions of our own in the forms of the three benchmarks, and answers of a baseline.
pub(crate) fn write_questions(project: &Project) {
    let lines = |rows: &[Value]| {
        rows.iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>()
    };
    project.write(
        "bench/mt.jsonl",
        lines(&[
            json!({"question_id": 81, "category": "writing", "turns": ["Tell me about a cat.", "Now about a dog."]}),
            json!({"question_id": 111, "category": "math", "turns": ["What is 2 + 2?", "And 3 + 3?"]}),
        ]),
    );
    project.write(
        "bench/mt-references.jsonl",
        lines(&[
            json!({"question_id": 111, "answer_id": "r", "model_id": "r",
            "choices": [{"index": 0, "turns": ["4", "6"]}], "tstamp": 0.0}),
        ]),
    );
    let prompt = |name: &str, template: &str| {
        json!({"name": name, "type": "single", "system_prompt": "Be fair.",
            "prompt_template": template, "output_format": "[[rating]]"})
    };
    project.write(
        "bench/mt-prompts.jsonl",
        lines(&[
            prompt("single-v1", "[mt 1] {question}|{answer}"),
            prompt("single-math-v1", "[mt 1] {question}|{ref_answer_1}|{answer}"),
            prompt("single-v1-multi-turn", "[mt 2] {question_1}|{answer_1}|{question_2}|{answer_2}"),
            prompt("single-math-v1-multi-turn", "[mt 2] {question_1}|{ref_answer_1}|{question_2}|{ref_answer_2}|{answer_1}|{answer_2}"),
        ]),
    );
    let arena = |id: &str, text: &str| json!({"question_id": id, "category": "c", "cluster": "k", "turns": [{"content": text}]});
    let questions = [
        arena("a", "Tell me about a bird."),
        arena("b", "Tell me about a fish."),
    ];
    project.write("bench/arena.jsonl", lines(&questions));
    let answered = |id: &str| {
        json!({"question_id": id, "answer_id": id, "model_id": "base",
            "choices": [{"index": 0, "turns": [{"content": format!("baseline {id}"), "token_len": 2}]}], "tstamp": 0.0})
    };
    project.write(
        "bench/arena-base.jsonl",
        lines(&[answered("a"), answered("b")]),
    );
    project.write("bench/arena-system.txt", "Compare.\n");
    project.write(
        "bench/arena-user.txt",
        "[arena] {question_1}|A:{answer_1}|B:{answer_2}\n",
    );
    let output = |at: usize| json!({"instruction": format!("Name {at} rivers."), "output": format!("baseline {at}"), "generator": "base", "dataset": "own"});
    let rows: Vec<Value> = (0..6).map(output).collect();
    project.write("bench/alpaca.json", Value::from(rows).to_string());
    project.write(
        "bench/alpaca-prompt.txt",
        "<|im_start|>system\nChoose.\n<|im_end|>\n<|im_start|>user\n[alpaca] {instruction}|m:{output_1}|M:{output_2}\n<|im_end|>",
    );
    // Made-up tables, so that the fit has something to stand on.
    let mut gamed =
        "model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline\n"
            .to_owned();
    for (model, lead) in [("verbose", -1.0), ("concise", 1.0)] {
        for at in 0..6 {
            let difficulty = f64::from(at) / 3.0 - 0.8;
            let preference = 0.5 + 0.3 * lead - 0.05 * f64::from(at % 3);
            gamed += &format!("{model},{at},{preference},{lead},{difficulty},False\n");
        }
    }
    project.write("bench/gamed.csv", gamed);
}

/// A study that evaluates the shipped model on all three benchmarks.
fn project(url: &str, runtime: &str) -> Project {
    let project = Project::new();
    write_questions(&project);
    project.write(
        "sweeps/bench.toml",
        format!(
            r#"extends = ["base/mini.toml"]
[sweep]
name = "bench"
question = "What does a judge say of the shipped model?"
seeds = [1]
[base]
pipeline = []
[base.eval.judge-runtime]
key-env = "JUDGE_KEY"
concurrency = 2
{runtime}
[base.eval.recipe]
likelihood.instruct = {{ data = [{{ path = "data/sft/instruct_test.jsonl", count = 2 }}], max-seq-len = 256 }}
likelihood.tales = {{ data = [{{ path = "data/sft/stories_test.jsonl", count = 2 }}], max-seq-len = 256 }}
[base.eval.recipe.judged.mt]
max-new-tokens = 12
seed = 1
judge = {{ base-url = "{url}", model = "judge-1", temperature = 0.0, max-tokens = 2048 }}
benchmark.mt-bench = {{ questions-path = "bench/mt.jsonl", prompts-path = "bench/mt-prompts.jsonl", references-path = "bench/mt-references.jsonl" }}
[base.eval.recipe.judged.arena]
max-new-tokens = 12
seed = 1
judge = {{ base-url = "{url}", model = "judge-1", temperature = 0.0, max-tokens = 4096 }}
benchmark.arena-hard = {{ questions-path = "bench/arena.jsonl", baseline-path = "bench/arena-base.jsonl", system-path = "bench/arena-system.txt", prompt-path = "bench/arena-user.txt" }}
[base.eval.recipe.judged.alpaca]
max-new-tokens = 12
seed = 1
judge = {{ base-url = "{url}", model = "judge-1", temperature = 1.0, max-tokens = 1 }}
benchmark.alpaca-eval = {{ baseline-path = "bench/alpaca.json", prompt-path = "bench/alpaca-prompt.txt", gamed-path = "bench/gamed.csv" }}
[[report.table]]
name = "main"
title = "By a judge"
metrics = ["mt/rating", "mt/rating/turn_2", "mt/rating/math", "arena/win_rate", "alpaca/win_rate", "alpaca/lc_win_rate"]
"#
        ),
    );
    project
}

fn run(project: &Project, words: &[&str]) -> Said {
    let words = [&["run", "sweeps/bench.toml", "--jobs", "1"], words].concat();
    let mut command = project.command(&words);
    Said::of(&command.env("JUDGE_KEY", KEY).output().unwrap())
}

/// The judge: 8 for a first turn, 5 for a second one; in the arena the model is a little better, whichever stands first,
/// and about question `b` it says so only when it is asked again; in AlpacaEval what stands second has three quarters.
fn judge(call: &Call) -> (u16, String) {
    let last = call.messages.last().unwrap()["content"].as_str().unwrap();
    let first = call.messages[1]["content"].as_str().unwrap();
    if last.starts_with("[mt 1]") {
        return say("Rating: [[8]]");
    }
    if last.starts_with("[mt 2]") {
        return say("Rating: [[5]]");
    }
    if first.starts_with("[arena]") {
        if first.contains("fish") && call.messages.len() == 2 {
            return say("Let me think.");
        }
        let baseline_first = first.contains("|A:baseline");
        return say(if baseline_first { "[[B>A]]" } else { "[[A>B]]" });
    }
    assert!(last.starts_with("[alpaca]"), "{last}");
    assert_eq!(
        (&call.body["logprobs"], &call.body["top_logprobs"]),
        (&true.into(), &5.into())
    );
    let token = |token: &str, p: f64| json!({"token": token, "logprob": p.ln()});
    let response = json!({
        "choices": [{
            "message": {"role": "assistant", "content": "M"},
            "logprobs": {"content": [{"token": "M", "logprob": 0.75f64.ln(),
                "top_logprobs": [token("M", 0.75), token("m", 0.25)]}]},
        }],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    });
    (200, response.to_string())
}

/// Requests of a judge that answers at once: 2 questions of 2 turns, 2 in both orders (one pair asked again), 6.
const REQUESTS: usize = 4 + 4 + 2 + 6;

fn check_results(project: &Project) {
    let results = Results::open(project, "bench");
    let eval = results.of_kind("eval");
    let metric = |key: &str| results.metric(&eval, key);
    close(metric("mt/rating"), 6.5, 1e-12, "mt");
    close(metric("mt/rating/turn_1"), 8.0, 1e-12, "mt");
    close(metric("mt/rating/turn_2"), 5.0, 1e-12, "mt");
    close(metric("mt/rating/math"), 6.5, 1e-12, "mt");
    close(metric("arena/win_rate"), 1.0, 1e-12, "arena");
    close(metric("arena/first_wins"), 0.5, 1e-12, "arena");

    let artifact = |name: &str| results.artifact(&eval, name);
    let answers: Vec<MtAnswer> = read_rows(&artifact("mt.answers.jsonl")).unwrap();
    assert!(answers.iter().all(|answer| answer.turns().len() == 2));
    let judged: Vec<MtJudgment> = read_rows(&artifact("mt.judgments.jsonl")).unwrap();
    let scores: Vec<f64> = judged.iter().map(|j| j.score).collect();
    assert_eq!(scores, [8.0, 5.0, 8.0, 5.0]);
    let said = &answers[1].turns()[0];
    assert_eq!(
        judged[2].user_prompt,
        format!("[mt 1] What is 2 + 2?|4|{said}")
    );
    assert_eq!(
        judged[3].judge,
        ("judge-1".to_owned(), "single-math-v1-multi-turn".to_owned())
    );

    let answers: Vec<ArenaAnswer> = read_rows(&artifact("arena.answers.jsonl")).unwrap();
    let judged: Vec<ArenaJudgment> = read_rows(&artifact("arena.judgments.jsonl")).unwrap();
    let said = &answers[0].turns()[0].content;
    assert_eq!(
        judged[0].games[0].user_prompt,
        format!("[arena] Tell me about a bird.|A:baseline a|B:{said}")
    );
    assert_eq!(
        judged[0].games[1].user_prompt,
        format!("[arena] Tell me about a bird.|A:{said}|B:baseline a")
    );
    assert_eq!(judged[1].games[0].judgment, "Let me think.\n[[B>A]]");
    assert_eq!(judged[1].games[1].score.as_deref(), Some("A>B"));

    let outputs: Vec<AlpacaOutput> = read_rows(&artifact("alpaca.outputs.json")).unwrap();
    let judged: Vec<AlpacaAnnotation> = read_rows(&artifact("alpaca.annotations.json")).unwrap();
    assert_eq!((outputs.len(), judged.len()), (6, 6));
    let mut shares = Vec::new();
    for (output, row) in outputs.iter().zip(&judged) {
        assert_eq!(
            (&output.output, &row.instruction),
            (&row.output_2, &output.instruction)
        );
        let first = lions::eval::judged::alpaca::model_stands_first(&row.instruction);
        let want = if first { 1.25 } else { 1.75 };
        close(row.preference.unwrap(), want, 1e-12, &row.instruction);
        assert!(
            row.glm_preference.is_some_and(|p| p > 0.0 && p < 1.0),
            "{row:?}"
        );
        shares.push(want - 1.0);
    }
    let mean = shares.iter().sum::<f64>() / 6.0;
    close(metric("alpaca/win_rate"), mean, 1e-12, "alpaca");
    let controlled: Vec<f64> = judged.iter().filter_map(|row| row.glm_preference).collect();
    close(
        metric("alpaca/lc_win_rate"),
        controlled.iter().sum::<f64>() / 6.0,
        1e-12,
        "alpaca",
    );
    let table = &project.json(&["compare", "bench"])[0];
    for (at, key) in [
        "mt/rating",
        "mt/rating/turn_2",
        "mt/rating/math",
        "arena/win_rate",
    ]
    .iter()
    .enumerate()
    {
        let cell = &table["rows"][0]["results"][at]["estimate"]["value"];
        close(cell.as_f64().unwrap(), metric(key), 1e-9, key);
    }
}

#[test]
fn three_benchmarks_are_answered_judged_and_tabulated() {
    let endpoint = Endpoint::serving(judge);
    let project = project(&endpoint.url, "");
    let plan = project.lions(&["plan", "sweeps/bench.toml"]);
    assert!(
        plan.out
            .contains("14 requests or more to the judge `judge-1`"),
        "{plan:?}"
    );
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(endpoint.asked(), REQUESTS);
    check_results(&project);
    let results = Results::open(&project, "bench");
    let eval = results.of_kind("eval");
    assert_eq!(results.count(&eval, "judge_requests"), REQUESTS);
    assert_eq!(results.count(&eval, "judge_prompt_tokens"), 60);
    assert_eq!(results.count(&eval, "judge_completion_tokens"), 6);
    assert_eq!(files_with(&project, KEY), Vec::<std::path::PathBuf>::new());
    let again = run(&project, &[]);
    assert_eq!((again.code, endpoint.asked()), (0, REQUESTS), "{again:?}");
}

#[test]
fn an_endpoint_that_fails_in_every_way_gives_the_same_numbers() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::serving(move |call| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => (429, "{\"error\": \"slow down\"}".to_owned()),
        2 => (500, "<html>oops</html>".to_owned()),
        // The connection is cut before anything is said.
        4 => (0, String::new()),
        6 => (200, "<html>not what was asked for</html>".to_owned()),
        7 => (200, "{\"choices\": []}".to_owned()),
        _ => judge(call),
    });
    let project = project(&endpoint.url, "");
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(endpoint.asked(), REQUESTS + 5);
    check_results(&project);
}

#[test]
fn a_judge_that_refuses_counts_as_one_without_a_verdict() {
    let endpoint = Endpoint::serving(|call: &Call| {
        let last = call.messages.last().unwrap()["content"].as_str().unwrap();
        if last.starts_with("[mt 2]") || last.contains("bird") || last.contains("Name 3") {
            let refused = json!({"choices": [{"message": {"content": null, "refusal": "No."}}]});
            return (200, refused.to_string());
        }
        judge(call)
    });
    let project = project(&endpoint.url, "");
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let results = Results::open(&project, "bench");
    let eval = results.of_kind("eval");
    close(results.metric(&eval, "mt/rating"), 8.0, 1e-12, "mt");
    close(results.metric(&eval, "arena/win_rate"), 1.0, 1e-12, "arena");
    // Two second turns, one instruction; the arena's judge gives way when it is asked again.
    assert_eq!(results.count(&eval, "judge_without_verdict"), 3);
    let judged: Vec<MtJudgment> =
        read_rows(&results.artifact(&eval, "mt.judgments.jsonl")).unwrap();
    let scores: Vec<f64> = judged.iter().map(|j| j.score).collect();
    assert_eq!(scores, [8.0, -1.0, 8.0, -1.0]);
    let judged: Vec<AlpacaAnnotation> =
        read_rows(&results.artifact(&eval, "alpaca.annotations.json")).unwrap();
    let none: Vec<usize> = (0..6)
        .filter(|at| judged[*at].preference.is_none())
        .collect();
    assert_eq!(none, [3]);
}

#[test]
fn a_run_that_failed_goes_on_where_it_stopped() {
    let mended = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&mended);
    let endpoint = Endpoint::serving(move |call: &Call| {
        let last = call.messages.last().unwrap()["content"].as_str().unwrap();
        if last.contains("Name 5") && !now.load(Ordering::SeqCst) {
            return (400, "{\"error\": \"no credit left\"}".to_owned());
        }
        judge(call)
    });
    let project = project(&endpoint.url, "");
    let said = run(&project, &[]);
    assert_eq!(said.code, 100, "{said:?}");
    assert!(said.err.contains("no credit left"), "{said:?}");
    mended.store(true, Ordering::SeqCst);
    let refused = endpoint.asked();
    let said = run(&project, &["--retry"]);
    assert_eq!(said.code, 0, "{said:?}");
    // Whatever was answered is not asked again: all answers together are those of an undisturbed run.
    assert_eq!(endpoint.asked(), REQUESTS + 1, "{refused} before");
    check_results(&project);
}

#[test]
fn a_dry_run_writes_the_requests_and_sends_none() {
    let endpoint = Endpoint::serving(judge);
    let project = project(&endpoint.url, "dry = true");
    let said = run(&project, &[]);
    assert_eq!((said.code, endpoint.asked()), (100, 0), "{said:?}");
    assert!(said.err.contains("requests.jsonl"), "{said:?}");
    let mut folders = vec![project.path("results")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(".requests.jsonl") {
                found.push(path);
            }
        }
    }
    let mut names: Vec<_> = found
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "alpaca.requests.jsonl",
            "arena.requests.jsonl",
            "mt.requests.jsonl"
        ]
    );
    let lines: usize = found
        .iter()
        .map(|path| {
            let rows: Vec<Value> = read_rows(path).unwrap();
            assert!(
                rows.iter()
                    .all(|row| row["body"]["model"] == "judge-1" && row["method"] == "POST")
            );
            rows.len()
        })
        .sum();
    assert_eq!(lines, REQUESTS - 2);
}

#[test]
fn a_part_of_the_questions_is_asked_where_that_is_wanted() {
    let endpoint = Endpoint::serving(judge);
    let project = project(&endpoint.url, "");
    let text = project.read("sweeps/bench.toml");
    let parts: Vec<&str> = text.split("max-new-tokens = 12\n").collect();
    let [before, mt, arena, alpaca] = parts[..] else {
        panic!("three sets in {text}");
    };
    let some = |most: usize| format!("max-new-tokens = 12\nmax-questions = {most}\n");
    let text = [before, &some(1), mt, &some(1), arena, &some(4), alpaca].concat();
    project.write(
        "sweeps/bench.toml",
        text.replace(", \"mt/rating/math\"", ""),
    );
    let plan = project.lions(&["plan", "sweeps/bench.toml"]);
    let words = "8 requests or more to the judge `judge-1`";
    assert!(plan.out.contains(words), "{plan:?}");
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    // The first questions: two turns of writing, both orders about a bird, four of six instructions.
    assert_eq!(endpoint.asked(), 8);
    let results = Results::open(&project, "bench");
    let eval = results.of_kind("eval");
    let artifact = |name: &str| results.artifact(&eval, name);
    let judged: Vec<MtJudgment> = read_rows(&artifact("mt.judgments.jsonl")).unwrap();
    let of_writing = judged.iter().map(|j| json!(j.question_id));
    assert_eq!(of_writing.collect::<Vec<_>>(), [81, 81]);
    let judged: Vec<ArenaJudgment> = read_rows(&artifact("arena.judgments.jsonl")).unwrap();
    assert_eq!(judged.len(), 1);
    let outputs: Vec<AlpacaOutput> = read_rows(&artifact("alpaca.outputs.json")).unwrap();
    assert_eq!(outputs.len(), 4);
    close(results.metric(&eval, "mt/rating"), 6.5, 1e-12, "mt");
    let table = &project.json(&["compare", "bench"])[0];
    let cells = table["rows"][0]["results"].as_array().unwrap();
    assert!(
        cells.len() == 5
            && cells
                .iter()
                .all(|cell| cell["estimate"]["value"].is_number()),
        "{table}"
    );
}
