//! `lions serve-model` as its clients see it, over a loopback socket.

use crate::driver::signal;
use crate::parity_tasks;
use crate::project::{Project, copy_tree};
use lions::config::spec::BosRule;
use lions::data::ContinuationTokenizer;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

const MODEL: &str = "models/stories260k";

/// The server of a process of its own.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
}

/// An answer: status and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The events of a stream.
    fn events(&self) -> Vec<Value> {
        let events = self.body.split("\n\n").filter(|event| !event.is_empty());
        let mut events: Vec<&str> = events
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        events
            .into_iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }
}

impl Served {
    fn start(project: &Project, words: &[&str]) -> Self {
        Self::of(project, MODEL, words)
    }

    pub(crate) fn of(project: &Project, model: &str, words: &[&str]) -> Self {
        let all = [&["serve-model", model, "--port", "0", "--json"], words].concat();
        let mut command = project.command(&all);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let url = told["url"].as_str().unwrap();
        let address = url
            .strip_prefix("http://")
            .and_then(|u| u.strip_suffix("/v1"))
            .unwrap();
        assert!(address.starts_with("127.0.0.1:"));
        Self {
            child,
            address: address.to_owned(),
        }
    }

    fn send(&self, head: &str, body: &str) -> Answer {
        send(&self.address, head, body)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        post(&self.address, path, body)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost"), "")
    }

