//! Online DPO whose judge is an endpoint with OpenAI's chat protocol, from the sweep file to the table.

use crate::project::Project;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The secret that requests carry; it may stand nowhere else.
pub(crate) const KEY: &str = "sk-loopback-4711";

/// A server on the loopback device that answers each chat request; it lives as long as the test process.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
    keys: Arc<Mutex<Vec<String>>>,
}

/// What the server was asked.
pub(crate) struct Call {
    /// The whole request.
    pub(crate) body: Value,
    /// Its turns.
    pub(crate) messages: Vec<Value>,
}

impl Endpoint {
    /// Answers the last turn of each request.
    fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        Self::serving(move |call| {
            answer(call.messages.last().unwrap()["content"].as_str().unwrap())
        })
    }

    /// Answers each request with a status and a text; a status of 0 cuts the connection before anything is said, or, with
    /// a text, in the midst of it.
    pub(crate) fn serving(answer: impl Fn(&Call) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let keys = Arc::new(Mutex::new(Vec::new()));
        let (counter, seen) = (Arc::clone(&asked), Arc::clone(&keys));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                // A client that goes away ends its own connection only.
                drop(serve(stream.unwrap(), &answer, &seen));
            }
        });
        Self { url, asked, keys }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// One request, then the connection is closed.
fn serve(
    stream: TcpStream,
    answer: &dyn Fn(&Call) -> (u16, String),
    keys: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                keys.lock().unwrap().push(value.to_owned());
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let messages = body["messages"].as_array().unwrap().clone();
    let (status, text) = answer(&Call { body, messages });
    let mut stream = reader.into_inner();
    if status == 0 {
        let half = &text.as_bytes()[..text.len() / 2];
        if !half.is_empty() {
            write!(
                stream,
                "HTTP/1.1 200 Said\r\nContent-Length: {}\r\n\r\n",
                text.len()
            )?;
            stream.write_all(half)?;
        }
        return Ok(());
    }
    let head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len())
}

pub(crate) fn say(text: &str) -> (u16, String) {
    let json = json!({"choices": [{"message": {"content": text}}]});
    (200, json.to_string())
}

/// Prefers long replies: a rating from 1 to 10 by length.
fn by_length(question: &str) -> (u16, String) {
    let (_, reply) = question.rsplit_once("[reply]\n").unwrap();
    let reply = reply.strip_suffix("\n[end of reply]").unwrap();
    say(&format!("Long enough. [[{}]]", reply.len() % 10 + 1))
}

/// The smoke study with one round of online DPO under the endpoint.
fn project(url: &str, runtime: &str) -> Project {
    let project = Project::new();
    project.write(
        "sweeps/judged.toml",
        format!(
            r#"extends = ["base/mini.toml"]
[sweep]
name = "judged"
question = "Does the endpoint's taste reach the policy?"
seeds = [1]
[base]
pipeline = ["sft", "online-dpo"]
[base.sft.recipe]
batch = {{ tokens = 512 }}
max-seq-len = 256
duration = {{ steps = 2 }}
[base.online-dpo.recipe]
rounds = 1
samples = 2
sampling = {{ temperature = 1.0, top-p = 1.0, max-new-tokens = 12 }}
judge = {{ openai = {{ base-url = "{url}", model = "judge-1", mode = "score" }} }}
[base.online-dpo.recipe.prompts]
per-round = 6
[base.online-dpo.judge-runtime]
key-env = "JUDGE_KEY"
concurrency = 2
{runtime}
[base.online-dpo.recipe.dpo]
duration = {{ steps = 2 }}
global-batch-size = 4
[base.eval.recipe]
likelihood.instruct = {{ data = [{{ path = "data/sft/instruct_test.jsonl", count = 4 }}], max-seq-len = 256 }}
likelihood.tales = {{ data = [{{ path = "data/sft/stories_test.jsonl", count = 2 }}], max-seq-len = 256 }}
[[report.table]]
name = "main"
title = "Held-out loss"
metrics = ["tales/loss"]
"#
        ),
    );
    project
}

