//! Files that are damaged, unreadable or changed behind the program's back, from the sweep to the table.

use crate::driver::wait_until;
use crate::project::{Project, Said};
use serde_json::Value;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Overwrites bytes of a file in place: neither its size nor, after that, its time of writing tells.
fn damage(path: &Path, at: u64, bytes: &[u8]) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
    file.set_modified(modified).unwrap();
}

/// The folder of the first run of a stage.
fn run_of(project: &Project, stage: &str) -> PathBuf {
    let plan = project.json(&["plan", "sweeps/smoke.toml"]);
    let runs = plan["runs"].as_array().unwrap();
    let run = runs.iter().find(|run| run["stage"] == stage).unwrap();
    project.path(format!(
        "results/runs/{}",
        &run["id"].as_str().unwrap()[..12]
    ))
}

fn run_smoke(project: &Project) -> Said {
    project.lions(&["run", "sweeps/smoke.toml", "--jobs", "2"])
}

fn table(project: &Project) -> Value {
    project.json(&["compare", "smoke"])
}

#[test]
fn what_is_damaged_is_said_and_made_again_and_never_used() {
    let project = Project::new();
    assert_eq!(project.run_smoke(0)["executed"], 10);
    let before = table(&project);
    let said = project.lions(&["store", "verify"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("10 runs") && said.out.contains("as it was written"));

    // As after a power cut: the end of the weights is zeros, its size is right.
    let sft = run_of(&project, "sft");
    let weights = sft.join("artifacts/model/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    damage(&weights, whole.len() as u64 - 65_536, &vec![0; 65_536]);
    let said = project.lions(&["store", "verify"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("model.safetensors") && said.err.contains("another content"));
    assert!(said.err.contains("lions run"), "{said:?}");
    let (old, new) = ("values = [0.1, 0.5]", "values = [0.1, 0.5, 0.9]");
    project.edit("sweeps/smoke.toml", old, new);
    let said = run_smoke(&project);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("model.safetensors") && said.err.contains("done again"),
        "{said:?}"
    );
    assert!(
        fs::read(&weights).unwrap() == whole,
        "made again, to the same bytes"
    );
    project.edit("sweeps/smoke.toml", new, old);
    assert_eq!(
        project.run_smoke(0)["executed"],
        0,
        "only what was damaged and what was new"
    );
    assert_eq!(table(&project), before);

    a_changed_digit_of_an_outcome(&project);
    assert_eq!(table(&project), before);
    what_cannot_be_read_is_not_missing(&project);
    assert_eq!(table(&project), before);
    a_description_costs_its_own_cell(&project);
    let said = project.lions(&["store", "verify"]);
    assert_eq!(said.code, 0, "{said:?}");
}

fn a_changed_digit_of_an_outcome(project: &Project) {
    let path = run_of(project, "eval").join("outcome.json");
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find("\"n\": ").unwrap() + 5;
    let other = if text.as_bytes()[at] == b'9' {
        b"8"
    } else {
        b"9"
    };
    damage(&path, at as u64, other);
    let said = run_smoke(project);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("outcome.json") && said.err.contains("not as it was written"));
    assert!(
        path.with_file_name("outcome.rejected.json").is_file(),
        "what was left is kept"
    );
}

fn what_cannot_be_read_is_not_missing(project: &Project) {
    let run = run_of(project, "dpo");
    let (path, aside) = (run.join("outcome.json"), run.join("aside.json"));
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap(); // reading it fails, whoever asks
    let said = run_smoke(project);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("outcome.json"), "{said:?}");
    assert!(!run.join("attempts/002").exists() && run.join("artifacts/model").is_dir());
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(project.run_smoke(0)["executed"], 0);
}