    fn complete(&self, body: Value) -> Value {
        let answer = self.post("/v1/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    fn chat(&self, body: Value) -> Value {
        let answer = self.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Asks it to end.
    pub(crate) fn end(mut self) {
        signal("TERM", &self.child.id().to_string());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
    }
}

/// The text of chunks.
fn send(address: &str, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut all = String::new();
    BufReader::new(stream).read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Answer {
        status,
        body: if chunked {
            unchunked(body)
        } else {
            body.to_owned()
        },
    }
}

/// Posts a body to a served model.
pub(crate) fn post(address: &str, path: &str, body: &Value) -> Answer {
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json");
    send(address, &head, &body.to_string())
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        body = &rest[size + 2..];
        if size == 0 {
            break;
        }
    }
    text
}

// What lm_eval's local-completions asks and reads: prompts as tokens, echo with log-probabilities and one token more.
#[test]
fn log_likelihoods_are_those_of_lions_eval_and_greedy_tokens_those_of_the_harness() {
    let project = parity_tasks::project();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = root.join(MODEL);
    let said = project.lions(&[
        "eval",
        model.to_str().unwrap(),
        "--tasks",
        "winogrande",
        "--out",
        "out",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let samples = project.read_dated("out", "samples_winogrande", ".jsonl");
    let served = Served::of(&project, model.to_str().unwrap(), &[]);
    let golden = root.join("tests/golden/eval/lm/stories260k.winogrande.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let tokenizer = ContinuationTokenizer::open(&model, BosRule::Tokenizer).unwrap();
    let mut asked = 0;
    for (line, doc) in samples.lines().zip(golden["docs"].as_array().unwrap()) {
        let sample: Value = serde_json::from_str(line).unwrap();
        assert_eq!(sample["doc_id"], doc["doc_id"]);
        let arguments = sample["arguments"].as_object().unwrap();
        let pairs: Vec<_> = (0..arguments.len())
            .map(|at| {
                let part =
                    |name: &str| arguments[&format!("gen_args_{at}")][name].as_str().unwrap();
                tokenizer.encode_pair(part("arg_0"), part("arg_1")).unwrap()
            })
            .collect();
        let prompts: Vec<Vec<u32>> = pairs
            .iter()
            .map(|pair| [pair.context.clone(), pair.continuation.clone()].concat())
            .collect();
        let answer = served.complete(json!({
            "model": "stories260k", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234,
            "echo": true,
        }));
        for (at, pair) in pairs.iter().enumerate() {
            let logprobs = &answer["choices"][at]["logprobs"];
            let of = |key: &str| logprobs[key].as_array().unwrap().clone();
            let (logps, tops) = (of("token_logprobs"), of("top_logprobs"));
            assert_eq!(logps.len(), prompts[at].len() + 1);
            assert!(logps[0].is_null() && tops[0].is_null());
            let own = pair.context.len()..prompts[at].len();
            let sum: f64 = logps[own.clone()]
                .iter()
                .map(|logp| logp.as_f64().unwrap())
                .sum();
            let (want, want_greedy) = parity_tasks::likelihood(&sample, at);
            // The same sums in the same order: a rounding of the last digit at most.
            assert!(
                (sum - want).abs() <= 1e-12 * want.abs(),
                "{line}: {sum} {want}"
            );
            let greedy = own.clone().all(|place| {
                let most = tops[place]
                    .as_object()
                    .unwrap()
                    .values()
                    .map(|v| v.as_f64().unwrap());
                most.fold(f64::NEG_INFINITY, f64::max) <= logps[place].as_f64().unwrap()
            });
            assert_eq!(json!(greedy), doc["requests"][at]["is_greedy"], "{line}");
            assert_eq!(greedy, want_greedy, "{line}");
            asked += 1;
        }
    }
    assert_eq!(asked, 16, "two questions for each of eight rows");
    served.end();
}

#[test]
fn texts_are_continued_as_on_the_command_line_at_once_and_in_parts() {
    let project = Project::new();
    let served = Served::start(&project, &[]);
    let models = served.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "stories260k");
    assert_eq!(
        served.get("/v1/models/stories260k").json()["object"],
        "model"
    );
    let ask =
        json!({"prompt": "Once upon a time", "temperature": 0.8, "max_tokens": 20, "seed": 11});
    let whole = served.complete(ask.clone());
    let text = whole["choices"][0]["text"].as_str().unwrap();
    assert_eq!(
        (&whole["object"], &whole["model"]),
        (&json!("text_completion"), &json!("stories260k"))
    );
    let words = [
        "generate",
        MODEL,
        "Once upon a time",
        "--raw",
        "--temperature",
        "0.8",
        "--max-new-tokens",
        "20",
        "--seed",
        "11",
        "--json",
    ];
    let said = project.lions(&words);
    let row: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(row["text"], text);
    assert_eq!(whole["usage"]["completion_tokens"], row["tokens"]);
    assert_eq!(whole["choices"][0]["finish_reason"], row["finish"]);
    let mut streamed = ask.clone();
    streamed["stream"] = json!(true);
    streamed["logprobs"] = json!(0);
    streamed["echo"] = json!(true);
    let events = served.post("/v1/completions", &streamed).events();
    assert!(events.len() > 5, "{events:?}");
    let parts: String = events
        .iter()
        .map(|e| e["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(parts, format!("Once upon a time{text}"));
    let last = events.last().unwrap();
    assert_eq!(
        last["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    assert_eq!(
        last["choices"][0]["logprobs"]["tokens"]
            .as_array()
            .unwrap()
            .len(),
        20
    );
    // Nothing is written where nothing is asked for; a text that is stopped ends before the stop.
    let echo = served.complete(
        json!({"prompt": "Once upon a time", "max_tokens": 0, "echo": true, "logprobs": 2}),
    );
    assert_eq!(echo["choices"][0]["text"], "Once upon a time");
    assert_eq!(
        echo["choices"][0]["logprobs"]["top_logprobs"][1]
            .as_object()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(echo["usage"]["completion_tokens"], 0);
    let stop = &text[text.len() / 2..text.len() / 2 + 3];
    let mut cut = ask.clone();
    cut["stop"] = json!(stop);
    let cut = served.complete(cut);
    assert_eq!(cut["choices"][0]["text"], text[..text.find(stop).unwrap()]);
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    // Without a seed no two requests draw the same.
    let mut free = ask;
    free.as_object_mut().unwrap().remove("seed");
    free["n"] = json!(2);
    let both = served.complete(free.clone());
    assert_ne!(both["choices"][0]["text"], both["choices"][1]["text"]);
    assert_ne!(served.complete(free)["choices"], both["choices"]);
    served.end();
}

#[test]
fn chats_are_answered_at_once_and_in_parts() {
    let project = Project::new();
    let served = Served::start(&project, &["--name", "tiny"]);
    let turns = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me a story."}]);
    let ask = json!({"model": "tiny", "messages": turns, "temperature": 0, "max_tokens": 12});
    let whole = served.chat(ask.clone());
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["role"], "assistant");
    let words = [
        "generate",
        MODEL,
        "Tell me a story.",
        "--system",
        "Be brief.",
        "--temperature",
        "0",
        "--max-new-tokens",
        "12",
        "--json",
    ];
    let row: Value = serde_json::from_str(&project.lions(&words).out).unwrap();
    assert_eq!(message["content"], row["text"]);
    let mut streamed = ask.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let mut events = served.post("/v1/chat/completions", &streamed).events();
    let usage = events.pop().unwrap();
    assert_eq!(
        (&usage["usage"], &usage["choices"]),
        (&whole["usage"], &json!([]))
    );
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let parts = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
    assert_eq!(json!(parts.collect::<String>()), message["content"]);
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk"
                && event["id"] == events[0]["id"])
    );
    let mut told = ask;
    told["logprobs"] = json!(true);
    told["top_logprobs"] = json!(3);
    let told = served.chat(told);
    let content = told["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(json!(content.len()), told["usage"]["completion_tokens"]);
    for token in content {
        // Greedy: the token that was drawn is the first of the likeliest.
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(token["top_logprobs"][0]["token"], token["token"]);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    served.end();
}

#[test]
fn what_cannot_be_answered_is_refused_in_the_form_of_openai() {
    let project = Project::new();
    let served = Served::start(&project, &[]);
    let status = |answer: &Answer| {
        let error = &answer.json()["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{}",
            answer.body
        );
        (
            answer.status,
            error["code"].as_str().unwrap_or("").to_owned(),
        )
    };
    let complete = |body: Value| status(&served.post("/v1/completions", &body));
    let plain = |code: u16, name: &str| (code, name.to_owned());
    assert_eq!(
        complete(json!({"model": "gpt-4", "prompt": "a"})),
        plain(404, "model_not_found")
    );
    assert_eq!(
        complete(json!({"prompt": "word ".repeat(600)})),
        plain(400, "context_length_exceeded")
    );
    assert_eq!(complete(json!({"prompt": [1, 99999]})), plain(400, ""));
    assert_eq!(complete(json!({"prompt": []})), plain(400, ""));
    assert_eq!(
        complete(json!({"prompt": "a", "logprobs": 50})),
        plain(400, "")
    );
    assert_eq!(
        complete(json!({"prompt": "a", "best_of": 3})),
        plain(400, "")
    );
    assert_eq!(
        status(&served.get("/v1/completions")),
        plain(405, "method_not_allowed")
    );
    assert_eq!(status(&served.get("/v1/nothing")), plain(404, "not_found"));
    let host = format!("host: {}", served.address);
    let form = format!("POST /v1/completions HTTP/1.1\r\n{host}\r\ncontent-type: text/plain");
    assert_eq!(
        status(&served.send(&form, "{}")),
        plain(415, "unsupported_media_type")
    );
    let other =
        "POST /v1/completions HTTP/1.1\r\nhost: evil.example\r\ncontent-type: application/json";
    assert_eq!(
        status(&served.send(other, "{}")),
        plain(403, "forbidden_host")
    );
    let json = format!("POST /v1/completions HTTP/1.1\r\n{host}\r\ncontent-type: application/json");
    assert_eq!(status(&served.send(&json, "{")), plain(400, ""));
    // It goes on after all that.
    assert_eq!(served.get("/health").status, 200);
    assert_eq!(
        served.complete(json!({"prompt": "a", "max_tokens": 1}))["choices"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let port = served.address.rsplit_once(':').unwrap().1;
    let taken = project.lions(&["serve-model", MODEL, "--port", port]);
    assert_eq!(taken.code, 1);
    assert!(
        taken.err.contains("cannot listen on 127.0.0.1") && taken.err.contains("--port 0"),
        "{taken:?}"
    );
    served.end();
}

// A judge needs no service: a model of one's own behind this command is asked as any endpoint is.
#[test]
fn a_model_that_is_served_judges_a_chat_benchmark() {
    let project = Project::new();
    copy_tree(&project.path(MODEL), &project.path("models/judge"));
    // What it writes holds a rating wherever it would hold an `e`.
    let path = "models/judge/tokenizer.json";
    let mut tokenizer: Value = serde_json::from_str(&project.read(path)).unwrap();
    let rate = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "[[7]]"});
    tokenizer["decoder"] = json!({"type": "Sequence", "decoders": [tokenizer["decoder"], rate]});
    project.write(path, tokenizer.to_string());
    let prompt = |name: &str, template: &str| {
        let line = json!({"name": name, "type": "single", "system_prompt": "Be fair.",
            "prompt_template": template, "output_format": "[[rating]]"});
        format!("{line}\n")
    };
    let turns = "{question_1}|{answer_1}|{question_2}|{answer_2}";
    let prompts = [
        prompt("single-v1", "{question}|{answer}"),
        prompt("single-math-v1", "{question}|{ref_answer_1}|{answer}"),
        prompt("single-v1-multi-turn", turns),
        prompt("single-math-v1-multi-turn", turns),
    ];
    project.write("bench/prompts.jsonl", prompts.concat());
    let question = json!({"question_id": 81, "category": "writing",
        "turns": ["Tell me about a cat.", "Now about a dog."]});
    project.write("bench/questions.jsonl", format!("{question}\n"));
    let served = Served::of(&project, "models/judge", &[]);
    project.write(
        "sweeps/judged.toml",
        JUDGED.replace("ADDRESS", &served.address),
    );
    let said = project.lions(&["run", "sweeps/judged.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    let metrics = project.json(&["compare", "judged"]);
    assert!(metrics[0].to_string().contains("mt/rating"), "{metrics}");
    // Its words stand beside the replies.
    let samples = project.json(&["samples", "judged"]);
    let replies = samples["rows"][0]["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 2);
    for reply in replies {
        assert!(!reply["text"].as_str().unwrap().is_empty());
        let judge = reply["judge"].as_array().unwrap();
        let about: Vec<&str> = judge.iter().map(|w| w["about"].as_str().unwrap()).collect();
        assert_eq!(about, ["turn 1", "turn 2"]);
        assert_eq!(judge[0]["verdict"], "7");
        assert!(judge[0]["text"].as_str().unwrap().contains("[[7]]"));
    }
    let shown = project.lions(&["samples", "judged"]);
    assert!(shown.out.contains("judge, turn 1: 7"), "{shown:?}");
    served.end();
}

const JUDGED: &str = r#"extends = ["base/mini.toml"]

[sweep]
name = "judged"
question = "What does a judge of our own say?"
seeds = [1]

[base]
pipeline = []

[base.eval.judge-runtime]
concurrency = 2

[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 2 }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }

[base.eval.recipe.judged.mt]
max-new-tokens = 12
seed = 1
judge = { base-url = "http://ADDRESS/v1", model = "judge", temperature = 0.0, max-tokens = 24 }

[base.eval.recipe.judged.mt.benchmark.mt-bench]
questions-path = "bench/questions.jsonl"
prompts-path = "bench/prompts.jsonl"

[[axis]]
path = "eval.recipe.judged.mt.max-new-tokens"
values = [8, 12]

[[report.table]]
name = "rating"
title = "Rating"
metrics = ["mt/rating"]
"#;
