//! A study of seconds: its sweep file from few lines, its run, and what the store says afterwards.

use crate::project::{Project, copy_tree};
use candle_core::{Device, Tensor};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeMap;

/// A project with `sweeps/tiny.toml`, which studies extend: two steps of SFT from a seed of its own,
/// small batches, small held-out sets.
pub(crate) fn project() -> Project {
    let project = Project::new();
    project.write("sweeps/tiny.toml", TINY);
    project
}

const TINY: &str = r#"extends = ["base/mini.toml"]
[base]
pipeline = ["sft"]
[base.sft.recipe]
seed = 1
max-seq-len = 256
batch = { tokens = 512 }
duration = { steps = 2 }
[base.dpo.recipe]
global-batch-size = 4
duration = { steps = 2 }
[base.online-dpo.recipe]
rounds = 1
samples = 3
sampling = { temperature = 1.0, top-p = 1.0, max-new-tokens = 12 }
prompts = { per-round = 6 }
dpo = { duration = { steps = 2 }, global-batch-size = 4 }
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 4 }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }
"#;

/// Held-out pairs, as lines of a sweep file.
pub(crate) const POLITE: &str = r#"[base.eval.recipe.preference.polite]
data = [{ path = "data/pref/polite_test.jsonl", count = 4 }]
limits = { max-seq-len = 256, max-prompt-len = 128, truncation = "keep-end" }
"#;

/// A sweep over one axis, `arm`, of named points; `rest` are further lines of the file.
pub(crate) fn sweep(name: &str, arms: &[(&str, String)], rest: &str) -> String {
    let point = |(label, set): &(&str, String)| {
        format!(
            "  {{ label = {}, set = {{ {set} }} }},\n",
            Value::from(*label)
        )
    };
    let points: String = arms.iter().map(point).collect();
    format!(
        r#"extends = ["tiny.toml"]
[sweep]
name = "{name}"
question = "Does each arm do what is said of it?"
seeds = [1]
[[axis]]
name = "arm"
points = [
{points}]
{rest}"#
    )
}

/// A table of a sweep file.
pub(crate) fn table(metrics: &[&str]) -> String {
    let metrics = Value::from(metrics.to_vec());
    format!("[[report.table]]\nname = \"main\"\ntitle = \"Arms\"\nmetrics = {metrics}\n")
}

