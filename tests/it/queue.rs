//! What people say to the queue, from the command line to a driver at work: pause, resume, priority, limits of
//! time, notices, and what is deleted.

use crate::driver::{Driver, attempts, run_words, write_sweep};
use crate::project::Project;
use lions::base::{Clock as _, SystemClock};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

/// More steps than are made before a test has said what it wants.
const STEPS: u32 = 300;
const SAVES: &str = "[base.sft.runtime]\ncheckpoint-every-steps = 1";

fn is_ok(project: &Project, words: &[&str]) -> String {
    let said = project.lions(words);
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

/// Registers a sweep and starts nothing of it.
fn register(project: &Project, name: &str) {
    let file = format!("sweeps/{name}.toml");
    let said = project.lions(&["run", &file, "--until", "1s"]);
    assert_eq!(said.code, 130, "{said:?}");
    assert!(said.err.contains("the time is up"), "{said:?}");
    assert!(attempts(project, "sft").is_empty());
}

#[test]
fn a_sweep_whose_time_is_up_has_something_to_do() {
    let project = crate::tiny::project();
    write_sweep(&project, "late", 2, "");
    register(&project, "late");
    // The pages say already what they would say again.
    let said = project.lions(&["run", "sweeps/late.toml", "--until", "1s"]);
    assert_eq!(said.code, 130, "{said:?}");
    assert!(said.err.contains("the time is up"), "{said:?}");
    assert!(!said.err.contains("nothing to do"), "{said:?}");
}

#[test]
fn a_sweep_that_is_paused_saves_its_state_and_goes_on_when_it_is_resumed() {
    let project = crate::tiny::project();
    write_sweep(&project, "held", STEPS, SAVES);
    let words = run_words("sweeps/held.toml");
    let mut driver = Driver::start(&mut project.command(&words));
    let started = driver.wait("run-started");
    driver.wait("run-progress");
    assert!(is_ok(&project, &["pause", "held"]).starts_with("1 sweep paused;"));
    driver.wait("run-interrupted");
    let told = is_ok(&project, &["status"]);
    assert!(told.contains("paused since 20"), "{told}");
    let run = started["run"].as_str().unwrap();
    let why = is_ok(&project, &["why", run]);
    assert!(
        why.contains("its sweep `held` was paused") && why.contains("`lions resume`"),
        "{why}"
    );
    assert!(is_ok(&project, &["pause", "held"]).starts_with("0 runs paused, 1 paused before;"));

    // The pause outlives the driver, and the next one waits, too.
    drop(driver); // as `kill -9` does it
    let mut driver = Driver::start(&mut project.command(&words));
    let paused = driver.wait("paused");
    assert!(
        paused["reason"].as_str().unwrap().contains("lions resume"),
        "{paused}"
    );
    assert_eq!(is_ok(&project, &["resume", "held"]), "1 sweep resumed\n");
    driver.wait("resumed");
    let again = driver.wait("run-started");
    assert_eq!(
        (&again["run"], &again["attempt"]),
        (&started["run"], &2.into())
    );
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ends = ["interrupted", "succeeded"].map(|state| (state.to_owned(), None));
    assert_eq!(attempts(&project, "sft"), ends);
}

#[test]
fn a_run_that_is_paused_waits_alone() {
    let project = crate::tiny::project();
    write_sweep(&project, "one", 2, "");
    register(&project, "one");
    let runs = project.json(&["status", "one"]);
    let sft = runs["runs"].as_array().unwrap();
    let sft = sft.iter().find(|run| run["kind"] == "sft").unwrap();
    let id = &sft["id"].as_str().unwrap()[..12];
    assert_eq!(project.json(&["pause", id])["paused"], 1);
    let told = is_ok(&project, &["status", "one"]);
    assert!(
        told.contains("paused") && told.contains("`lions resume` lets it go on"),
        "{told}"
    );
    let why = is_ok(&project, &["why", id]);
    assert!(why.contains("it was paused"), "{why}");
    let mut driver = Driver::start(&mut project.command(&run_words("sweeps/one.toml")));
    let paused = driver.wait("paused");
    assert!(
        paused["reason"]
            .as_str()
            .unwrap()
            .starts_with("all that could start"),
        "{paused}"
    );
    assert_eq!(project.json(&["resume", id])["resumed"], 1);
    assert_eq!(driver.end().code, Some(0));
    assert_eq!(project.json(&["resume", id])["not_paused"], 1);
}

#[test]
fn a_sweep_of_a_higher_priority_goes_first() {
    let project = crate::tiny::project();
    for name in ["slow", "urgent"] {
        write_sweep(&project, name, STEPS, SAVES);
        // Of another seed, so that they share no run.
        let file = format!("sweeps/{name}.toml");
        let seed = format!("[base.sft.recipe]\nseed = {}\n", name.len());
        project.edit(&file, "[base.sft.recipe]\n", &seed);
        register(&project, name);
    }
    assert_eq!(
        is_ok(&project, &["priority", "urgent", "2"]),
        "urgent has priority 2\n"
    );
    let told = is_ok(&project, &["status"]);
    assert!(told.contains("priority 2"), "{told}");

    // Of several sweeps of one command it is the first.
    let both = [
        "run",
        "sweeps/slow.toml",
        "sweeps/urgent.toml",
        "--until",
        "1s",
        "--json",
    ];
    let said = project.lions(&both);
    let first: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["sweep"], "urgent", "{said:?}");

    // While a driver is at it, that of a lower one starts nothing.
    let mut urgent = Driver::start(&mut project.command(&run_words("sweeps/urgent.toml")));
    urgent.wait("run-started");
    let mut slow = Driver::start(&mut project.command(&run_words("sweeps/slow.toml")));
    let paused = slow.wait("paused");
    let reason = paused["reason"].as_str().unwrap();
    assert!(
        reason.contains("`urgent` has a higher priority"),
        "{reason}"
    );
    let urgent = urgent.end();
    assert_eq!(urgent.code, Some(0), "{urgent:?}");
    let slow = slow.end();
    assert_eq!(slow.code, Some(0), "{slow:?}");
    let kinds: Vec<&str> = slow
        .events
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    let place = |kind: &str| kinds.iter().position(|found| *found == kind).unwrap();
    assert!(place("resumed") < place("run-started"), "{kinds:?}");
    let unknown = project.lions(&["priority", "nope", "1"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
}

#[test]
fn a_sweep_whose_time_is_up_saves_its_state_and_goes_on_later() {
    let project = crate::tiny::project();
    write_sweep(&project, "timed", 2, "");
    register(&project, "timed");
    let said = project.lions(&["run", "sweeps/timed.toml", "--budget", "1s", "--json"]);
    assert_eq!(said.code, 130, "{said:?}");
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["summary"]["end"], &last["summary"]["waiting"]),
        (&"time-up".into(), &2.into())
    );
    let said = project.lions(&[
        "run",
        "sweeps/timed.toml",
        "--until",
        "1h",
        "--budget",
        "2h",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let wrong = project.lions(&["run", "sweeps/timed.toml", "--until", "7:30"]);
    assert!(
        wrong.code == 2 && wrong.err.contains("such as `07:30Z`"),
        "{wrong:?}"
    );
}

/// Takes one request and answers it with a status; gives its body.
fn hear(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn who_wants_to_is_told_how_a_sweep_ended_and_a_sweep_does_not_fail_for_it() {
    let project = crate::tiny::project();
    write_sweep(&project, "told", 2, "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let words = [
        "run",
        "sweeps/told.toml",
        "--notify",
        &url,
        "--notify-command",
        "cat > heard.json",
    ];
    let heard = std::thread::spawn(move || [hear(&listener, "200 OK"), hear(&listener, "500 No")]);
    let said = project.lions(&words);
    assert!(said.code == 0 && !said.err.contains("notif"), "{said:?}");
    // The second time the server refuses, and the command fails: both are said, and nothing else changes.
    let failing = [&words[..5], &["exit 3"]].concat();
    let said = project.lions(&failing);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("nobody was notified") && said.err.contains("500"),
        "{said:?}"
    );
    assert!(said.err.contains("`--notify-command` failed"), "{said:?}");
    assert!(!said.err.contains(&url), "{said:?}");
    let [body, _] = heard.join().unwrap();
    assert_eq!(project.read("heard.json"), body);
    let message: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(message["summary"]["succeeded"], 2);
    let text = message["text"].as_str().unwrap();
    assert!(
        text.starts_with("lions: told is done: 2 runs done, 0 failed, 0 left, in "),
        "{text}"
    );
}

fn weights(project: &Project, run: &str) -> Vec<std::path::PathBuf> {
    let folder = project.path(format!("results/runs/{}/artifacts", &run[..12]));
    let found = [
        "model/model.safetensors",
        "checkpoints/step-000001/model.safetensors",
    ];
    let found = found.into_iter().filter(|name| folder.join(name).is_file());
    found.map(|name| Path::new(name).to_owned()).collect()
}

#[test]
fn what_a_sweep_lets_go_is_deleted_only_when_asked_and_made_again_when_it_is_needed() {
    let project = crate::tiny::project();
    write_sweep(&project, "lean", 2, "save-steps = [1]");
    let run = |file: &str| is_ok(&project, &["run", file, "--jobs", "1", "--quiet"]);
    run("sweeps/lean.toml");
    let id = |kind: &str| {
        let runs = project.json(&["status", "lean"]);
        let mut runs = runs["runs"].as_array().unwrap().iter();
        let found = runs.rfind(|run| run["kind"] == kind);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let sft = id("sft");
    let table = project.json(&["compare", "lean"]);
    assert_eq!(weights(&project, &sft).len(), 2);
    assert!(is_ok(&project, &["gc"]).starts_with("nothing to delete;"));
    let model = project.path(format!(
        "results/runs/{}/artifacts/model/model.safetensors",
        &sft[..12]
    ));
    let bytes = std::fs::read(&model).unwrap();

    let last = "seeds = [1]\nkeep = \"last\"";
    project.edit("sweeps/lean.toml", "seeds = [1]", last);
    // It holds once it was run.
    let told = project.lions(&["gc"]);
    let other = "`keep` in `sweeps/lean.toml` is another than when `lean` was run last";
    assert!(told.code == 0 && told.err.contains(other), "{told:?}");
    let refused = project.lions(&["gc", "--yes"]);
    assert!(
        refused.code == 1 && refused.err.contains(other),
        "{refused:?}"
    );
    run("sweeps/lean.toml");
    assert!(project.lions(&["gc"]).err.is_empty());
    let would = is_ok(&project, &["gc", "lean"]);
    assert!(
        would.contains("checkpoints/step-000001") && would.contains("`--yes` deletes"),
        "{would}"
    );
    assert_eq!(weights(&project, &sft).len(), 2, "it only said so");
    let told = project.json(&["gc", "--yes"]);
    assert!(told["bytes"].as_u64().unwrap() > 100_000, "{told}");
    assert_eq!(
        weights(&project, &sft),
        [Path::new("model/model.safetensors")]
    );

    project.edit("sweeps/lean.toml", "\"last\"", "\"none\"");
    run("sweeps/lean.toml");
    assert!(is_ok(&project, &["gc", "--yes"]).contains(" of 1 run deleted"));
    assert!(weights(&project, &sft).is_empty());
    assert!(is_ok(&project, &["gc"]).starts_with("nothing to delete;"));

    // The results stay, and the run stays done.
    assert_eq!(project.json(&["compare", "lean"]), table);
    is_ok(&project, &["store", "verify"]);
    let attempts_before = attempts(&project, "sft").len();
    run("sweeps/lean.toml");
    assert_eq!(attempts(&project, "sft").len(), attempts_before);
    let refused = project.lions(&["export", &sft, "--out", "mine"]);
    assert!(
        refused.code == 1 && refused.err.contains("`lions gc` deleted it"),
        "{refused:?}"
    );
    // The way out that it names brings back the same bytes.
    let short = &sft[..12];
    let way = format!("`lions retry {short}`, then `lions run sweeps/lean.toml`, makes it again");
    assert!(refused.err.contains(&way), "{refused:?}");
    let to_do = || {
        let plan = project.json(&["plan", "sweeps/lean.toml"]);
        let runs = plan["runs"].as_array().unwrap().iter();
        let left = runs.filter(|run| run["done"] == false);
        left.map(|run| run["reason"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(to_do().is_empty());
    assert!(is_ok(&project, &["retry", short]).starts_with("1 run back in the queue"));
    assert_eq!(to_do().len(), 1, "the training alone");
    let again = project.lions(&["run", "sweeps/lean.toml", "--jobs", "1"]);
    assert!(
        again.code == 0 && !again.err.contains("gone") && !again.err.contains("deleted"),
        "{again:?}"
    );
    assert_eq!(std::fs::read(&model).unwrap(), bytes);
    assert_eq!(project.json(&["compare", "lean"]), table);
    assert!(is_ok(&project, &["gc", "--yes"]).contains(" of 1 run deleted"));
    let attempts_before = attempts(&project, "sft").len();

    // Another evaluation needs the model: it is made again.
    let more = "[base.eval.recipe.likelihood.more]\n\
        data = [{ path = \"data/sft/instruct_test.jsonl\", count = 1 }]\nmax-seq-len = 256\n";
    let text = project.read("sweeps/lean.toml") + more;
    project.write("sweeps/lean.toml", text);
    let left = to_do();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(
        left.contains(&"again: `lions gc` deleted what is needed of it".to_owned()),
        "{left:?}"
    );
    let again = project.lions(&["run", "sweeps/lean.toml", "--jobs", "1"]);
    let needed = "what `lions gc` deleted of it is needed; the run is done again";
    assert!(
        again.code == 0 && again.err.contains(needed) && !again.err.contains("is gone"),
        "{again:?}"
    );
    assert_eq!(attempts(&project, "sft").len(), attempts_before + 1);
    assert_eq!(weights(&project, &sft).len(), 2);
    assert_eq!(std::fs::read(&model).unwrap(), bytes);

    let would = is_ok(&project, &["rm", "lean"]);
    assert!(
        would.starts_with("lean would go, with ") && would.contains("`--yes` removes"),
        "{would}"
    );
    assert!(
        project
            .path(format!("results/runs/{}", &sft[..12]))
            .is_dir()
    );
    is_ok(&project, &["rm", "lean", "--yes"]);
    assert!(
        !project
            .path(format!("results/runs/{}", &sft[..12]))
            .exists()
    );
    assert_eq!(project.json(&["status"]), Value::Array(vec![]));
    assert_eq!(project.lions(&["rm", "lean"]).code, 1);
    run("sweeps/lean.toml");
    assert_eq!(attempts(&project, "sft").len(), 1);
}

#[test]
fn a_random_search_draws_its_trials_and_more_draws_do_none_anew() {
    let project = crate::tiny::project();
    let search = "[search]\nrandom = { draws = 2, seed = 1 }\n\
        [[axis]]\npath = \"sft.recipe.optimizer.learning-rate\"\n\
        range = { from = 1e-4, to = 1e-2, log = true }\n";
    write_sweep(&project, "drawn", 2, search);
    let run = || {
        is_ok(
            &project,
            &["run", "sweeps/drawn.toml", "--jobs", "1", "--quiet"],
        );
        let trials = project.json(&["status", "drawn", "--trials"]);
        let rate = |trial: &Value| trial["assignments"]["learning-rate"].as_f64().unwrap();
        let rates: Vec<f64> = trials.as_array().unwrap().iter().map(rate).collect();
        (rates, attempts(&project, "sft").len())
    };
    let (two, first) = run();
    assert_eq!((two.len(), first), (2, 2));
    assert!(
        two.iter().all(|rate| (1e-4..=1e-2).contains(rate)) && two[0].to_bits() != two[1].to_bits()
    );
    project.edit("sweeps/drawn.toml", "draws = 2", "draws = 3");
    let (three, second) = run();
    assert_eq!((&three[..2], second), (&two[..], 3));
    project.edit(
        "sweeps/drawn.toml",
        "[search]\nrandom = { draws = 3, seed = 1 }\n",
        "",
    );
    let grid = project.lions(&["check", "sweeps/drawn.toml"]);
    assert!(
        grid.code == 1 && grid.err.contains("this sweep is a grid"),
        "{grid:?}"
    );
    // What is wrong with the search is all that is said.
    let none = "[search]\nrandom = { draws = 0, seed = 1 }\n[[axis]]\n";
    project.edit("sweeps/drawn.toml", "[[axis]]\n", none);
    let said = project.lions(&["check", "sweeps/drawn.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.err.matches("error").count(), 1, "{said:?}");
    assert!(said.err.contains("`draws` must be 1 to 10000"), "{said:?}");
}

#[test]
fn whole_numbers_are_drawn_where_they_are_asked_for_and_train_as_many_steps() {
    let project = crate::tiny::project();
    let search = "[search]\nrandom = { draws = 3, seed = 2 }\n\
        [[axis]]\nname = \"steps\"\npath = \"sft.recipe.duration.steps\"\n\
        range = { from = 2, to = 5, whole = true }\n";
    write_sweep(&project, "counts", 2, search);
    is_ok(
        &project,
        &["run", "sweeps/counts.toml", "--jobs", "2", "--quiet"],
    );
    let trials = project.json(&["status", "counts", "--trials"]);
    let steps = |trial: &Value| trial["assignments"]["steps"].as_u64().unwrap();
    let drawn: Vec<u64> = trials.as_array().unwrap().iter().map(steps).collect();
    assert!(!drawn.is_empty() && drawn.iter().all(|steps| (2..=5).contains(steps)));
    let mut made: Vec<u64> = project.json(&["status", "counts"])["runs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["kind"] == "sft")
        .map(|run| project.json(&["show", run["id"].as_str().unwrap()]))
        .map(|run| run["counts"]["steps"].as_u64().unwrap())
        .collect();
    made.sort_unstable();
    let mut wanted = drawn;
    wanted.sort_unstable();
    assert_eq!(made, wanted);
}

#[test]
fn a_time_of_day_is_the_next_one_and_is_told() {
    let project = crate::tiny::project();
    write_sweep(&project, "daily", 2, "");
    let run = |time: &str| {
        let said = project.lions(&["run", "sweeps/daily.toml", "--until", time]);
        (said.code, said.err)
    };
    // Two minutes ago, so that it is tomorrow's.
    let ago = SystemClock.now().plus_millis(-120_000);
    let (code, told) = run(&format!("{}Z", &ago.iso8601()[11..16]));
    let tomorrow = ago.plus_millis(24 * 60 * 60 * 1000).iso8601();
    let line = format!("runs until {}:00Z\n", &tomorrow[..16]);
    assert!(code == 0 && told.contains(&line), "{line} in {told}");
    let table = project.json(&["compare", "daily"]);
    assert_eq!(table[0]["rows"].as_array().unwrap().len(), 1, "{table}");
    let (code, told) = run("07:30Z");
    assert!(code == 0 && told.contains("T07:30:00Z\n"), "{told}");
}
