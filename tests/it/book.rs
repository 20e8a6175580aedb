//! The book in `docs`: its chapters are there, its links lead somewhere, its generated chapters are what the program
//! says, and what it reads results by reads them.

use crate::project::Project;
use crate::session::Study;
use regex::Regex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Targets of the links and pictures of a document, outside code, with those of other sites left out.
fn links(document: &str) -> Vec<String> {
    let text = read(document);
    let fenced: String = text.split("```").step_by(2).collect();
    let prose: String = fenced.split('`').step_by(2).collect();
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let found = link.captures_iter(&prose).map(|found| found[1].to_owned());
    found.filter(|target| !target.contains("://")).collect()
}

/// What a heading is linked by.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn headings(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| slug(line.trim_start_matches('#')))
        .collect()
}

fn chapters() -> Vec<String> {
    let listed = links("docs/SUMMARY.md");
    listed
        .into_iter()
        .map(|file| format!("docs/{file}"))
        .collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let others = [
        "README.md",
        "sweeps/README.md",
        "data/README.md",
        "models/README.md",
        "reports/README.md",
        "docs/SUMMARY.md",
    ];
    let mut tried = 0;
    for document in others.map(str::to_owned).into_iter().chain(chapters()) {
        let folder = root().join(&document);
        let folder = folder.parent().unwrap();
        for target in links(&document) {
            let (file, part) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() {
                root().join(&document)
            } else {
                folder.join(file)
            };
            assert!(
                path.exists(),
                "{document} links to `{target}`, which is not there"
            );
            if !part.is_empty() {
                assert!(
                    headings(&path).contains(part),
                    "{document}: `{target}` has no such heading"
                );
            }
            tried += 1;
        }
    }
    assert!(tried >= 20, "only {tried} links were found");
}

#[test]
fn every_chapter_is_there_and_has_one_title() {
    let chapters = chapters();
    assert!(chapters.len() >= 10, "{chapters:?}");
    for chapter in chapters {
        let text = read(&chapter);
        let code_free: String = text.split("```").step_by(2).collect();
        let titles = code_free
            .lines()
            .filter(|line| line.starts_with("# "))
            .count();
        assert_eq!(titles, 1, "{chapter}");
    }
    assert!(read("docs/book.toml").contains("src = \".\""));
}

/// Compares a generated chapter with its file, which is written anew if it differs.
fn renewed(file: &str, text: &str) {
    let path = root().join(file);
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return;
    }
    lions::base::write_atomic(&path, text.as_bytes()).unwrap();
    panic!("{file} was not up to date; it is now: look at it and commit it");
}

/// Every command with its words, groups before their commands.
fn commands(project: &Project, words: &[&str], found: &mut Vec<(String, String)>) {
    let help = project.lions(&[words, &["--help"]].concat());
    assert_eq!(help.code, 0, "{help:?}");
    found.push((words.join(" "), help.out.clone()));
    let listed = help.out.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for name in named.filter_map(|line| line.split_whitespace().next()) {
        if name != "help" {
            commands(project, &[words, &[name]].concat(), found);
        }
    }
}

#[test]
fn the_chapter_on_commands_is_what_their_help_says() {
    let mut found = Vec::new();
    commands(&Project::bare(), &[], &mut found);
    let mut text = "# Commands\n\nWhat `lions help COMMAND` says, written by a test. `lions completions SHELL` and \
        `lions man DIR` write the same for shells and for `man`.\n"
        .to_owned();
    for (words, help) in found {
        let title = if words.is_empty() {
            "lions".to_owned()
        } else {
            format!("lions {words}")
        };
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        text += &format!(
            "\n## {title}\n\n```text\n{}\n```\n",
            lines.join("\n").trim_end()
        );
    }
    renewed("docs/commands.md", &text);
}

/// Commands that print data, on the study of the sessions; `<dpo>` is a run of it.
const DATA: [&str; 20] = [
    "check sweeps/study.toml",
    "plan sweeps/study.toml",
    "config show sweeps/study.toml",
    "schema dpo.recipe.beta",
    "status",
    "status study",
    "status study --trials",
    "show <dpo>",
    "why <failed>",
    "log <dpo>",
    "note study",
    "compare study",
    "compare study broken",
    "figures study",
    "report study",
    "inspect sweeps/study.toml",
    "export-recipe <dpo>",
    "retry broken",
    "store verify",
    "doctor",
];