/// Runs a sweep file of the project, which must end well.
pub(crate) fn run(project: &Project, name: &str) -> Results {
    let file = format!("sweeps/{name}.toml");
    let said = project.lions(&["run", &file, "--jobs", "2", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    Results::open(project, name)
}

/// Writes the sweep, runs it, and finds every arm with every metric in its table.
pub(crate) fn run_arms(
    project: &Project,
    name: &str,
    arms: &[(&str, String)],
    metrics: &[&str],
    rest: &str,
) -> Results {
    let text = sweep(name, arms, &format!("{rest}\n{}", table(metrics)));
    project.write(format!("sweeps/{name}.toml"), text);
    let results = run(project, name);
    let shown = &project.json(&["compare", name])[0];
    let rows = shown["rows"].as_array().unwrap();
    assert_eq!(rows.len(), arms.len(), "{shown}");
    for ((arm, _), row) in arms.iter().zip(rows) {
        let cells = row["results"].as_array().unwrap();
        assert_eq!(cells.len(), metrics.len(), "{row}");
        for (metric, cell) in metrics.iter().zip(cells) {
            assert_eq!(cell["metric"], *metric);
            let stored = results.value(arm, metric);
            assert_eq!(cell["estimate"]["value"], stored, "{arm}, {metric}");
        }
    }
    results
}

/// What the store and the run folders hold of one sweep, by the label of an arm.
pub(crate) struct Results {
    store: Connection,
    runs: std::path::PathBuf,
    sweep: String,
}

impl Results {
    pub(crate) fn open(project: &Project, sweep: &str) -> Self {
        Self {
            store: Connection::open(project.path("results/lions.db")).unwrap(),
            runs: project.path("results/runs"),
            sweep: sweep.to_owned(),
        }
    }

    /// A final metric of the arm's evaluation.
    pub(crate) fn value(&self, arm: &str, metric: &str) -> f64 {
        let sql = "SELECT value FROM trial_metric WHERE sweep = ?1 AND assignments ->> 'arm' = ?2
            AND metric = ?3 AND stage = 'eval'";
        let found = self
            .store
            .query_row(sql, [&self.sweep, arm, metric], |row| row.get(0));
        found.unwrap_or_else(|e| panic!("{arm}, {metric}: {e}"))
    }

    /// The arm's runs of one stage, in order.
    pub(crate) fn runs(&self, arm: &str, stage: &str) -> Vec<String> {
        let sql = "SELECT substr(run.run_id, 1, 12) FROM trial JOIN sweep ON sweep.id = trial.sweep
            JOIN trial_run ON trial_run.trial = trial.id JOIN run ON run.id = trial_run.run
            WHERE sweep.name = ?1 AND trial.assignments ->> 'arm' = ?2 AND run.kind = ?3
            ORDER BY trial_run.position";
        let mut found = self.store.prepare(sql).unwrap();
        let rows = found.query_map([&self.sweep, arm, stage], |row| row.get(0));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The run of one stage at each seed, of the trials with a value of an axis.
    pub(crate) fn by_seed(&self, axis: &str, value: &str, stage: &str) -> BTreeMap<u64, String> {
        let sql = "SELECT trial.seed, substr(run.run_id, 1, 12) FROM trial JOIN sweep ON sweep.id = trial.sweep
            JOIN trial_run ON trial_run.trial = trial.id JOIN run ON run.id = trial_run.run
            WHERE sweep.name = ?1 AND trial.assignments ->> ?2 = CAST(?3 AS REAL) AND run.kind = ?4";
        let mut found = self.store.prepare(sql).unwrap();
        let rows = found.query_map([&self.sweep, axis, value, stage], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The arm's only run of one stage.
    pub(crate) fn only(&self, arm: &str, stage: &str) -> String {
        let runs = self.runs(arm, stage);
        assert_eq!(runs.len(), 1, "{arm}, {stage}: {runs:?}");
        runs[0].clone()
    }

    /// The only run of one stage in the store.
    pub(crate) fn of_kind(&self, stage: &str) -> String {
        let sql = "SELECT substr(run_id, 1, 12) FROM run WHERE kind = ?1";
        let mut found = self.store.prepare(sql).unwrap();
        let runs = found.query_map([stage], |row| row.get(0)).unwrap();
        let runs: Vec<String> = runs.map(Result::unwrap).collect();
        assert_eq!(runs.len(), 1, "{stage}: {runs:?}");
        runs[0].clone()
    }

    /// A metric along training, by step.
    pub(crate) fn steps(&self, run: &str, metric: &str) -> BTreeMap<i64, f64> {
        let sql = "SELECT step, value FROM training WHERE run = ?1 AND metric = ?2";
        let mut found = self.store.prepare(sql).unwrap();
        let rows = found.query_map([run, metric], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// A final metric of any run.
    pub(crate) fn metric(&self, run: &str, metric: &str) -> f64 {
        let sql = "SELECT value FROM metric JOIN run ON run.id = metric.run
            WHERE substr(run.run_id, 1, 12) = ?1 AND key = ?2";
        let found = self.store.query_row(sql, [run, metric], |row| row.get(0));
        found.unwrap_or_else(|e| panic!("{run}, {metric}: {e}"))
    }

    /// What a run counted; some counts are there only where there was something to count.
    pub(crate) fn counted(&self, run: &str, name: &str) -> Option<usize> {
        let sql = "SELECT value FROM count JOIN run ON run.id = count.run
            WHERE substr(run.run_id, 1, 12) = ?1 AND name = ?2";
        let found = self.store.query_row(sql, [run, name], |row| row.get(0));
        found.ok().map(|count: i64| count.try_into().unwrap())
    }

    /// The same of what is always counted.
    pub(crate) fn count(&self, run: &str, name: &str) -> usize {
        let found = self.counted(run, name);
        found.unwrap_or_else(|| panic!("run {run} does not count {name}"))
    }

    /// A run's folder.
    pub(crate) fn folder(&self, run: &str) -> std::path::PathBuf {
        self.runs.join(run)
    }

    /// A file or folder that a run made.
    pub(crate) fn artifact(&self, run: &str, path: &str) -> std::path::PathBuf {
        self.runs.join(run).join("artifacts").join(path)
    }

    /// The lines of an artifact of JSON lines.
    pub(crate) fn lines(&self, run: &str, path: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.artifact(run, path)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// The bytes of the arm's evaluated weights.
    pub(crate) fn weights(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.artifact(run, "model/model.safetensors")).unwrap()
    }
}

/// Fails unless the two differ by at most `tolerance`, relative where they are above 1.
#[track_caller]
pub(crate) fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    let error = (got - want).abs() / want.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {got}, not {want}");
}

/// Tokens of the preferred and of the other reply of the first pairs of a trial, by the pair's name, as
/// `lions inspect` shows them.
pub(crate) fn reply_tokens(
    project: &Project,
    sweep: &str,
    trial: usize,
    pairs: usize,
) -> BTreeMap<String, [f64; 2]> {
    let file = format!("sweeps/{sweep}.toml");
    let count = |row: usize| {
        let (trial, row) = (trial.to_string(), row.to_string());
        let words = ["inspect", &file, "--trial", &trial, "--row", &row];
        let shown = project.json(&words);
        let title = shown["title"].as_str().unwrap();
        let id = title.split('`').nth(1).unwrap().to_owned();
        let tokens = shown["tokens"].as_array().unwrap();
        let of = |side: &str| {
            let of_side = tokens.iter().filter(|token| token["document"] == side);
            of_side.filter(|token| token["target"] == true).count() as f64
        };
        (id, [of("chosen"), of("rejected")])
    };
    (0..pairs).map(count).collect()
}

/// The shipped decoder with a scalar head of alternating signs, as a folder of the project.
pub(crate) fn reward_model(project: &Project, folder: &str) {
    let source = project.path("models/stories260k");
    copy_tree(&source, &project.path(folder));
    let file = project.path(folder).join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let signs = (0..64).map(|i| if i % 3 == 0 { 1.0f32 } else { -1.0 });
    let head = Tensor::from_iter(signs, &Device::Cpu).unwrap();
    tensors.insert("score.weight".to_owned(), head.unsqueeze(0).unwrap());
    candle_core::safetensors::save(&tensors, &file).unwrap();
}