fn a_description_costs_its_own_cell(project: &Project) {
    let run = run_of(project, "dpo");
    let stage = run.join("stage.json");
    let whole = fs::read_to_string(&stage).unwrap();
    let provenance = run.join("attempts/001/provenance.json");
    damage(&stage, 0, b"?");
    damage(&provenance, 0, b"?");
    for words in [
        &["compare", "smoke"][..],
        &["report", "smoke"],
        &["figures", "smoke"],
    ] {
        let said = project.lions(words);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let said = project.lions(&["report", "smoke"]);
    assert!(
        said.err.contains("stage.json") && said.err.contains("provenance.json"),
        "{said:?}"
    );
    assert_eq!(project.run_smoke(0)["executed"], 0);
    assert_eq!(fs::read_to_string(&stage).unwrap(), whole);
    let text = fs::read_to_string(&provenance).unwrap();
    assert!(text.contains("\"device\": \"cpu\""), "{text}");
}

fn start(project: &Project, words: &[&str]) -> Child {
    let mut command = project.command(words);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_model_that_changes_while_a_sweep_runs_is_not_trained_on() {
    let project = Project::new();
    project.edit(
        "sweeps/smoke.toml",
        "[base.sft.recipe]\nseed = 1",
        "[base.sft.recipe]",
    );
    let child = start(&project, &["run", "sweeps/smoke.toml", "--jobs", "1"]);
    let attempted = || {
        let runs = fs::read_dir(project.path("results/runs"));
        runs.is_ok_and(|mut runs| {
            runs.any(|run| run.unwrap().path().join("attempts/001/heartbeat").is_file())
        })
    };
    wait_until("the first attempt", attempted);
    project.edit(
        "models/stories260k/config.json",
        "\"rms_norm_eps\": 1e-05",
        "\"rms_norm_eps\": 1e-04",
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(100));
    let status = project.lions(&["status", "smoke"]);
    assert!(
        status.out.contains("has changed since the run was planned"),
        "{status:?}"
    );
}

/// SFT of 200 steps, more than are made before a test looks up, with a kept checkpoint and a state after every step.
fn kept_study(project: &Project) {
    project.edit(
        "sweeps/smoke.toml",
        "duration = { steps = 3 }",
        "duration = { steps = 200 }\nsave-steps = [2]",
    );
    project.edit(
        "sweeps/smoke.toml",
        "[base.dpo.recipe]",
        "[base.sft.runtime]\ncheckpoint-every-steps = 1\n\n[base.dpo.recipe]",
    );
    project.edit("sweeps/smoke.toml", "seeds = [1, 2]", "seeds = [1]");
}

fn published(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("outcome.json")).unwrap();
    let outcome: Value = serde_json::from_str(&text).unwrap();
    outcome["artifacts"].clone()
}

/// A project of the kept study, and what its training publishes if nothing disturbs it.
fn kept_project() -> (Project, Value) {
    let project = Project::new();
    kept_study(&project);
    let clean = project.copied();
    assert_eq!(clean.run_smoke(0)["failed"], 0);
    let want = published(&run_of(&clean, "sft"));
    (project, want)
}

#[test]
fn a_model_that_changes_under_a_training_is_not_in_what_the_training_writes() {
    let (project, want) = kept_project();
    let run = run_of(&project, "sft");
    let child = start(&project, &["run", "sweeps/smoke.toml", "--jobs", "1"]);
    let kept = run.join("attempts/001/out/checkpoints/step-000002");
    wait_until("a kept checkpoint", || kept.is_dir());
    project.edit(
        "models/stories260k/config.json",
        "\"rms_norm_eps\": 1e-05",
        "\"rms_norm_eps\": 1e-04",
    );
    // Stages that read the folder anew refuse it; what was trained before is as it would have been.
    child.wait_with_output().unwrap();
    assert_eq!(published(&run), want);
    // So it was changed before the end.
    let outcome = fs::read_to_string(run.join("outcome.json")).unwrap();
    assert!(
        outcome.contains("how many weights changed cannot be told"),
        "{outcome}"
    );
}

#[test]
fn a_damaged_checkpoint_of_a_killed_attempt_is_made_again() {
    let (project, want) = kept_project();
    let run = run_of(&project, "sft");
    let mut child = start(&project, &["run", "sweeps/smoke.toml", "--jobs", "1"]);
    let attempt = run.join("attempts/001");
    let saved = || {
        let events = fs::read_to_string(attempt.join("events.jsonl")).unwrap_or_default();
        events.contains("\"checkpointed\",\"step\":4")
    };
    wait_until("a state", saved);
    // The driver first, so that nobody goes on before the damage is done.
    child.kill().unwrap();
    child.wait().unwrap();
    let lock = || lions::rundir::is_locked(&attempt).unwrap();
    wait_until("the end of the attempt", || !lock());
    assert!(!run.join("outcome.json").exists());
    let kept = attempt.join("out/checkpoints/step-000002/model.safetensors");
    damage(&kept, kept.metadata().unwrap().len() - 4096, &[7; 4096]);
    let said = run_smoke(&project);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("step-000002") && said.err.contains("damaged"),
        "{said:?}"
    );
    assert_eq!(published(&run), want, "every file as without the damage");
}
