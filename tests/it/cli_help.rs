//! The help of every command, and that the sessions of the `cli_*` tests call each of them.

use crate::project::Project;
use crate::session::session_in;
use std::collections::BTreeSet;
use std::path::Path;

/// Every command by its words (`store rebuild`), as `--help` lists them.
fn commands() -> Vec<String> {
    fn below(project: &Project, words: &[&str], found: &mut Vec<String>) {
        let help = project.lions(&[words, &["--help"]].concat());
        assert_eq!(help.code, 0, "{help:?}");
        let listed = help.out.split("Commands:\n").nth(1).unwrap_or_default();
        let names: Vec<&str> = listed
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        if names.is_empty() {
            found.push(words.join(" "));
        }
        for name in names {
            below(project, &[words, &[name]].concat(), found);
        }
    }
    let mut found = Vec::new();
    below(&Project::new(), &[], &mut found);
    found
}

#[test]
fn every_command_has_its_help() {
    let project = Project::new();
    insta::assert_snapshot!("help", session_in(&project, &["-h", "--help", "--version"]));
    let groups = ["config", "store"].map(str::to_owned);
    for command in commands().iter().chain(&groups) {
        let name = command.replace(' ', "_");
        let asked = format!("{command} --help");
        insta::assert_snapshot!(name, session_in(&project, &[&asked]));
    }
}

/// Commands that work until they are told to end; tests of their own call them.
const UNENDING: [&str; 2] = ["serve", "serve-model"];

/// The lines of all sessions and whether they succeeded.
fn sessions() -> Vec<(String, bool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots");
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("it__cli_") || name.starts_with("it__cli_help") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut typed = None;
        for line in text.lines() {
            if let Some(words) = line.strip_prefix("$ lions ") {
                typed = Some(words.to_owned());
            } else if line.starts_with('[') && line.ends_with(']') {
                let code = line.trim_matches(['[', ']']).parse::<i32>();
                if let (Ok(code), Some(typed)) = (code, typed.take()) {
                    lines.push((typed, code == 0));
                }
            }
        }
    }
    lines
}

#[test]
fn every_command_is_called_rightly_and_wrongly() {
    let sessions = sessions();
    let calls = |command: &str, well: bool| {
        sessions.iter().any(|(line, ended_well)| {
            *ended_well == well && format!("{line} ").starts_with(&format!("{command} "))
        })
    };
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    // Of thousands of lines that hold every option; `book.rs` calls it well.
    let is_long = |command: &String| command == "completions";
    let listed = commands
        .iter()
        .filter(|c| !is_long(c) && !UNENDING.contains(&c.as_str()));
    let never: BTreeSet<&String> = listed.filter(|c| !calls(c, true)).collect();
    assert!(
        never.is_empty(),
        "no session in which these succeed: {never:?}"
    );
    let never: BTreeSet<&String> = commands.iter().filter(|c| !calls(c, false)).collect();
    assert!(
        never.is_empty(),
        "no session in which these are refused: {never:?}"
    );
}
