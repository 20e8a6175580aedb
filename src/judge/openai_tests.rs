//! The endpoint judge against a small server on the loopback device.

use crate::base::digest_bytes;
use crate::config::spec::{JudgeMode, JudgeRuntime, OpenaiJudge};
use crate::judge::candidates::{Candidates, item};
use crate::judge::error::JudgeError;
use crate::judge::openai::OpenaiJudgment;
use crate::judge::{Judge, best_and_worst};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the server answers to a body: status, further headers, response.
type Respond = dyn Fn(usize, &Value) -> (u16, String, String) + Send + Sync;

/// What the server was asked.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    path: String,
    authorization: Option<String>,
    body: Value,
}

struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    down: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `respond` gets the number of the request, from 0, and its body.
    fn start(
        respond: impl Fn(usize, &Value) -> (u16, String, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let down = Arc::new(AtomicBool::new(false));
        let (all, closed) = (Arc::clone(&seen), Arc::clone(&down));
        let respond: Arc<Respond> = Arc::new(respond);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (all, respond) = (Arc::clone(&all), Arc::clone(&respond));
                // A client that goes away ends its own connection only.
                std::thread::spawn(move || drop(serve(stream.unwrap(), &all, respond.as_ref())));
            }
        });
        Self {
            url,
            seen,
            down,
            thread: Some(thread),
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        let address = self.url["http://".len()..].trim_end_matches("/v1");
        drop(TcpStream::connect(address));
        drop(self.thread.take().unwrap().join());
    }
}

