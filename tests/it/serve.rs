//! `lions serve`: what its endpoints say of a sweep, who may ask, and that nothing a client or a stranger sends does harm.

use crate::browser::Server;
use crate::driver::{Driver, database, process_of, run_words, signal, wait_until, write_sweep};
use crate::project::Project;
use crate::session::Study;
use crate::tiny;
use regex::{Captures, Regex};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What a run, a machine and an hour make different, by words that stand for it.
fn plain(project: &Project, value: &Value) -> String {
    /// What is said of noise depends on the numbers.
    static NOISE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#""Noise of differences [^"]*""#).unwrap());
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
            (r"\b1[5-9]\d{11}\b|\b[2-9]\d{12}\b", "<time>"),
            (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<hex>"),
            (r"local:\d+:\d+", "<process>"),
            (r#"("owner": )"[^"]*""#, "$1<runner>"),
            (r"[-−+]?\b\d+\.\d+(e[-−+]?\d+)?\b|\b\d+e[-−+]?\d+\b", "<n>"),
            (
                r#"("(?:bytes|peak_memory_bytes|tokens|positions|flops)": )\d+"#,
                "$1<n>",
            ),
            (r"p ([<=>]) \.\d+", "p $1 <n>"),
        ]
        .map(|(rule, word)| (Regex::new(rule).unwrap(), word))
        .into()
    });
    let root = project.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let text = serde_json::to_string_pretty(value).unwrap();
    let mut text = text.replace(root, "<project>");
    for (rule, word) in RULES.iter() {
        text = rule.replace_all(&text, *word).into_owned();
    }
    NOISE
        .replace_all(&text, |_: &Captures<'_>| "\"Noise of differences …\"")
        .into_owned()
}

#[test]
fn the_endpoints_tell_a_sweep_whole() {
    let study = Study::copied();
    let server = Server::start(&study.project, &[]);
    assert_eq!(server.url, format!("http://{}/", server.address));
    let (dpo, failed, eval) = (study.id("dpo"), study.id("failed"), study.id("eval"));
    for (name, path) in [
        ("sweeps", "/api/sweeps".to_owned()),
        ("sweep", "/api/sweeps/study".to_owned()),
        (
            "runs",
            "/api/sweeps/broken/runs?sort=state&size=2".to_owned(),
        ),
        ("results", "/api/sweeps/study/results".to_owned()),
        ("run_failed", format!("/api/runs/{}", &failed[..12])),
        ("run", format!("/api/runs/{dpo}")),
        (
            "steps",
            format!("/api/runs/{dpo}/steps?metric=rewards/margins"),
        ),
        ("log", format!("/api/runs/{failed}/log?lines=2")),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(
            answer.headers["content-type"],
            "application/json; charset=utf-8"
        );
        insta::assert_snapshot!(format!("api_{name}"), plain(&study.project, &answer.json()));
    }
    // The same numbers as of the command line, to the last digit.
    let shown = study.project.json(&["show", dpo]);
    let run = server.json(&format!("/api/runs/{dpo}"));
    for part in [
        "run",
        "metrics",
        "counts",
        "artifacts",
        "identity",
        "attempts",
    ] {
        assert_eq!(run[part], shown[part], "{part}");
    }
    let samples = server.json(&format!("/api/runs/{eval}/samples?size=1"));
    let file = format!("results/runs/{}/artifacts/samples.jsonl", &eval[..12]);
    let lines = study.project.read(&file);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told =
        json!({ "run": eval, "matched": lines.len(), "page": 0, "size": 1, "samples": [lines[0]] });
    assert_eq!(samples, told);
    let figure = server.get("/api/sweeps/study/figures/rate");
    assert_eq!(figure.headers["content-type"], "image/svg+xml");
    assert!(figure.text().starts_with("<svg "), "{}", figure.text());
    study.project.lions(&["figures", "study", "--out", "drawn"]);
    let drawn = study.project.read("drawn/rate.svg");
    assert_eq!(figure.text(), drawn);
}

/// The keys of a value and of what it lists.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => found.extend(map.keys().cloned()),
        Value::Array(list) => list.iter().take(1).for_each(|first| keys(first, found)),
        _ => {}
    }
}

