//! Attempts that hang, are killed or run out of memory, from the sweep file to the table.

use crate::driver::{Driver, attempts, database, process_of, run_words, signal, wait_until};
use crate::driver::{Ended, write_sweep};
use crate::project::Project;
use crate::tiny::Results;
use serde_json::Value;

/// More steps than are made before a test looks up.
const STEPS: u32 = 100;
/// The same where a state is saved after each, which takes longer than the step.
const SAVED_STEPS: u32 = 200;

fn has_its_number(project: &Project, sweep: &str) {
    let table = &project.json(&["compare", sweep])[0];
    let value = &table["rows"][0]["results"][0]["estimate"]["value"];
    assert!(value.is_f64(), "{table}");
}

/// Whether the driver told of a run that failed, and why.
fn failure(ended: &Ended) -> &Value {
    let mut events = ended.events.iter();
    let failed = events.find(|event| event["kind"] == "run-failed");
    failed.unwrap_or_else(|| panic!("{ended:?}"))
}

#[test]
fn an_attempt_that_hangs_is_ended_and_its_run_can_be_tried_again() {
    let project = crate::tiny::project();
    write_sweep(&project, "hung", STEPS, "");
    let file = "sweeps/hung.toml";
    // Little more than a second: an attempt that is only slow is ended as well, which is as good here.
    let words = [&run_words(file)[..], &["--hang-after", "0.02"]].concat();
    let mut driver = Driver::start(&mut project.command(&words));
    let started = driver.wait("run-started");
    driver.stop(&process_of(&project, &started));
    let ended = driver.end();
    assert_eq!(ended.code, Some(100), "{ended:?}");
    let failed = failure(&ended);
    assert_eq!(
        (&failed["class"], &failed["stage"]),
        (&"hung".into(), &"sft".into())
    );
    let why = project.lions(&["why", started["run"].as_str().unwrap()]);
    assert!(
        why.out.contains("did not get on") && why.out.contains("--hang-after"),
        "{why:?}"
    );

    let said = project.lions(&[&run_words(file)[..], &["--retry"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let ends = [("failed", Some("hung")), ("succeeded", None)];
    let ends = ends.map(|(state, class)| (state.to_owned(), class.map(str::to_owned)));
    assert_eq!(attempts(&project, "sft"), ends);
    has_its_number(&project, "hung");
}

/// Waits until the attempt that a `run-started` event tells of has saved a state.
fn wait_for_state(project: &Project, started: &Value) {
    let run = &started["run"].as_str().unwrap()[..12];
    let number = started["attempt"].as_u64().unwrap();
    let attempt = format!("results/runs/{run}/attempts/{number:03}");
    let events = project.path(attempt).join("events.jsonl");
    wait_until("a saved state", || {
        let told = std::fs::read_to_string(&events).unwrap_or_default();
        told.contains("\"checkpointed\"")
    });
}

/// Whether the database has the loss of each of [`SAVED_STEPS`] steps.
fn has_every_step(project: &Project, sweep: &str) {
    let results = Results::open(project, sweep);
    let losses = results.steps(&results.of_kind("sft"), "loss");
    assert!(
        losses.keys().copied().eq(1..=i64::from(SAVED_STEPS)),
        "{losses:?}"
    );
}

/// Two more than a run is given that does not get on.
const KILLS: u32 = lions::queue::CRASH_LIMIT + 2;

#[test]
fn a_run_that_saves_a_state_between_its_crashes_comes_to_its_end() {
    let project = crate::tiny::project();
    let saves = "[base.sft.runtime]\ncheckpoint-every-steps = 1";
    write_sweep(&project, "killed", SAVED_STEPS, saves);
    let mut driver = Driver::start(&mut project.command(&run_words("sweeps/killed.toml")));
    for number in 1..=KILLS {
        let started = driver.wait("run-started");
        assert_eq!(
            (&started["stage"], &started["attempt"]),
            (&"sft".into(), &number.into())
        );
        wait_for_state(&project, &started);
        signal("KILL", &process_of(&project, &started));
        let crashed = driver.wait("run-crashed");
        assert_eq!(crashed["crashes"], 1, "{crashed}");
        let message = crashed["message"].as_str().unwrap();
        assert!(message.contains("signal 9"), "{message}");
    }
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ends = attempts(&project, "sft");
    let crashed = ends.iter().filter(|(state, _)| state == "crashed");
    assert_eq!(crashed.count(), KILLS as usize);
    has_every_step(&project, "killed");
    has_its_number(&project, "killed");
}

#[test]
fn a_driver_that_is_killed_costs_its_sweep_neither_a_result_nor_a_step() {
    let project = crate::tiny::project();
    let saves = "[base.sft.runtime]\ncheckpoint-every-steps = 1";
    write_sweep(&project, "orphan", SAVED_STEPS, saves);
    let words = run_words("sweeps/orphan.toml");
    let mut driver = Driver::start(&mut project.command(&words));
    wait_for_state(&project, &driver.wait("run-started"));
    drop(driver); // as `kill -9` does it
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    has_every_step(&project, "orphan");
    has_its_number(&project, "orphan");
}

#[test]
fn a_database_is_not_made_anew_under_a_run_at_work() {
    let project = crate::tiny::project();
    write_sweep(&project, "live", STEPS, "");
    let mut driver = Driver::start(&mut project.command(&run_words("sweeps/live.toml")));
    let started = driver.wait("run-started");
    let attempt = process_of(&project, &started);
    driver.stop(&attempt);
    let said = project.lions(&["store", "rebuild"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("is running") && said.err.contains("stop it first"),
        "{said:?}"
    );
    signal("CONT", &attempt);
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let table = ["compare", "live"];
    let before = (project.json(&table), everything(&project));
    has_its_number(&project, "live");
    let said = project.lions(&["store", "rebuild"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((project.json(&table), everything(&project)), before);
}

/// What the store tells of sweeps, trials, runs, attempts and results, a line each.
fn everything(project: &Project) -> Vec<String> {
    let queries = [
        "SELECT name, question, content FROM sweep ORDER BY name",
        "SELECT sweep, trial, axis, value FROM trial_axis ORDER BY sweep, trial, axis",
        "SELECT sweep, trial, label, stage, run, metric, value, n FROM trial_metric \
         ORDER BY sweep, trial, stage, metric",
        "SELECT run, step, metric, value, attempt FROM training ORDER BY run, step, metric",
        "SELECT run_id, kind, identity, state, attempts FROM run ORDER BY run_id",
        "SELECT run_id, name, value FROM count JOIN run ON run.id = run ORDER BY run_id, name",
        "SELECT run_id, path, bytes, digest FROM artifact JOIN run ON run.id = run ORDER BY run_id, path",
        "SELECT run_id, number, attempt.state, device FROM attempt JOIN run ON run.id = run \
         ORDER BY run_id, number",
    ];
    let store = database(project);
    let mut lines = Vec::new();
    for sql in queries {
        let mut found = store.prepare(sql).unwrap();
        let columns = found.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
            Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
        };
        let before = lines.len();
        lines.extend(found.query_map([], row).unwrap().map(Result::unwrap));
        // A sweep without axes has no value of one.
        assert!(lines.len() > before || sql.contains("trial_axis"), "{sql}");
    }
    lines
}

/// Under a limit that no machine's memory matters to, an attempt asks for more at once.
#[cfg(target_os = "linux")]
#[test]
fn an_attempt_that_is_refused_memory_is_classed_so_and_its_run_rests_before_it_is_tried_again() {
    let project = crate::tiny::project();
    let huge = "lora = { rank = 1000000000, alpha = 4, targets = [\"q_proj\"] }";
    write_sweep(&project, "huge", 2, huge);
    let limited = "ulimit -v 33554432; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", limited, "sh", env!("CARGO_BIN_EXE_lions")])
        .args(run_words("sweeps/huge.toml"))
        .current_dir(project.path(""))
        .env("RUST_BACKTRACE", "1"); // of which a person is told nothing
    let mut driver = Driver::start(&mut command);
    for crashes in 1..=2 {
        let crashed = driver.wait("run-crashed");
        assert_eq!(crashed["crashes"], crashes, "{crashed}");
        let message = crashed["message"].as_str().unwrap();
        assert!(
            message.contains("memory allocation of") && !message.contains("stack backtrace"),
            "{message}"
        );
    }
    signal("INT", &driver.pid());
    assert_eq!(driver.end().code, Some(130));
    let crash = ("crashed".to_owned(), Some("out-of-memory".to_owned()));
    assert_eq!(attempts(&project, "sft"), [crash.clone(), crash]);
    let sql = "SELECT (SELECT started FROM attempt WHERE number = 2)
        - (SELECT ended FROM attempt WHERE number = 1)";
    let rest: i64 = database(&project)
        .query_row(sql, [], |row| row.get(0))
        .unwrap();
    let memory = Some(lions::rundir::FailureClass::OutOfMemory);
    assert!(
        rest >= lions::queue::rest_after_crash(1, memory),
        "{rest} ms"
    );
}

/// A few of what `tests/kills.py` does in full, where there is a `python3`.
#[cfg(target_os = "linux")]
#[test]
fn attempts_and_drivers_killed_at_random_moments_lose_nothing_and_repeat_nothing() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kills.py");
    let mut python = std::process::Command::new("python3");
    let python = python.arg("-B").arg(script);
    let python = python.arg(env!("CARGO_BIN_EXE_lions"));
    let few = ["--attempts", "3", "--local", "4", "--slurm", "3"];
    let Ok(done) = python.args(few).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    for kills in ["attempts: 3 kills", "local: 4 kills", "slurm: 3 kills"] {
        assert!(said.contains(kills), "{said}");
    }
}
