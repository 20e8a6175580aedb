//! A small project in a temporary folder: the real model, the heads of the real data files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Rows of each data file that the small project has.
const HEAD: usize = 24;

/// A project folder that goes away with the value.
pub(crate) struct Project {
    dir: TempDir,
}

impl Project {
    /// A project folder without models, data and sweeps.
    pub(crate) fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sweeps")).unwrap();
        Self { dir }
    }

    /// The shipped model and base file, and the first rows of every data file.
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// The same in a folder that is there.
    pub(crate) fn within(dir: TempDir) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(
            &here.join("models/stories260k"),
            &dir.path().join("models/stories260k"),
            usize::MAX,
        );
        copy(&here.join("data/sft"), &dir.path().join("data/sft"), HEAD);
        copy(&here.join("data/pref"), &dir.path().join("data/pref"), HEAD);
        // Whole: a question and its reference answer stand in different files.
        copy(
            &here.join("data/bench/mt_bench"),
            &dir.path().join("data/bench/mt_bench"),
            usize::MAX,
        );
        copy(
            &here.join("sweeps/base"),
            &dir.path().join("sweeps/base"),
            usize::MAX,
        );
        let project = Self { dir };
        project.write("sweeps/smoke.toml", SMOKE);
        project
    }

    /// Everything that is in this project, in a folder of its own.
    pub(crate) fn copied(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(self.dir.path(), dir.path());
        Self { dir }
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    /// The newest `STEM_DATE.ENDING` of a folder, by its name.
    pub(crate) fn dated(&self, folder: &str, stem: &str, ending: &str) -> String {
        let names = fs::read_dir(self.path(folder)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let dated = |name: &String| {
            let date = name
                .strip_prefix(stem)
                .and_then(|n| n.strip_suffix(ending))
                .and_then(|n| n.strip_prefix('_'));
            date.is_some_and(|date| date.starts_with(|c: char| c.is_ascii_digit()))
        };
        let newest = names.filter(dated).max();
        format!(
            "{folder}/{}",
            newest.unwrap_or_else(|| panic!("no {stem} in {folder}"))
        )
    }

    /// What it holds.
    pub(crate) fn read_dated(&self, folder: &str, stem: &str, ending: &str) -> String {
        self.read(&self.dated(folder, stem, ending))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own files need not be atomic"
    )]
    pub(crate) fn write(&self, relative: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces the one occurrence of `from`.
    pub(crate) fn edit(&self, relative: &str, from: &str, to: &str) {
        let text = self.read(relative);
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {relative}");
        self.write(relative, text.replace(from, to));
    }

    /// The program, about to run in this project.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_lions")), words)
    }

    /// The same of a copy of the program.
    pub(crate) fn command_of(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .args(words)
            .env_remove("COLUMNS")
            .env_remove("NO_COLOR")
            // The same on every machine: cards that are there stay hidden.
            .env("CUDA_VISIBLE_DEVICES", "")
            .env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn lions(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap())
    }

    /// Runs the program, which must end with 0, and reads its stdout as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> serde_json::Value {
        let said = self.lions(&[words, &["--json"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }

    /// Runs the smoke sweep and returns its summary, which is the last event.
    pub(crate) fn run_smoke(&self, code: i32) -> serde_json::Value {
        let said = self.lions(&["run", "sweeps/smoke.toml", "--json", "--jobs", "2"]);
        assert_eq!(said.code, code, "{said:?}");
        let last: serde_json::Value =
            serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        assert_eq!(last["kind"], "sweep-finished", "{said:?}");
        last["summary"].clone()
    }
}

/// What the program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

/// Copies the files of a folder, text files up to `lines` lines.
fn copy(from: &Path, to: &Path, lines: usize) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.extension().is_some_and(|e| e == "jsonl") && lines < usize::MAX {
            let text = fs::read_to_string(&path).unwrap();
            let head: String = text.split_inclusive('\n').take(lines).collect();
            #[expect(
                clippy::disallowed_methods,
                reason = "a test's own files need not be atomic"
            )]
            fs::write(&target, head).unwrap();
        } else if path.is_file() {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Copies a folder and all that is below it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
            // A report is current if it is later than what it tells of.
            let modified = path.metadata().unwrap().modified().unwrap();
            let copy = fs::File::open(&target).unwrap();
            copy.set_modified(modified).unwrap();
        }
    }
}

/// One SFT checkpoint, two strengths of DPO, two seeds: the whole way through in seconds.
const SMOKE: &str = r#"extends = ["base/mini.toml"]

[sweep]
name = "smoke"
question = "Does the whole way through work?"
seeds = [1, 2]

[base]
pipeline = ["sft", "dpo"]

[base.sft.recipe]
seed = 1
batch = { tokens = 512 }
max-seq-len = 256
duration = { steps = 3 }

[base.dpo.recipe]
global-batch-size = 8
max-examples = 16
monitor = { data = [{ path = "data/pref/polite_test.jsonl" }], every-steps = 1 }

[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl" }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 4 }], max-seq-len = 256 }

[base.eval.recipe.preference.polite]
data = [{ path = "data/pref/polite_test.jsonl" }]
limits = { max-seq-len = 256, max-prompt-len = 128, truncation = "keep-end" }

[base.eval.recipe.stories.stories]
data = [{ path = "data/sft/stories_test.jsonl" }]
max-prompts = 2
samples = 1
sampling = { temperature = 0.7, top-p = 0.95, max-new-tokens = 12 }
seed = 1

[[axis]]
path = "dpo.recipe.beta"
values = [0.1, 0.5]

[[report.table]]
name = "beta"
title = "Pull to the reference"
metrics = ["polite/rewards/accuracies", "polite/rewards/margins"]
baseline = { beta = 0.1 }

[[report.figure]]
name = "beta"
title = "Accuracy over β"
kind = "lines"
metric = "polite/rewards/accuracies"
x = "beta"

[[report.figure]]
name = "margin"
title = "Probability margin along training"
kind = "training"
metric = "eval_polite_test/prob_margin"
series = "beta"
"#;