#[test]
fn the_document_names_every_endpoint_and_every_key() {
    let study = Study::shared();
    let server = Server::start(&study.project, &[]);
    let document = include_str!("../../docs/serve.md");
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `/api/"))
        .collect();
    assert_eq!(rows.len(), 9);
    for row in rows {
        let path = row.split('`').nth(1).unwrap();
        let path = path
            .replace("NAME", "study")
            .replace("FIGURE", "rate")
            .replace("ID", study.id("eval"));
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        if answer.headers["content-type"] == "image/svg+xml" {
            continue;
        }
        let value = answer.json();
        let mut found = BTreeSet::new();
        keys(&value, &mut found);
        for part in ["sweeps", "runs", "tables", "figures"] {
            keys(&value[part], &mut found);
        }
        // What stands there of a list above is not said twice.
        let told = if path == "/api/sweeps/study" {
            document
        } else {
            row
        };
        let missing: Vec<_> = found
            .iter()
            .filter(|key| !told.contains(&format!("`{key}`")))
            .collect();
        assert!(
            missing.is_empty(),
            "{path} has {missing:?}, which docs/serve.md does not name"
        );
    }
}

#[test]
fn pages_are_one_text_and_hold_nothing_from_elsewhere() {
    let study = Study::shared();
    let server = Server::start(&study.project, &[]);
    let page = include_str!("../../src/serve/page.html");
    let run = format!("/runs/{}", study.id("dpo"));
    for path in [
        "/",
        "/sweeps/study",
        &run,
        "/curves?run=abc",
        "/sweeps/%3Cscript%3E",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.text()), (200, page), "{path}");
        let policy = &answer.headers["content-security-policy"];
        assert_eq!(
            policy,
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    for (path, kind, start) in [
        (
            "/page.css",
            "text/css; charset=utf-8",
            "@font-face".as_bytes(),
        ),
        ("/page.js", "text/javascript; charset=utf-8", b"// Draws"),
        ("/inter-400.woff2", "font/woff2", b"wOF2"),
        ("/inter-600.woff2", "font/woff2", b"wOF2"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.headers["content-type"], kind);
        assert!(answer.body.starts_with(start), "{path}");
        // No other host, no markup made of text.
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        for foreign in [
            "https:",
            "//cdn",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "eval(",
            "document.write",
        ] {
            assert!(
                kind == "font/woff2" || !text.contains(foreign),
                "{path} has `{foreign}`"
            );
        }
    }
    let head = server.ask("HEAD", "/", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], page.len().to_string());
}

/// Markup, a mark that turns text round, a code of terminals, quotes.
const EVIL: &str =
    "<script>alert(1)</script>\u{202e}\u{1b}[2J\"'&<img src=x onerror=alert(1)>/../x";

/// A copy of the study whose names, labels, messages and replies are a stranger's.
fn evil_study() -> Study {
    let study = Study::copied();
    let store = database(&study.project);
    let assignments = json!({ EVIL: EVIL }).to_string();
    store
        .execute(
            "UPDATE trial SET label = ?1, assignments = ?2",
            [EVIL, &assignments],
        )
        .unwrap();
    store
        .execute(
            "UPDATE sweep SET name = ?1, content = json_set(content, '$.question', ?1) WHERE name = 'broken'",
            [EVIL],
        )
        .unwrap();
    store
        .execute(
            "UPDATE attempt SET message = ?1 WHERE state = 'failed'",
            [EVIL],
        )
        .unwrap();
    store.execute("UPDATE note SET text = ?1", [EVIL]).unwrap();
    let samples = format!(
        "results/runs/{}/artifacts/samples.jsonl",
        &study.id("eval")[..12]
    );
    let line =
        json!({ "set": EVIL, "row": EVIL, "prompt": EVIL, "text": EVIL, "metrics": { EVIL: 1.0 } });
    study
        .project
        .write(&samples, format!("{line}\nno JSON {EVIL}\n"));
    study
}

