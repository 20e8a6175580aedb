//! Sessions at the command line as text: what was typed, what was said where, and how it ended.
//!
//! A session is a snapshot in `snapshots/`. After a change that is meant, `INSTA_UPDATE=always cargo
//! test --test it cli` writes them anew; look at the difference before you commit it.

use crate::project::{Project, Said};
use regex::{Captures, Regex};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

/// A project in which the sweeps `study` (ten runs, all done) and `broken` (one training that
/// succeeds, one that fails, and an evaluation that is skipped therefore) have run.
pub(crate) struct Study {
    pub(crate) project: Project,
    /// Ids by the word that stands for them in a session: `<dpo>`.
    ids: BTreeMap<String, String>,
}

impl Study {
    /// The study of this process. Sessions on it only read: others read it too.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Study> = OnceLock::new();
        SHARED.get_or_init(Self::run)
    }

    /// A copy that a session may change.
    pub(crate) fn copied() -> Self {
        let shared = Self::shared();
        Self {
            project: shared.project.copied(),
            ids: shared.ids.clone(),
        }
    }

    fn run() -> Self {
        // A static is never dropped, so that its folder outlives the process: the next one clears up.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        clear_up(folder);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder);
        let project = Project::within(dir.unwrap());
        project.write("sweeps/study.toml", STUDY);
        project.write("sweeps/broken.toml", BROKEN);
        for (sweep, code) in [("study", 0), ("broken", 100)] {
            let said = project.lions(&["run", &format!("sweeps/{sweep}.toml"), "--quiet"]);
            assert_eq!(said.code, code, "{said:?}");
        }
        let mut ids = BTreeMap::new();
        for sweep in ["study", "broken"] {
            let status = project.json(&["status", sweep]);
            for run in status["runs"].as_array().unwrap() {
                let (id, kind) = (run["id"].as_str().unwrap(), run["kind"].as_str().unwrap());
                let word = match run["state"]["state"].as_str().unwrap() {
                    "succeeded" if sweep == "study" => kind.to_owned(),
                    "succeeded" => format!("broken-{kind}"),
                    state => state.to_owned(),
                };
                ids.entry(word).or_insert_with(|| id.to_owned());
            }
        }
        Self { project, ids }
    }

    /// The id that a word such as `dpo` or `failed` stands for.
    pub(crate) fn id(&self, word: &str) -> &str {
        &self.ids[word]
    }

    /// Runs each line and returns the transcript. `<dpo>` in a line is the id of the first such run.
    pub(crate) fn session(&self, lines: &[&str]) -> String {
        session(&self.project, lines, &self.ids)
    }
}

/// Runs each line in `project` and returns the transcript.
pub(crate) fn session_in(project: &Project, lines: &[&str]) -> String {
    session(project, lines, &BTreeMap::new())
}