/// One request, then the connection is closed.
fn serve(stream: TcpStream, all: &Mutex<Vec<Seen>>, respond: &Respond) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut seen = Seen {
        path: first.split(' ').nth(1).unwrap_or("").to_owned(),
        authorization: None,
        body: Value::Null,
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => seen.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    seen.body = serde_json::from_slice(&body).unwrap();
    let number = {
        let mut all = all.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let (status, headers, text) = respond(number, &seen.body);
    let head = format!(
        "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        text.len()
    );
    let mut stream = reader.into_inner();
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}

fn say(text: &str) -> (u16, String, String) {
    let json = json!({"choices": [{"message": {"content": text}}]});
    (200, String::new(), json.to_string())
}

/// The question in a request.
fn question(body: &Value) -> &str {
    let last = body["messages"].as_array().and_then(|m| m.last());
    last.and_then(|m| m["content"].as_str()).unwrap()
}

/// Rates a reply by the number of its letters, as the template `{prompt}|{reply}` shows it.
fn by_length(body: &Value) -> (u16, String, String) {
    let (_, reply) = question(body).split_once('|').unwrap();
    say(&format!("So long. [[{}]]", reply.len()))
}

fn recipe(url: &str, mode: JudgeMode) -> OpenaiJudge {
    let template = match mode {
        JudgeMode::Score => "{prompt}|{reply}",
        JudgeMode::Pairwise => "{prompt}|{a}|{b}",
    };
    OpenaiJudge {
        base_url: url.to_owned(),
        model: "judge-1".to_owned(),
        mode,
        template: Some(template.to_owned()),
        system: None,
        lowest: None,
        highest: None,
        temperature: Some(0.0.try_into().unwrap()),
        max_tokens: None,
        seed: None,
    }
}

fn one_at_a_time() -> JudgeRuntime {
    JudgeRuntime {
        concurrency: Some(1.try_into().unwrap()),
        timeout_secs: Some(20.try_into().unwrap()),
        ..JudgeRuntime::default()
    }
}

/// A judge that notes its waits instead of waiting.
fn open(
    recipe: &OpenaiJudge,
    runtime: &JudgeRuntime,
    answers: &Path,
) -> (OpenaiJudgment, Arc<Mutex<Vec<u64>>>) {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&waits);
    let judge = OpenaiJudgment::open(recipe, runtime, answers, Some("hush")).unwrap();
    let judge = judge.waiting(Box::new(move |time: Duration, _: &AtomicBool| {
        noted.lock().unwrap().push(time.as_secs());
    }));
    (judge, waits)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn a_busy_endpoint_is_asked_again_after_growing_waits_and_as_long_as_it_says() {
    let script = Mutex::new(VecDeque::from([
        (429, "Retry-After: 7\r\n".to_owned(), "slow down".to_owned()),
        (500, String::new(), "oops".to_owned()),
        (503, "Retry-After: 1\r\n".to_owned(), "busy".to_owned()),
        (200, String::new(), "<html>hello</html>".to_owned()),
    ]));
    let server = Server::start(move |_, body| {
        let scripted = script.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| by_length(body))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.jsonl");
    let recipe = recipe(&server.url, JudgeMode::Score);
    let (mut judge, waits) = open(&recipe, &one_at_a_time(), &path);
    let scores = judge
        .judge(&[item("a", &["xxx", "x"])], &mut |_| true)
        .unwrap();
    assert_eq!(scores, [vec![3.0, 1.0]]);
    // 1, 2 and 4 seconds of our own; 7 were asked for at the first.
    assert_eq!(*waits.lock().unwrap(), [7, 2, 4]);
    let statuses: Vec<Value> = lines(&path).iter().map(|l| l["status"].clone()).collect();
    assert_eq!(statuses, [429, 500, 503, 200, 200, 200]);
    let attempts: Vec<Value> = lines(&path).iter().map(|l| l["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 1, 1, 1, 2, 1]);
    let seen = server.seen();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|s| s.path == "/v1/chat/completions"));
    assert!(
        seen.iter()
            .all(|s| s.authorization.as_deref() == Some("Bearer hush"))
    );
    assert_eq!(seen[5].body["model"], "judge-1");
    assert_eq!(question(&seen[5].body), "user: Question a?|x");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hush"));
    assert_eq!(
        lines(&path)[0]["request"],
        digest_bytes(format!("{}/chat/completions\n{}", server.url, seen[0].body).as_bytes()).0
    );
}

#[test]
fn a_second_run_asks_only_what_is_missing() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let server = Server::start(move |number, body| {
        if breaks.load(Ordering::SeqCst) && number >= 3 {
            return (401, String::new(), "who are you?".to_owned());
        }
        by_length(body)
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.jsonl");
    let recipe = recipe(&server.url, JudgeMode::Score);
    let items = [
        item("a", &["x", "xx", "xxx"]),
        item("b", &["xxxx", "xxxxx"]),
    ];
    let (mut judge, waits) = open(&recipe, &one_at_a_time(), &path);
    let error = judge.judge(&items, &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("401"), "{error}");
    assert!(
        error.contains("who are you?") && !error.contains("hush"),
        "{error}"
    );
    assert!(waits.lock().unwrap().is_empty());
    assert_eq!(server.seen().len(), 4);

    broken.store(false, Ordering::SeqCst);
    let (mut judge, _) = open(&recipe, &JudgeRuntime::default(), &path);
    let scores = judge.judge(&items, &mut |_| true).unwrap();
    assert_eq!(scores, [vec![1.0, 2.0, 3.0], vec![4.0, 5.0]]);
    let asked = server.seen()[4..].to_vec();
    let mut asked: Vec<&str> = asked.iter().map(|s| question(&s.body)).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["user: Question b?|xxxx", "user: Question b?|xxxxx"]);

    let (mut judge, _) = open(&recipe, &JudgeRuntime::default(), &path);
    assert_eq!(judge.judge(&items, &mut |_| true).unwrap(), scores);
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn a_question_without_a_verdict_is_asked_up_to_the_budget_and_named() {
    let server = Server::start(|_, _| say("It is fine."));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.jsonl");
    let mut recipe = recipe(&server.url, JudgeMode::Score);
    recipe.seed = Some(9);
    let (mut judge, _) = open(&recipe, &one_at_a_time(), &path);
    let items = [item("row-3", &["x"])];
    let error = judge.judge(&items, &mut |_| true).unwrap_err();
    assert!(matches!(&error, JudgeError::NoVerdict { asks: 3, id, .. } if id == "row-3"));
    let text = error.to_string();
    assert!(
        text.contains("It is fine.") && text.contains("answers.jsonl"),
        "{text}"
    );
    let seeds = || -> Vec<Value> {
        let seen = server.seen();
        seen.iter().map(|s| s.body["seed"].clone()).collect()
    };
    assert_eq!(seeds(), [9, 10, 11]);

    let (mut judge, _) = open(&recipe, &one_at_a_time(), &path);
    assert!(judge.judge(&items, &mut |_| true).is_err());
    assert_eq!(
        seeds(),
        [9, 10, 11, 12, 13, 14],
        "a new budget, no seed twice"
    );
}

#[test]
fn an_endpoint_that_stays_busy_is_given_up_and_named() {
    let server = Server::start(|_, _| (503, String::new(), "busy".to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let mut runtime = one_at_a_time();
    runtime.retries = Some(8);
    let recipe = recipe(&server.url, JudgeMode::Score);
    let (mut judge, waits) = open(&recipe, &runtime, &dir.path().join("a.jsonl"));
    let error = judge
        .judge(&[item("a", &["x"])], &mut |_| true)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&server.url) && text.contains("9 tries"),
        "{text}"
    );
    assert_eq!(*waits.lock().unwrap(), [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn an_endpoint_that_is_not_there_or_does_not_answer_in_time_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut runtime = one_at_a_time();
    runtime.retries = Some(2);
    let absent = recipe(&format!("http://{port}/v1"), JudgeMode::Score);
    let (mut judge, waits) = open(&absent, &runtime, &dir.path().join("a.jsonl"));
    let error = judge
        .judge(&[item("a", &["x"])], &mut |_| true)
        .unwrap_err();
    assert!(error.to_string().contains("3 tries"), "{error}");
    assert_eq!(*waits.lock().unwrap(), [1, 2]);

    // The first request is answered only when the second is there: the client had given it up.
    let (asked_again, second) = std::sync::mpsc::channel();
    let second = Mutex::new(second);
    let server = Server::start(move |number, body| {
        if number == 0 {
            let _ = second.lock().unwrap().recv();
        } else {
            let _ = asked_again.send(());
        }
        by_length(body)
    });
    runtime.timeout_secs = Some(1.try_into().unwrap());
    let slow = recipe(&server.url, JudgeMode::Score);
    let (mut judge, waits) = open(&slow, &runtime, &dir.path().join("b.jsonl"));
    let scores = judge.judge(&[item("a", &["xx"])], &mut |_| true).unwrap();
    assert_eq!(scores, [vec![2.0]]);
    // A machine that is busy may let the second request time out too.
    assert_eq!(waits.lock().unwrap()[0], 1);
}

#[test]
fn a_redirect_is_an_error_and_the_key_does_not_follow_it() {
    let server = Server::start(|_, _| {
        let to = "Location: http://127.0.0.1:9/v1/chat/completions\r\n";
        (302, to.to_owned(), "moved".to_owned())
    });
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&server.url, JudgeMode::Score);
    let (mut judge, _) = open(&recipe, &one_at_a_time(), &dir.path().join("a.jsonl"));
    let error = judge
        .judge(&[item("a", &["x"])], &mut |_| true)
        .unwrap_err();
    assert!(error.to_string().contains("HTTP 302"), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn the_same_question_is_asked_once() {
    let server = Server::start(|_, body| by_length(body));
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&server.url, JudgeMode::Score);
    let (mut judge, _) = open(
        &recipe,
        &JudgeRuntime::default(),
        &dir.path().join("a.jsonl"),
    );
    let mut told = Vec::new();
    let items = [item("a", &["xx", "xx", "x"]), item("b", &[])];
    let scores = judge.judge(&items, &mut |done| {
        told.push(done);
        true
    });
    assert_eq!(scores.unwrap(), [vec![2.0, 2.0, 1.0], vec![]]);
    assert_eq!(server.seen().len(), 2);
    assert_eq!((told[0], *told.last().unwrap()), (1, 2));
}

// The longer reply wins; c = "xx" ties with b = "yy". Each of a = "x", b and c has four comparisons:
// a wins none, b and c two and two halves.
#[test]
fn comparisons_are_asked_in_both_orders_and_give_the_share_of_wins() {
    let server = Server::start(|_, body| {
        let parts: Vec<&str> = question(body).split('|').collect();
        say(match parts[1].len().cmp(&parts[2].len()) {
            std::cmp::Ordering::Greater => "[[A]]",
            std::cmp::Ordering::Less => "[[B]]",
            std::cmp::Ordering::Equal => "[[C]]",
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&server.url, JudgeMode::Pairwise);
    let (mut judge, _) = open(
        &recipe,
        &JudgeRuntime::default(),
        &dir.path().join("a.jsonl"),
    );
    let items = [
        item("a", &["x", "yy", "xx"]),
        item("b", &["x", "x", "yy"]),
        item("c", &["x"]),
    ];
    let scores = judge.judge(&items, &mut |_| true).unwrap();
    assert_eq!(scores[0], [0.0, 0.75, 0.75]);
    // Equal texts are a tie without asking: one of four comparisons' worth.
    assert_eq!(scores[1], [0.25, 0.25, 1.0]);
    assert_eq!(scores[2], [0.0]);
    assert_eq!(best_and_worst(&scores[1]), Some((2, 0)));
    assert_eq!(server.seen().len(), 6 + 2);
}

#[test]
fn a_judge_that_always_prefers_the_first_reply_sees_a_tie() {
    let server = Server::start(|_, _| say("[[A]]"));
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&server.url, JudgeMode::Pairwise);
    let (mut judge, _) = open(
        &recipe,
        &JudgeRuntime::default(),
        &dir.path().join("a.jsonl"),
    );
    let scores = judge
        .judge(&[item("a", &["x", "y", "z"])], &mut |_| true)
        .unwrap();
    assert_eq!(scores, [vec![0.5; 3]]);
    assert_eq!(best_and_worst(&scores[0]), None);
}

#[test]
fn a_stop_ends_the_asking_and_keeps_what_was_answered() {
    let server = Server::start(|_, body| {
        std::thread::sleep(Duration::from_millis(100));
        by_length(body)
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.jsonl");
    let recipe = recipe(&server.url, JudgeMode::Score);
    let items: Vec<Candidates> = (1..=9).map(|i| item(&format!("i{i}"), &["x"])).collect();
    let (mut judge, _) = open(&recipe, &one_at_a_time(), &path);
    let error = judge.judge(&items, &mut |done| done < 2).unwrap_err();
    assert!(matches!(error, JudgeError::Stopped));
    let first = server.seen().len();
    assert!((2..9).contains(&first), "{first} requests");
    let (mut judge, _) = open(&recipe, &one_at_a_time(), &path);
    judge.judge(&items, &mut |_| true).unwrap();
    assert_eq!(server.seen().len(), 9);
}