#[test]
fn what_strangers_wrote_stays_text() {
    let study = evil_study();
    let server = Server::start(&study.project, &[]);
    let name: String = EVIL.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let sweep = server.json(&format!("/api/sweeps/{name}"));
    assert_eq!(
        (sweep["name"].as_str(), sweep["question"].as_str()),
        (Some(EVIL), Some(EVIL))
    );
    let runs = server.json(&format!("/api/sweeps/{name}/runs?state=failed"));
    assert_eq!(runs["runs"][0]["message"], EVIL);
    assert_eq!(runs["runs"][0]["label"], format!("{EVIL}={EVIL} seed=1"));
    let eval = study.id("eval");
    let samples = server.json(&format!("/api/runs/{eval}/samples"));
    assert_eq!(samples["samples"][0]["text"], EVIL);
    assert_eq!(samples["samples"][1], format!("no JSON {EVIL}"));
    for path in [
        "/api/sweeps".to_owned(),
        format!("/api/sweeps/{name}"),
        format!("/api/sweeps/{name}/runs"),
        format!("/api/sweeps/{name}/results"),
        format!("/api/runs/{eval}/samples"),
        format!("/api/sweeps/{name}nope"),
    ] {
        let answer = server.get(&path);
        // JSON that no browser takes for a page, without a raw code in it.
        assert_eq!(
            answer.headers["content-type"], "application/json; charset=utf-8",
            "{path}"
        );
        let text = answer.text();
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{path}: {text}");
        drop(answer.json());
    }
}

#[test]
fn who_does_not_know_the_token_is_told_nothing() {
    let study = Study::shared();
    let server = Server::start(&study.project, &["--token", "a-long-word-1"]);
    assert_eq!(
        server.url,
        format!("http://{}/?token=a-long-word-1", server.address)
    );
    for path in [
        "/",
        "/page.js",
        "/api/sweeps",
        "/api/sweeps/study",
        "/?token=a-long-word-2",
        "/nope",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 401, "{path}");
        let told = json!({ "error": "this needs the token: open the address that `lions serve` printed, or send `Authorization: Bearer TOKEN`" });
        assert_eq!(answer.json(), told);
    }
    let first = server.get("/sweeps/study?token=a-long-word-1&x=1");
    assert_eq!(
        (first.status, first.headers["location"].as_str()),
        (303, "/sweeps/study?x=1")
    );
    let cookie = first.headers["set-cookie"].split(';').next().unwrap();
    assert!(first.headers["set-cookie"].ends_with("; Path=/; HttpOnly; SameSite=Lax"));
    let with = |line: String| server.ask("GET", "/api/sweeps", &line).status;
    assert_eq!(with(format!("Cookie: a=b; {cookie}\r\n")), 200);
    assert_eq!(
        with("Authorization: Bearer a-long-word-1\r\n".to_owned()),
        200
    );
    assert_eq!(with(format!("Cookie: {cookie}0\r\n")), 401);
    drop(server);
    // Any other machine may reach this one: a token is made up.
    let open = Server::start(&study.project, &["--host", "0.0.0.0"]);
    let token = open.url.split("?token=").nth(1).unwrap();
    assert_eq!(token.len(), 32);
    assert_eq!(open.get("/api/sweeps").status, 401);
    let line = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(open.ask("GET", "/api/sweeps", &line).status, 200);
    let other = Server::start(&study.project, &["--host", "0.0.0.0"]);
    assert_ne!(other.url.split("?token=").nth(1), Some(token));
}

#[test]
fn other_sites_cannot_ask_by_a_name_of_theirs() {
    let server = Server::start(&Study::shared().project, &[]);
    let port = server.address.split(':').nth(1).unwrap();
    let status = |host: &str| {
        let head = format!("GET /api/sweeps HTTP/1.1\r\n{host}\r\n");
        server.raw(head.as_bytes()).status
    };
    for good in ["localhost", "127.0.0.1", "[::1]", "LocalHost"] {
        assert_eq!(status(&format!("Host: {good}:{port}\r\n")), 200, "{good}");
    }
    for wrong in [
        "Host: evil.example\r\n",
        "Host: evil.example:80\r\n",
        "Host: \r\n",
        "",
    ] {
        assert_eq!(status(wrong), 421, "{wrong}");
    }
    assert_eq!(status("Host: localhost\r\nHost: evil.example\r\n"), 400);
}

