//! `lions log --follow` of an attempt at work.

use crate::driver::{Driver, process_of, run_words, signal, write_sweep};
use crate::project::{Project, Said};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

/// Steps, each a few milliseconds.
const STEPS: usize = 40;

/// What is told of the training from when its attempt stands still until it has ended after `signals`.
fn followed(project: &Project, name: &str, signals: &[&str]) -> Said {
    write_sweep(project, name, u32::try_from(STEPS).unwrap(), "");
    let file = format!("sweeps/{name}.toml");
    let mut driver = Driver::start(&mut project.command(&run_words(&file)));
    let started = driver.wait("run-started");
    let attempt = process_of(project, &started);
    driver.stop(&attempt);
    let words = ["log", started["run"].as_str().unwrap(), "--follow"];
    let mut command = project.command(&words);
    let mut log = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(log.stdout.take().unwrap());
    let mut out = String::new();
    // It is running when its first line is there; then it waits.
    lines.read_line(&mut out).unwrap();
    for name in signals {
        signal(name, &attempt);
    }
    lines.read_to_string(&mut out).unwrap();
    let code = log.wait().unwrap().code().unwrap();
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let err = String::new();
    Said { out, err, code }
}

#[test]
fn a_log_is_followed_to_the_end_of_the_attempt_and_tells_each_step_once() {
    let project = crate::tiny::project();
    let said = followed(&project, "followed", &["CONT"]);
    assert_eq!(said.code, 0, "{said:?}");
    let step = |line: &str| {
        line.trim_start()
            .strip_prefix("step ")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    let steps: Vec<usize> = said.out.lines().filter_map(step).collect();
    assert!(steps.iter().copied().eq(1..=STEPS), "{said:?}");
    assert!(
        said.out.starts_with("sft ") && said.out.contains("attempt 1"),
        "{said:?}"
    );
    assert!(said.out.ends_with("  finished\n"), "{said:?}");
}

#[test]
fn a_followed_attempt_that_is_killed_is_said_to_have_ended() {
    let project = crate::tiny::project();
    let said = followed(&project, "lost", &["KILL"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains("its process ended without a word\n"),
        "{said:?}"
    );
}