/// For each line: the line, what came on stdout, what came on stderr behind `! `, the exit code.
fn session(project: &Project, lines: &[&str], ids: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for line in lines {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| {
                let named = word.strip_prefix('<').and_then(|w| w.strip_suffix('>'));
                named.map_or(word.to_owned(), |name| ids[name].clone())
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = project.lions(&words);
        assert!(!said.err.contains("panicked"), "{said:?}");
        let shown = if words.contains(&"--json") && said.code == 0 {
            shape_of(&said)
        } else {
            said.out
        };
        let _ = writeln!(text, "{}", format!("$ lions {line}").trim_end());
        text.push_str(&plain(project, &shown));
        for line in plain(project, &said.err).lines() {
            let _ = writeln!(text, "{}", format!("! {line}").trim_end());
        }
        let _ = writeln!(text, "[{}]\n", said.code);
    }
    text
}

/// What a run, a machine and an hour make different, by words that stand for it. Measured numbers
/// depend on the processor; so does how wide a column of them is.
fn plain(project: &Project, text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
            (r"\.old-\d+", ".old-<time>"),
            (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<hex>"),
            (r"\b[0-9a-f]{6} → [0-9a-f]{6}\b", "<hex> → <hex>"),
            (r"\b\d+\.\d+ ?s\b|\b\d+(s|m\d\ds)\b", "<secs>"),
            (r"[-−+]?\b\d+\.\d{3,}(e[-+]?\d+)?\b", "<n>"),
            (r"\b\d+\.\d+ \[\d+\.\d+, \d+\.\d+\]", "<n> [<n>, <n>]"),
            (r"(\w+/\w+) +-?\d\S*", "$1 <n>"),
            (r"p ([<=>]) \.\d+", "p $1 <n>"),
            (r"\([\d.]+k?/s\), [\d.]+ [KMG]iB", "(<n>/s), <n>"),
            (r"files, [\d.]+ [KMG]iB", "files, <n>"),
            (r"^  machine .*$", "  machine <here>"),
        ]
        .map(|(rule, word)| (Regex::new(rule).unwrap(), word))
        .into()
    });
    /// What computed a run: not every machine says all of it.
    static COMPUTED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^  (processor|instructions|built.from|project|card|driver)[ :]").unwrap()
    });
    static BLANKS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\S) {2,}|─{2,}").unwrap());
    /// What is said of the noise of a column.
    static NOISE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"Noise of differences .*|with .* \(noise of earlier results\)").unwrap()
    });
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b\d+(\.\d+)?\b").unwrap());
    /// A cell of a table as CSV that is a number, however short.
    static CELL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r",-?\d[-\d.e]*\b").unwrap());
    /// A line with more is a row of a table as CSV.
    const CSV_COMMAS: usize = 12;
    let root = project.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let version = env!("CARGO_PKG_VERSION");
    let mut shown = String::new();
    let text = text.replace(root, "<project>");
    for line in text.lines().filter(|line| !COMPUTED.is_match(line)) {
        let mut line = line.replace(version, "<version>");
        for (rule, word) in RULES.iter() {
            line = rule.replace_all(&line, *word).into_owned();
        }
        let told = |found: &Captures<'_>| NUMBER.replace_all(&found[0], "<n>").into_owned();
        line = NOISE.replace_all(&line, told).into_owned();
        if line.matches(',').count() > CSV_COMMAS {
            line = CELL.replace_all(&line, ",<n>").into_owned();
        }
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
    if ["<n>", "<secs>"].iter().any(|word| shown.contains(word)) {
        shown = BLANKS.replace_all(&shown, "$1  ").into_owned();
    }
    shown
}

/// The keys of a JSON answer and what kind of value each has; of a list its first element.
fn shape_of(said: &Said) -> String {
    let value: Value = serde_json::from_str(&said.out).unwrap();
    let mut text = String::new();
    shape(&value, 0, &mut text);
    text
}

fn shape(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if depth < 2 => {
            for (key, value) in map {
                let _ = writeln!(text, "{indent}{key}: {}", kind(value));
                shape(value, depth + 1, text);
            }
        }
        Value::Array(list) if depth < 2 => {
            if depth == 0 {
                let _ = writeln!(text, "{}", kind(value));
            }
            if let Some(first) = list.first().filter(|v| v.is_object()) {
                shape(first, depth + 1, text);
            }
        }
        _ => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

const PREFIX: &str = "study-";

/// Removes what processes of an hour ago and more have left.
fn clear_up(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let old = entry
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_hours(1)));
        if old && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Two learning rates so far apart that no processor doubts which is the better.
const STUDY: &str = r#"extends = ["smoke.toml"]

[sweep]
name = "study"
question = "How fast may the policy learn?"

[base.dpo.recipe]
global-batch-size = 4

[[axis]]
name = "rate"
path = "dpo.recipe.optimizer.learning-rate"
values = [1e-5, 1e-2]

[[report.table]]
name = "rate"
title = "Learning rate"
metrics = ["tales/loss", "polite/rewards/margins"]
baseline = { rate = 1e-5 }

[[report.figure]]
name = "rate"
title = "Loss over the learning rate"
kind = "lines"
metric = "tales/loss"
x = "rate"

[[report.figure]]
name = "margin"
title = "Probability margin along training"
kind = "training"
metric = "eval_polite_test/prob_margin"
series = "rate"
"#;

/// Of two learning rates one ruins the weights. Trains adapters, so that there are some to merge.
const BROKEN: &str = r#"extends = ["study.toml"]

[sweep]
name = "broken"
question = "What does a ruined training look like?"
seeds = [1]

[base.dpo.recipe]
lora = { rank = 2, alpha = 4, targets = ["q_proj"] }
monitor = { data = [{ path = "data/pref/polite_test.jsonl" }], every-steps = 100 }

[[axis]]
name = "rate"
path = "dpo.recipe.optimizer.learning-rate"
values = [1e-4, 1e38]

[report]
figure = []

[[report.table]]
name = "rate"
title = "Learning rate"
metrics = ["tales/loss"]
"#;