fn run(project: &Project, words: &[&str]) -> crate::project::Said {
    let words = [&["run", "sweeps/judged.toml", "--jobs", "1"], words].concat();
    let mut command = project.command(&words);
    crate::project::Said::of(&command.env("JUDGE_KEY", KEY).output().unwrap())
}

/// Every file of the project that holds `text`.
pub(crate) fn files_with(project: &Project, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![project.path("results"), project.path("reports")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
                    found.push(path);
                }
            }
        }
    }
    found
}

#[test]
fn an_endpoint_judges_a_round_and_the_study_ends_in_its_table() {
    let endpoint = Endpoint::start(by_length);
    let project = project(&endpoint.url, "");
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(endpoint.asked(), 12, "two replies to each of six prompts");
    let keys = endpoint.keys.lock().unwrap().clone();
    assert!(keys.len() == 12 && keys.iter().all(|key| *key == format!("Bearer {KEY}")));
    let table = &project.json(&["compare", "judged"])[0];
    let cell = &table["rows"][0]["results"][0];
    assert!(cell["estimate"]["value"].as_f64().is_some(), "{table}");
    assert!(project.read("reports/judged/report.md").contains("judge"));
    assert_eq!(files_with(&project, KEY), Vec::<std::path::PathBuf>::new());

    let again = run(&project, &[]);
    assert_eq!((again.code, endpoint.asked()), (0, 12), "{again:?}");
}