#[test]
fn no_request_leads_out_of_the_project_or_ends_the_server() {
    let study = Study::copied();
    study.project.write("secret.txt", "secret");
    let server = Server::start(&study.project, &[]);
    let id = &study.id("dpo")[..12];
    let up = "..%2f..%2f..%2fsecret.txt";
    for path in [
        "/../secret.txt".to_owned(),
        "/..%2fsecret.txt".to_owned(),
        format!("/api/sweeps/{up}"),
        format!("/api/sweeps/{up}/results"),
        format!("/api/sweeps/study/figures/{up}"),
        format!("/api/runs/{up}"),
        format!("/api/runs/{up}/log"),
        format!("/api/runs/{id}%2f..%2f..%2f..%2fsecret.txt/samples"),
        format!("/api/runs/{id}/samples/../../../../secret.txt"),
        "/api/runs/%00".to_owned(),
        "/api/runs/ffffffffffff".to_owned(),
        "/api/nope".to_owned(),
        "/api".to_owned(),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        let error = answer.json();
        assert!(error["error"].is_string(), "{path}: {error}");
    }
    for path in [
        format!("/api/runs/{id}/steps?from=x"),
        format!("/api/runs/{id}/log?lines=-1"),
        "/api/sweeps/study/runs?page=99999999999999999999999".to_owned(),
        "/api/sweeps/study/runs?sort=nope".to_owned(),
        "/%".to_owned(),
        "/%ff".to_owned(),
    ] {
        assert_eq!(server.get(&path).status, 400, "{path}");
    }
    let beyond = server.json("/api/sweeps/study/runs?page=18446744073709551615&size=1000");
    assert_eq!(beyond["runs"], json!([]));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let body = "Content-Length: 70000\r\n";
        let answer = server.ask(method, "/api/sweeps", body);
        assert_eq!(
            (answer.status, answer.headers["allow"].as_str()),
            (405, "GET, HEAD"),
            "{method}"
        );
    }
    for (bytes, status) in [
        (b"\x16\x03\x01\x02\x00\r\n\r\n".to_vec(), 400),
        (b"GET\r\n\r\n".to_vec(), 400),
        (b"GET http://other/ HTTP/1.1\r\n\r\n".to_vec(), 400),
        (
            [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'y'; 40_000]].concat(),
            431,
        ),
        (
            [b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(200)].concat(),
            431,
        ),
    ] {
        assert_eq!(
            server.raw(&bytes).status,
            status,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_eq!(server.get("/").status, 200);
    // Ctrl-C is how it ends.
    signal("INT", &server.pid());
    assert_eq!(server.end(), Some(0));
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() {
    let server = Server::start(&Study::shared().project, &[]);
    let silent = |index: usize| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let half: &[u8] = if index.is_multiple_of(2) {
            b""
        } else {
            b"GET / HT"
        };
        drop(stream.write_all(half));
        stream
    };
    let silent: Vec<TcpStream> = (0..300).map(silent).collect();
    for _ in 0..20 {
        assert_eq!(server.get("/api/sweeps").status, 200);
    }
    // One that sends a little now and then is told when its time is over, and one that reads nothing waits alone.
    let mut slow = TcpStream::connect(&server.address).unwrap();
    let began = Instant::now();
    let mut said = Vec::new();
    slow.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    while said.is_empty() && began.elapsed() < Duration::from_mins(1) {
        drop(slow.write_all(b"G"));
        let mut part = [0; 256];
        if let Ok(read) = slow.read(&mut part) {
            said.extend_from_slice(&part[..read]);
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.starts_with("HTTP/1.1 408 ") || said.starts_with("HTTP/1.1 400 "),
        "{said:?}"
    );
    drop(silent);
}

/// Registers a sweep of so many learning rates, and writes results for its runs, as if all had been carried out.
fn pretend(project: &Project, name: &str, rates: u32) {
    let values: Vec<String> = (1..=rates).map(|at| format!("{at}e-7")).collect();
    let axis = format!(
        "[[axis]]\npath = \"sft.recipe.optimizer.learning-rate\"\nname = \"lr\"\nvalues = [{}]",
        values.join(", ")
    );
    write_sweep(project, name, 30, &axis);
    let file = format!("sweeps/{name}.toml");
    let said = project.lions(&["run", &file, "--until", "1s", "--no-report", "--quiet"]);
    assert!([0, 130].contains(&said.code), "{said:?}");
    let store = database(project);
    let mut found = store.prepare("SELECT run_id, kind FROM run").unwrap();
    let runs = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    for found in runs.unwrap() {
        let (run, kind): (String, String) = found.unwrap();
        let stage = json!({ "format": 1, "run": run, "task": { "stage": kind, "recipe": {} }, "seed": 1, "inputs": {} });
        project.write(
            format!("results/runs/{}/stage.json", &run[..12]),
            stage.to_string(),
        );
    }
    store
        .execute_batch(
            "UPDATE run SET state = 'succeeded', attempts = 1, finished = created;
            INSERT OR REPLACE INTO metric SELECT id, 'tales/loss', 2.0 + (id % 97) / 100.0, 0.01, 50
                FROM run WHERE kind = 'eval';",
        )
        .unwrap();
}

// Bytes and not seconds: what is sent and drawn does not grow with the runs, and what does (a row a configuration) comes once.
#[test]
fn a_sweep_of_a_thousand_runs_comes_in_pages_and_what_is_known_is_not_sent_again() {
    let project = tiny::project();
    pretend(&project, "many", 500);
    let server = Server::start(&project, &[]);
    let runs = server.get("/api/sweeps/many/runs?sort=-label&text=lr");
    let page = runs.json();
    let rows = page["runs"].as_array().unwrap();
    assert_eq!((&page["matched"], rows.len()), (&json!(1000), 100));
    assert!(runs.body.len() < 40_000, "{}", runs.body.len());
    for (path, most) in [
        ("/", 2_000),
        ("/page.js", 60_000),
        ("/api/sweeps", 1_000),
        ("/api/sweeps/many", 1_000),
        ("/api/sweeps/many/runs?size=100000", 400_000),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200);
        let bytes = answer.body.len();
        assert!(bytes < most, "{path}: {bytes} bytes");
    }
    let path = "/api/sweeps/many/results";
    let results = server.get(path);
    let tables = &results.json()["tables"];
    assert_eq!(tables[0]["rows"].as_array().unwrap().len(), 500);
    let bytes = results.body.len();
    assert!(bytes < 500 * 300, "{bytes} bytes");
    let mark = &results.headers["etag"];
    let known = format!("If-None-Match: {mark}\r\n");
    let again = server.ask("GET", path, &known);
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(&again.headers["etag"], mark);
    // Something new is sent whole, with another mark.
    database(&project)
        .execute_batch("UPDATE run SET state = 'failed' WHERE id = (SELECT max(id) FROM run)")
        .unwrap();
    wait_until("another answer", || {
        server.ask("GET", path, &known).status == 200
    });
    assert_ne!(&server.get(path).headers["etag"], mark);
}

/// Every file below a folder, but for what SQLite keeps beside its own.
fn files(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, found);
        } else if !name.starts_with("lions.db-") {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn nothing_is_written() {
    let study = Study::copied();
    let everything = || {
        let mut found = BTreeMap::new();
        files(&study.project.path(""), &mut found);
        found
    };
    let before = everything();
    let server = Server::start(&study.project, &[]);
    for sweep in ["study", "broken"] {
        for end in ["", "/runs", "/results"] {
            server.json(&format!("/api/sweeps/{sweep}{end}"));
        }
    }
    for end in ["", "/steps", "/log", "/samples"] {
        server.json(&format!("/api/runs/{}{end}", study.id("dpo")));
    }
    drop(server);
    assert!(before == everything());
}

#[test]
fn a_sweep_is_followed_while_a_driver_writes_it() {
    const STEPS: u64 = 150;
    let project = tiny::project();
    write_sweep(&project, "followed", 150, "");
    // It may be there before anything has run.
    let server = Server::start(&project, &[]);
    let nothing = json!({ "pauses": [], "sweeps": [] });
    assert_eq!(server.json("/api/sweeps"), nothing);
    assert_eq!(server.get("/api/sweeps/followed").status, 404);
    let mut driver = Driver::start(&mut project.command(&run_words("sweeps/followed.toml")));
    let started = driver.wait("run-started");
    let run = started["run"].as_str().unwrap().to_owned();
    let attempt = process_of(&project, &started);
    while driver.wait("run-progress")["done"].as_u64() < Some(2) {}
    // It stands still while it is looked at.
    driver.stop(&attempt);
    let steps = format!("/api/runs/{run}/steps");
    let known = server.json(&steps)["of"].as_u64().unwrap();
    assert!((2..STEPS).contains(&known), "{known}");
    let sweep = server.json("/api/sweeps/followed");
    let work = &sweep["at_work"][0];
    assert_eq!(
        (
            &work["run"],
            &work["stage"],
            &work["label"],
            &work["progress"]["total"]
        ),
        (&json!(run), &json!("sft"), &json!("seed=1"), &json!(STEPS))
    );
    assert_eq!(work["progress"]["done"], known);
    assert_eq!(
        work["progress"]["losses"].as_array().unwrap().len() as u64,
        known
    );
    for left in [
        &work["secs_left"],
        &sweep["secs_left"],
        &work["tokens_per_sec"],
    ] {
        assert!(left.as_f64().is_some_and(|left| left > 0.0), "{sweep}");
    }
    let runs = server.json("/api/sweeps/followed/runs?state=running");
    assert_eq!(
        (&runs["matched"], &runs["runs"][0]["run"]),
        (&json!(1), &json!(run))
    );
    let coverage = server.json("/api/sweeps/followed/results")["coverage"].to_string();
    assert!(coverage.contains("is still running"), "{coverage}");
    assert_eq!(
        server.json(&format!("/api/runs/{run}"))["at_work"]["attempt"],
        1
    );
    driver.go_on(&attempt);
    assert_eq!(driver.end().code, Some(0));
    assert_eq!(server.json(&steps)["of"], STEPS);
    wait_until("the end", || {
        server.json("/api/sweeps/followed")["over"] == true
    });
    assert_eq!(
        server.json("/api/sweeps/followed")["states"]["succeeded"],
        2
    );
}

fn chromium() -> Option<&'static str> {
    let known = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    known.into_iter().find(|path| Path::new(path).exists())
}

