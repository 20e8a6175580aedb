//! What the documents say is tried: sweep files are checked, command lines are run or at least
//! parsed, files and names exist.
//!
//! How a fenced block is tried is written behind its language, where no page shows it:
//!
//! | block | is |
//! | --- | --- |
//! | `toml` | a whole sweep file |
//! | `toml fragment` | laid over [`WHOLE`], a sweep file that has all parts |
//! | `toml lines of TABLE` | as many fragments as lines, each in that table |
//! | `toml project` | a whole `lions.toml` |
//! | `sh` | command lines; which of them are run says [`READING`] |

use crate::project::Project;
use crate::session::Study;
use regex::Regex;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Documents that a person writes.
const DOCUMENTS: [&str; 20] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/clusters.md",
    "sweeps/README.md",
    "data/README.md",
    "models/README.md",
    "reports/README.md",
    "docs/export.md",
    "tests/golden/README.md",
    "docs/start.md",
    "docs/install.md",
    "docs/own-study.md",
    "docs/design.md",
    "docs/paper.md",
    "docs/gpus.md",
    "docs/results.md",
    "docs/how-it-works.md",
    "docs/comparison.md",
];

/// Commands that are carried out, in a project that has the shipped studies and one of its own that
/// has run. Of all others (`run`, `bench`, …) only the command line is parsed: their work takes
/// minutes.
const READING: [&str; 20] = [
    "check",
    "plan",
    "inspect",
    "status",
    "show",
    "why",
    "log",
    "compare",
    "figures",
    "report",
    "retry",
    "doctor",
    "store",
    "schema",
    "export",
    "config",
    "init",
    "note",
    "export-recipe",
    "diff",
];

/// Words of the documents and what stands for them here: the study that has run, one of its
/// runs, and a folder that is yet to be made.
const STANDS_FOR: [(&str, &str); 6] = [
    ("quickstart", "study"),
    ("quickstart/0", "study/0"),
    ("quickstart/1", "study/1"),
    ("3f9a", "<dpo>"),
    ("DIR", "exported"),
    ("beta=0.1,0.5", "rate=0.01"),
];

/// Under every fragment.
const WHOLE: &str = r#"extends = ["base/mini.toml"]

[sweep]
name = "whole"
question = "Is this fragment right?"
seeds = [1]

[base]
pipeline = ["sft", "dpo"]

[base.eval.recipe.preference.polite]
data = [{ path = "data/pref/polite_test.jsonl" }]
limits = { max-seq-len = 512, max-prompt-len = 256, truncation = "keep-end" }

[[axis]]
path = "sft.recipe.batching"
values = ["padded", "concat"]

[[axis]]
path = "sft.recipe.loss-mask"
values = ["assistant-only", "all-tokens"]
"#;

/// A fenced block of a document.
struct Block {
    /// File and line of its fence.
    place: String,
    /// What stands behind the fence.
    info: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> String {
    std::fs::read_to_string(root().join(document)).unwrap()
}

fn blocks(document: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in read(document).lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                found.push(Block {
                    place: format!("{document}:{}", index + 1),
                    info: info.to_owned(),
                    text: String::new(),
                });
            }
            None if open => {
                let block = found.last_mut().unwrap();
                block.text += line;
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "{document} has a block without end");
    found
}

/// A copy of the study with all that the documents name.
fn project() -> Study {
    let study = Study::copied();
    for entry in std::fs::read_dir(root().join("sweeps")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_name().unwrap();
            std::fs::copy(&path, study.project.path("sweeps").join(name)).unwrap();
        }
    }
    study
}

/// Puts `text` into a sweep file and runs `command` on it.
fn accepted(project: &Project, name: &str, text: &str, command: &str, place: &str) {
    let file = format!("sweeps/{name}.toml");
    project.write(&file, text);
    let said = project.lions(&[command, &file]);
    assert_eq!(said.code, 0, "{place}:\n{text}\n{}", said.err);
}

/// Lays `text` over [`WHOLE`]. A fragment may name models and data that are the reader's own, so it
/// is planned, not checked.
fn laid_on(project: &Project, text: &str, place: &str) {
    project.write("sweeps/whole.toml", WHOLE);
    let text = format!("extends = [\"whole.toml\"]\nsweep.name = \"fragment\"\n\n{text}");
    accepted(project, "fragment", &text, "plan", place);
}

#[test]
fn sweep_files_in_documents_are_right() {
    let study = project();
    let project = &study.project;
    let mut tried = 0;
    for block in DOCUMENTS.iter().flat_map(|document| blocks(document)) {
        let (text, place) = (&block.text, &block.place);
        match block.info.split_once(' ') {
            _ if !block.info.starts_with("toml") => continue,
            None => {
                let named = text
                    .split("name = \"")
                    .nth(1)
                    .and_then(|t| t.split('"').next());
                let name = named.unwrap_or_else(|| panic!("{place}: a sweep file has a name"));
                accepted(project, name, text, "check", place);
            }
            Some((_, "project")) => {
                let read = lions::config::ProjectFile::of_text(text);
                assert!(read.is_ok(), "{place}: {read:?}");
            }
            Some((_, "fragment")) => laid_on(project, text, place),
            Some((_, how)) => {
                let table = how.strip_prefix("lines of ");
                let table = table.unwrap_or_else(|| panic!("{place}: what is `{how}`?"));
                for line in text.lines().filter(|line| !line.is_empty()) {
                    laid_on(project, &format!("[{table}]\n{line}\n"), place);
                }
            }
        }
        tried += 1;
    }
    assert!(tried >= 8, "only {tried} blocks were found");
}