fn shape(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(entries) => {
            let keys: Vec<String> = entries.keys().map(|key| format!("`{key}`")).collect();
            format!("object: {}", keys.join(", "))
        }
        serde_json::Value::Array(items) => match items.first() {
            Some(first) => format!("list of {}", shape(first)),
            None => "list".to_owned(),
        },
        serde_json::Value::String(_) => "text".to_owned(),
        serde_json::Value::Number(_) => "number".to_owned(),
        _ => "value".to_owned(),
    }
}

#[test]
fn the_chapter_on_json_is_what_the_commands_give() {
    let study = Study::copied();
    let mut text = "# JSON\n\nEvery command that prints data takes `--json`. What it gives, written by a test from the \
        answers of a small study:\n\n| command | gives |\n| --- | --- |\n"
        .to_owned();
    for line in DATA {
        let words = line.split(' ').map(|word| match word {
            "<dpo>" => study.id("dpo"),
            "<failed>" => study.id("failed"),
            word => word,
        });
        let value = study.project.json(&words.collect::<Vec<&str>>());
        let told = line
            .replace("<dpo>", "RUN")
            .replace("<failed>", "RUN")
            .replace("study", "SWEEP")
            .replace("broken", "OTHER");
        text += &format!("| `lions {told}` | {} |\n", shape(&value));
    }
    text += "\n`lions run --json` gives one event a line, each with its `kind`:\n\n| kind | has |\n| --- | --- |\n";
    let said = study
        .project
        .lions(&["run", "sweeps/smoke.toml", "--json", "--jobs", "1"]);
    // Others come by the clock.
    for kind in [
        "sweep-started",
        "run-started",
        "run-finished",
        "sweep-finished",
    ] {
        let mut keys = BTreeSet::new();
        for line in said.out.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            if event["kind"] == kind {
                let own = event.as_object().unwrap().keys();
                keys.extend(
                    own.filter(|key| *key != "kind")
                        .map(|key| format!("`{key}`")),
                );
            }
        }
        assert!(!keys.is_empty(), "{kind}");
        let keys: Vec<String> = keys.into_iter().collect();
        text += &format!("| `{kind}` | {} |\n", keys.join(", "));
    }
    text += "\nOthers tell of progress (`run-progress`), waits, retries and warnings.\n";
    text += "\nOn stderr every line is an object, too: `{\"warning\": …}`, `{\"note\": …}`, or what a command ended with: \
        `error`, `exit_code`, `hints` and `findings` (`file`, `line`, `column`, `message`, `help`).\n";
    renewed("docs/json.md", &text);
}

/// The fenced blocks of a language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = read(document);
    let fence = format!("```{language}\n");
    let found = text.split(&fence).skip(1);
    found
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn what_the_book_reads_results_by_reads_them() {
    let study = Study::shared();
    let python = Command::new("python3").arg("--version").output();
    let scripts = blocks("docs/results.md", "python");
    assert_eq!(scripts.len(), 1);
    if python.is_ok_and(|said| said.status.success()) {
        let script = scripts[0].replace("quickstart", "study");
        let mut command = Command::new("python3");
        let said = command
            .args(["-c", &script])
            .current_dir(study.project.path(""))
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&said.stdout);
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        assert!(
            out.lines().count() >= 2 && out.contains("{'rate': 0.01}"),
            "{out}"
        );
    }
    let queries = blocks("docs/results.md", "sql");
    let store = rusqlite::Connection::open(study.project.path("results/lions.db")).unwrap();
    for query in queries {
        let query = query.replace("quickstart", "study").replace("beta", "rate");
        let mut rows = store.prepare(query.trim()).unwrap();
        let betas: Vec<f64> = rows
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(betas.len(), 2, "{betas:?}");
    }
}