#[test]
fn a_server_that_repeats_the_key_and_steers_the_terminal_is_shown_without_both() {
    let refusal = format!("no \u{1b}]0;owned\u{7} Authorization: Bearer {KEY}");
    let endpoint = Endpoint::start(move |_| (401, refusal.clone()));
    let project = project(&endpoint.url, "");
    let said = run(&project, &[]);
    assert_eq!(said.code, 100, "{said:?}");
    let status = project.lions(&["status", "judged"]);
    let table = project.lions(&["compare", "judged"]);
    for text in [&said.out, &said.err, &status.out, &table.out, &table.err] {
        assert!(!text.contains(KEY) && !text.contains('\u{7}'), "{text}");
    }
    assert!(said.err.contains("HTTP 401"), "{said:?}");
    assert!(said.err.contains("Bearer [key]"), "{said:?}");
    assert_eq!(files_with(&project, KEY), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        files_with(&project, "\u{1b}]0;owned"),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_judge_that_was_mended_is_asked_again() {
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = Arc::clone(&mended);
    let endpoint = Endpoint::start(move |question| {
        if now.load(Ordering::SeqCst) {
            by_length(question)
        } else {
            say("I would rather not say.")
        }
    });
    let project = project(&endpoint.url, "asks = 2");
    let said = run(&project, &[]);
    assert_eq!(said.code, 100, "{said:?}");
    assert!(said.err.contains("no rating `[[N]]`"), "{said:?}");
    mended.store(true, Ordering::SeqCst);
    let said = run(&project, &["--retry"]);
    assert_eq!(said.code, 0, "{said:?}");
}

/// Says A where A is the longer, C where both are as long.
fn longer_wins(question: &str) -> (u16, String) {
    let (_, replies) = question.split_once("<A>").unwrap();
    let (a, b) = replies.split_once("<B>").unwrap();
    let winner = match a.len().cmp(&b.len()) {
        std::cmp::Ordering::Greater => "A",
        std::cmp::Ordering::Less => "B",
        std::cmp::Ordering::Equal => "C",
    };
    say(&format!("I prefer [[{winner}]]."))
}

#[test]
fn an_endpoint_compares_every_two_replies_in_both_orders_by_a_template_of_ones_own() {
    let endpoint = Endpoint::start(longer_wins);
    let project = project(&endpoint.url, "");
    let file = "sweeps/judged.toml";
    let options = "mode = \"pairwise\", template = \"{prompt}<A>{a}<B>{b}\", system = \"Judge.\", temperature = 0.0, max-tokens = 50, seed = 7";
    project.edit(file, "mode = \"score\"", options);
    project.edit(file, "samples = 2", "samples = 3");
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(
        endpoint.asked(),
        36,
        "six ordered pairs of three replies to six prompts"
    );
    let results = crate::tiny::Results::open(&project, "judged");
    let sample = results.lines(&results.of_kind("sample"), "samples.jsonl");
    let judged = results.lines(&results.of_kind("judge"), "judged.jsonl");
    assert_eq!((sample.len(), judged.len()), (6, 6));
    for (prompt, row) in sample.iter().zip(&judged) {
        let replies = prompt["replies"].as_array().unwrap();
        let length = |at: usize| replies[at]["text"].as_str().unwrap().len();
        let scores = row["scores"].as_array().unwrap();
        assert_eq!(scores.len(), 3, "{row}");
        for (at, score) in scores.iter().enumerate() {
            let others = (0..3).filter(|other| *other != at);
            let won = others.map(|other| match length(at).cmp(&length(other)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Less => 0.0,
                std::cmp::Ordering::Equal => 0.5,
            });
            let want = won.sum::<f64>() / 2.0;
            assert!((score.as_f64().unwrap() - want).abs() < 1e-9, "{row}");
        }
    }
}

#[test]
fn ratings_keep_to_the_scale_that_the_recipe_says() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |question| {
        let reply = question.strip_prefix("From 0 to 5: ").unwrap();
        let (_, reply) = reply.rsplit_once("<reply>").unwrap();
        // What lies outside is no verdict, and is asked for again.
        let outside = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let rating = if outside { 6 } else { reply.len() % 6 };
        say(&format!("[[{rating}]]"))
    });
    let project = project(&endpoint.url, "");
    let options = "mode = \"score\", lowest = 0, highest = 5, template = \"From 0 to 5: {prompt}<reply>{reply}\"";
    project.edit("sweeps/judged.toml", "mode = \"score\"", options);
    let said = run(&project, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(endpoint.asked(), 13);
    let results = crate::tiny::Results::open(&project, "judged");
    let sample = results.lines(&results.of_kind("sample"), "samples.jsonl");
    let judged = results.lines(&results.of_kind("judge"), "judged.jsonl");
    let mut all = Vec::new();
    for (prompt, row) in sample.iter().zip(&judged) {
        let replies = prompt["replies"].as_array().unwrap().iter();
        let wanted: Vec<f64> = replies
            .map(|reply| (reply["text"].as_str().unwrap().len() % 6) as f64)
            .collect();
        let got = row["scores"].as_array().unwrap().iter();
        let got: Vec<f64> = got.map(|score| score.as_f64().unwrap()).collect();
        assert_eq!(got, wanted, "{row}");
        all.extend(got);
    }
    assert!(
        all.contains(&0.0),
        "no rating below the usual scale: {all:?}"
    );
    let table = &project.json(&["compare", "judged"])[0];
    assert!(table["rows"][0]["results"][0]["estimate"]["value"].is_number());

    // A question of one's own says the scale; ours asks for 1 to 10.
    project.edit(
        "sweeps/judged.toml",
        ", template = \"From 0 to 5: {prompt}<reply>{reply}\"",
        "",
    );
    let said = project.lions(&["check", "sweeps/judged.toml"]);
    let why = "ratings from 0 to 5, but the question asks for 1 to 10";
    assert!(said.code == 1 && said.err.contains(why), "{said:?}");
}

#[test]
fn an_answer_that_takes_too_long_is_asked_for_again_and_in_the_end_given_up() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |question| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1500));
        }
        by_length(question)
    });
    let project_of =
        |url: &str, runtime: &str| project(url, &format!("timeout-secs = 1\n{runtime}"));
    let patient = project_of(&endpoint.url, "");
    let said = run(&patient, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(endpoint.asked() > 12, "{}", endpoint.asked());
    let table = &patient.json(&["compare", "judged"])[0];
    assert!(table["rows"][0]["results"][0]["estimate"]["value"].is_number());

    let endpoint = Endpoint::start(|question| {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        by_length(question)
    });
    let said = run(&project_of(&endpoint.url, "retries = 1"), &[]);
    assert_eq!(said.code, 100, "{said:?}");
    let words = "no answer within 1 s, its `timeout-secs` (2 tries)";
    assert!(said.err.contains(words), "{said:?}");
}