/// The words behind `lions` in a line of a shell, or in what stands for it before it is installed.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let line = line.split(" > ").next().unwrap_or_default();
    let words = ["lions ", "cargo run --release -- "]
        .iter()
        .find_map(|program| line.trim().strip_prefix(program))?;
    // What stands in double quotes is one word.
    let mut all = Vec::new();
    for (at, part) in words.split('"').enumerate() {
        match at % 2 {
            0 => all.extend(part.split_whitespace().map(str::to_owned)),
            _ => all.push(part.to_owned()),
        }
    }
    Some(all)
}

#[test]
fn command_lines_in_documents_work() {
    let study = project();
    for block in blocks("README.md") {
        if block.text.contains("name = \"my-beta\"") {
            study.project.write("sweeps/my-beta.toml", &block.text);
        }
    }
    // The configurations of TRL that are translated.
    for (stage, key) in [("sft", "max_seq_length: 256"), ("dpo", "beta: 0.1")] {
        let text = format!("model_name_or_path: org/model\ndataset_name: org/rows\n{key}\n");
        study.project.write(format!("config_{stage}.yaml"), text);
    }
    let mut tried = 0;
    for block in DOCUMENTS.iter().flat_map(|document| blocks(document)) {
        for words in block.text.lines().filter_map(words) {
            if block.info != "sh" {
                continue;
            }
            let run = READING.contains(&words[0].as_str());
            let mut words: Vec<&str> = words
                .iter()
                .map(|word| {
                    let stands = STANDS_FOR.iter().find(|(from, _)| from == word);
                    match stands.map_or(word.as_str(), |(_, to)| *to) {
                        "<dpo>" => study.id("dpo"),
                        word => word,
                    }
                })
                .collect();
            if !run {
                words.push("--help");
            }
            let said = study.project.lions(&words);
            assert_eq!(said.code, 0, "{}: {words:?}\n{}", block.place, said.err);
            tried += 1;
        }
    }
    assert!(tried >= 15, "only {tried} lines were found");
}

/// What stands between single backquotes, outside fenced blocks.
fn spans(document: &str) -> Vec<String> {
    static SPAN: LazyLock<Regex> = LazyLock::new(|| Regex::new("`([^`]+)`").unwrap());
    let text = read(document);
    let prose: String = text.split("```").step_by(2).collect();
    let spans = SPAN.captures_iter(&prose);
    spans.map(|found| found[1].replace('\n', " ")).collect()
}

// `lions plan FILE`: FILE may be any word, an option may not.
#[test]
fn command_lines_in_sentences_can_be_parsed() {
    static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new("<[^>]+>").unwrap());
    let project = Project::new();
    for document in DOCUMENTS {
        for span in spans(document) {
            let Some(words) = words(&PLACE.replace_all(&span, "X")) else {
                continue;
            };
            let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
            let said = project.lions(&words);
            assert_eq!(said.code, 0, "{document}: `{span}`\n{}", said.err);
        }
    }
}

/// Every file and folder of the project that is not built, relative to its root.
fn all_paths() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let built = ["target", ".git", "runs"]
                .iter()
                .any(|name| path.ends_with(name));
            found.push(path.strip_prefix(root()).unwrap().to_owned());
            if path.is_dir() && !built {
                below(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    below(root(), &mut found);
    found
}

/// Folders at the root whose files the documents name; what else has a `/` may be a metric.
const FOLDERS: [&str; 9] = [
    "src", "tests", "sweeps", "reports", "docs", "benches", "models", ".ci", ".github",
];

#[test]
fn files_and_names_in_the_guides_exist() {
    let paths = all_paths();
    let sources: String = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| std::fs::read_to_string(root().join(path)).unwrap())
        .collect();
    let is_name = |part: &&str| part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let mut tried = 0;
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for span in spans(document) {
            if span.contains([' ', '<', '*', '…']) {
                continue;
            }
            let path = Path::new(&span);
            let first = span.split('/').next().unwrap_or_default();
            let ends = ["rs", "md", "toml", "py", "sh", "cu", "sql"];
            let is_file = path
                .extension()
                .is_some_and(|e| ends.iter().any(|end| e == *end));
            if is_file || span.contains('/') && FOLDERS.contains(&first) {
                // Tables name files by the module that they stand in.
                let there = paths.iter().any(|known| known.ends_with(path));
                assert!(there, "{document} names `{span}`, which is not there");
                tried += 1;
            } else if span.contains("::") {
                for part in span.split("::").filter(is_name) {
                    let word = Regex::new(&format!(r"\b{part}\b")).unwrap();
                    let there = word.is_match(&sources);
                    assert!(
                        there,
                        "{document} names `{span}`, but no source has `{part}`"
                    );
                }
                tried += 1;
            }
        }
    }
    assert!(tried >= 20, "only {tried} were found");
}

#[test]
fn what_is_said_of_the_project_is_said_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CITATION.cff").contains(&format!("\nversion: {version}\n")));
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    assert!(read("rust-toolchain.toml").contains(&format!("channel = \"{oldest}")));
    assert!(read("README.md").contains(&format!("Rust toolchain ({oldest} or later)")));
    assert!(read(".github/workflows/ci.yml").contains("run: .ci/run"));
}