#[test]
fn rows_in_the_book_are_rows_that_are_read() {
    let project = Project::new();
    for (at, row) in blocks("docs/own-study.md", "json").iter().enumerate() {
        let file = format!("data/mine/row-{at}.jsonl");
        project.write(&file, row);
        let is_pair = row.contains("chosen");
        let stage = if is_pair { "dpo" } else { "sft" };
        let set = format!("{stage}.recipe.data=[{{ path = \"{file}\" }}]");
        let mut words = vec!["check", "sweeps/smoke.toml", "--set", &set];
        // One pair makes one step, which a warm-up would leave without a rate.
        if is_pair {
            words.extend(["--set", "dpo.recipe.max-examples=1"]);
            words.extend(["--set", "dpo.recipe.schedule.warmup-ratio=0"]);
        }
        let said = project.lions(&words);
        assert_eq!(said.code, 0, "{row}{said:?}");
    }
}

#[test]
fn numbers_that_the_book_shows_are_those_of_the_report() {
    let report = read("reports/quickstart/report.md").replace('\\', "");
    let number = Regex::new(r"[−+]?\d\.\d{3} \[[^\]]+\]").unwrap();
    let mut tried = 0;
    for block in ["docs/start.md", "README.md"]
        .iter()
        .flat_map(|document| blocks(document, "text"))
    {
        for found in number.find_iter(&block) {
            assert!(report.contains(found.as_str()), "{}", found.as_str());
            tried += 1;
        }
    }
    assert!(tried >= 6, "only {tried} were found");
}

#[test]
fn completions_and_manual_pages_are_written() {
    let project = Project::bare();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = project.lions(&["completions", shell]);
        assert_eq!(said.code, 0, "{said:?}");
        // Not every shell writes options with their dashes.
        for word in ["export-recipe", "where"] {
            assert!(said.out.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(project.lions(&["completions", "cmd"]).code, 2);
    assert_eq!(project.lions(&["man", "man1"]).code, 0);
    let page: PathBuf = project.path("man1/lions-run.1");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.starts_with(".ie") || text.contains(".TH"), "{text}");
    assert!(text.contains("hang\\-after"), "{text}");
    let groups = project.path("man1/lions-store-rebuild.1");
    assert!(
        groups.is_file(),
        "commands of groups have pages of their own"
    );
}

/// Files that are compiled in or named by the manifest, relative to the root.
fn read_by_a_build() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = ["Cargo.toml", "Cargo.lock", "build.rs"]
        .map(str::to_owned)
        .into();
    let manifest = read("Cargo.toml");
    let path = Regex::new(r#"path = "([^"]+)""#).unwrap();
    found.extend(
        path.captures_iter(&manifest)
            .map(|found| found[1].to_owned()),
    );
    let included = Regex::new(r#"include_(?:str|bytes)!\(\s*"([^"]+)""#).unwrap();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&file).unwrap();
                // What tests read stands behind their head.
                let text = text.split("#[cfg(test)]").next().unwrap();
                if file.to_string_lossy().ends_with("tests.rs") {
                    continue;
                }
                for named in included.captures_iter(text) {
                    let path = folder.join(&named[1]).canonicalize();
                    let path = path.unwrap_or_else(|error| panic!("{}: {error}", &named[1]));
                    let path = path.strip_prefix(root().canonicalize().unwrap()).unwrap();
                    found.insert(path.to_str().unwrap().to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn the_recipe_of_a_container_copies_what_a_build_reads() {
    let recipe = read("apptainer.def");
    let files = recipe.split("%files\n").nth(1).unwrap();
    let files = files.lines().take_while(|line| line.starts_with("    "));
    let copied: BTreeSet<&str> = files
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let read = read_by_a_build();
    assert!(read.len() > 12, "{read:?}");
    for file in &read {
        let first = file.split('/').next().unwrap();
        assert!(copied.contains(first), "`{file}` is not among {copied:?}");
    }
    // Both images are made of the same packages.
    let docker = self::read("Dockerfile");
    for words in [
        "rust:1.95-bookworm",
        "debian:bookworm-slim",
        "ca-certificates python3 python3-pip",
        "nvidia-cublas-cu12",
    ] {
        assert!(recipe.contains(words) && docker.contains(words), "{words}");
    }
}
