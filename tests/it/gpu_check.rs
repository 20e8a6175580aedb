//! What `benches/gpu/check` does on a card, without one: its own tests, and parts of it on a driver that pretends. They
//! want a `python3`; where there is none, nothing else wants it either, and they are left out.

use crate::cards::{pretend, pretended_cublas};
use crate::project::Project;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

fn check() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/gpu/check")
}

fn python() -> Option<Command> {
    let mut found = Command::new("python3");
    let there = found.arg("--version").output();
    there.ok().filter(|said| said.status.success())?;
    let mut python = Command::new("python3");
    python.arg("-B");
    Some(python)
}

#[test]
fn the_check_of_a_card_is_right_about_parts_that_fail_hang_or_find_none() {
    let Some(mut python) = python() else { return };
    let done = python.arg(check().join("test_check.py")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("\nOK"), "{said}");
}

/// What a part comes to on a machine with such a driver.
fn part(project: &Project, name: &str, vars: &[(&str, &str)]) -> Option<Value> {
    let mut python = python()?;
    let folder = project.path("");
    python
        .arg(check())
        .args(["part", name])
        .env("CHECK_FOLDER", &folder)
        .env("CHECK_WORK", folder.join("work"));
    pretend(&mut python, vars);
    let done = python.output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let mut told = said
        .lines()
        .filter_map(|line| line.strip_prefix("@result "));
    let told = told.next_back().unwrap_or_else(|| panic!("{said}"));
    Some(serde_json::from_str(told).unwrap())
}

#[cfg(unix)]
#[test]
fn parts_see_the_card_of_a_driver_that_pretends_and_that_its_memory_is_full() {
    // A folder as `run` makes it: `project/`, and `work/` with the program.
    let project = Project::bare();
    let small = Project::new();
    crate::project::copy_tree(&small.path(""), &project.path("project"));
    project.write("work/x", "");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lions"), project.path("work/lions")).unwrap();
    let card = [("FAKE_CARDS", "1"), ("LIONS_CUDA_LIB", pretended_cublas())];
    let Some(doctor) = part(&project, "card/doctor", &card) else {
        return;
    };
    assert_eq!(doctor["outcome"], "ok", "{doctor}");
    let shown = doctor["values"]["gpu"].as_str().unwrap();
    assert!(shown.contains("Pretended T4"), "{doctor}");
    let none = part(&project, "card/doctor", &[("FAKE_CARDS", "0")]).unwrap();
    assert_eq!(none["outcome"], "no card", "{none}");
    let old = [card[0], card[1], ("FAKE_COMPUTE", "75")];
    let old = part(&project, "card/doctor", &old).unwrap();
    assert_eq!(old["outcome"], "failed", "{old}");

    // Two parts of a few megabytes, beside what a driver takes of each.
    let sharing = [card[0], card[1], ("FAKE_MEMORY", "1634612736")];
    let state = part(&project, "runs/host-state", &sharing).unwrap();
    assert_eq!(state["outcome"], "ok", "{state}");

    // What cuBLAS works in, and a little.
    let full = [card[0], card[1], ("FAKE_MEMORY", "36000000")];
    let memory = part(&project, "runs/memory", &full).unwrap();
    assert_eq!(memory["outcome"], "ok", "{memory}");
    let said = memory["values"]["said"].as_str().unwrap();
    assert!(said.contains("out of device memory"), "{memory}");
}
