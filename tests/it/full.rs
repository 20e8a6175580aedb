//! A database that takes nothing, as on a full disk: the driver says so, waits and goes on.

use crate::driver::{Driver, attempts, database, run_words, signal, wait_until, write_sweep};
use crate::project::Project;
use rusqlite::Connection;

/// A project with the sweep `full` and an empty database.
fn project() -> Project {
    let project = crate::tiny::project();
    write_sweep(&project, "full", 2, "");
    drop(lions::store::Store::of_project(&project.path("")).unwrap());
    project
}

const FILE: &str = "sweeps/full.toml";

/// Has the database refuse every new row of a table as on a full disk: so SQLite calls it when the rows
/// of a table have used up their numbers.
fn fill(store: &Connection, table: &str) {
    let last = i64::MAX;
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS ballast (id INTEGER PRIMARY KEY AUTOINCREMENT);
        INSERT OR IGNORE INTO ballast VALUES ({last});
        CREATE TRIGGER full_{table} BEFORE INSERT ON {table}
        BEGIN INSERT INTO ballast VALUES (NULL); END;"
    );
    store.execute_batch(&sql).unwrap();
}

fn make_room(store: &Connection, table: &str) {
    let sql = format!("DROP TRIGGER full_{table}");
    store.execute_batch(&sql).unwrap();
}

#[test]
fn a_sweep_waits_for_room_to_be_registered_and_for_its_results() {
    let project = project();
    let clean = project.copied();
    crate::tiny::run(&clean, "full");

    let store = database(&project);
    fill(&store, "trial");
    fill(&store, "metric");
    let mut driver = Driver::start(&mut project.command(&run_words(FILE)));
    let paused = driver.wait("paused");
    let reason = paused["reason"].as_str().unwrap();
    assert!(reason.contains("database or disk is full"), "{reason}");
    let says_so = || project.lions(&["status"]).err.contains("has paused");
    wait_until("word of the pause in `lions status`", says_so);
    assert!(!project.path("results/runs").exists());
    make_room(&store, "trial");

    driver.wait("run-started");
    driver.wait("paused");
    make_room(&store, "metric");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = ended.summary();
    let counts = (&summary["executed"], &summary["failed"]);
    assert_eq!(counts, (&2.into(), &0.into()));
    for stage in ["sft", "eval"] {
        let once = [("succeeded".to_owned(), None)];
        assert_eq!(attempts(&project, stage), once, "{stage}");
    }
    let table = ["compare", "full"];
    assert_eq!(project.json(&table), clean.json(&table));
}

#[test]
fn a_sweep_that_waits_for_room_can_be_stopped_and_has_begun_nothing() {
    let project = project();
    fill(&database(&project), "trial");
    let mut driver = Driver::start(&mut project.command(&run_words(FILE)));
    driver.wait("paused");
    signal("INT", &driver.pid());
    let ended = driver.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let told = ended.err.contains("full") && ended.err.contains("goes on from here");
    assert!(told, "{ended:?}");
    assert!(!project.path("results/runs").exists());
}

/// Under a limit of no byte for any file, which is lifted while it waits.
#[cfg(target_os = "linux")]
#[test]
fn a_database_for_which_there_is_no_room_yet_is_made_when_there_is() {
    use std::process::Command;

    let project = crate::tiny::project();
    write_sweep(&project, "full", 2, "");
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: there is no program `prlimit` to lift a limit with");
        return;
    }
    let limited = "trap '' XFSZ; ulimit -S -f 0; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", limited, "sh", env!("CARGO_BIN_EXE_lions")])
        .args(run_words(FILE))
        .current_dir(project.path(""));
    let mut driver = Driver::start(&mut command);
    let paused = driver.wait("paused");
    let reason = paused["reason"].as_str().unwrap();
    assert!(reason.contains("lions.db"), "{reason}");
    let mut lift = Command::new("prlimit");
    let lifted = lift.args(["--fsize=unlimited:", "--pid"]).arg(driver.pid());
    assert!(lifted.status().unwrap().success());
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.summary()["succeeded"], 2);
    let table = &project.json(&["compare", "full"])[0];
    let value = &table["rows"][0]["results"][0]["estimate"]["value"];
    assert!(value.is_f64(), "{table}");
}