/// A page as a browser shows it, after its script has drawn it.
fn shown(browser: &str, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=8000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

// Takes a minute, and a browser: `cargo test --test it serve:: -- --ignored`.
#[test]
#[ignore = "needs Chromium"]
fn a_browser_shows_the_pages_and_runs_no_script_of_strangers() {
    let Some(browser) = chromium() else {
        return;
    };
    let study = evil_study();
    let server = Server::start(&study.project, &[]);
    let safe = "&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}\u{fffd}[2J";
    let name: String = EVIL.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let at = |path: &str| {
        shown(
            browser,
            &format!("{}{path}", server.url.trim_end_matches('/')),
        )
    };
    let (eval, dpo, failed) = (study.id("eval"), study.id("dpo"), study.id("failed"));
    for (path, wanted) in [
        (
            "/".to_owned(),
            vec!["<h1>Sweeps</h1>", "How fast may the policy learn?", safe],
        ),
        (
            "/sweeps/study".to_owned(),
            vec![
                "Learning rate",
                "<figure",
                "<svg",
                "10 runs",
                "polite/rewards/margins",
            ],
        ),
        (format!("/sweeps/{name}"), vec![safe, "1 failed"]),
        (format!("/runs/{eval}"), vec![safe, "no JSON", "tales/loss"]),
        (
            format!("/runs/{failed}"),
            vec![safe, "class=\"state failed\""],
        ),
        (
            format!("/curves?run={dpo}&run={failed}"),
            vec!["class=\"line c0\"", "rewards/margins", "leave out"],
        ),
    ] {
        let text = at(&path);
        for word in wanted {
            assert!(text.contains(word), "{path} lacks `{word}`:\n{text}");
        }
        assert!(
            !text.contains("<script>alert") && !text.contains("<img"),
            "{path}:\n{text}"
        );
        assert!(
            !text.contains("id=\"pulse\" role=\"status\" class=\"bad\""),
            "{path}:\n{text}"
        );
    }
}
