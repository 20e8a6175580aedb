//! Results files of lm-evaluation-harness 0.4, of whatever model, as results that ours can be compared with.

use crate::base::fs::read_to_string;
use crate::base::{PathError, digest_bytes};
use crate::metrics::metric_spec;
use crate::plan::{RunId, StageKind};
use crate::report::select::{ReportError, RowValue, RunInfo, RunStatus, read_lines};
use crate::rundir::MetricValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a results file says, under our keys.
#[derive(Clone, Debug, PartialEq)]
pub struct HarnessResults {
    /// What the model is called there.
    pub name: String,
    /// Stands for the run that there is none of: the digest of the file.
    pub run: RunId,
    /// Final metrics by key: `gsm8k/strict-match/exact_match`, `mmlu/stem/acc`.
    pub metrics: BTreeMap<String, MetricValue>,
    /// The rows of the files of samples that lie beside it.
    pub rows: Vec<RowValue>,
}

impl HarnessResults {
    /// As a run that is done.
    pub(super) fn info(&self) -> RunInfo {
        RunInfo {
            id: self.run.clone(),
            kind: StageKind::Eval,
            seed: None,
            status: RunStatus::Done,
            metrics: self.metrics.clone(),
            counts: BTreeMap::new(),
            notes: Vec::new(),
            usage: None,
            provenance: BTreeMap::new(),
        }
    }
}

/// Reads a results file, or the newest one of a folder or of its subfolders, with the samples beside it.
///
/// # Errors
/// There is none, it cannot be read, or it holds no results.
pub fn read_harness_results(path: &Path) -> Result<HarnessResults, ReportError> {
    let file = results_file(path)?;
    let wrong = |reason: String| ReportError::Harness {
        path: file.clone(),
        reason,
    };
    let text = read_to_string(&file)?;
    let read: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("no JSON: {e}")))?;
    let Some(results) = read["results"].as_object() else {
        return Err(wrong("there is no object `results`".to_owned()));
    };
    let places = Places::of(&read);
    let mut metrics = BTreeMap::new();
    for (task, values) in results {
        for (key, value) in values.as_object().into_iter().flatten() {
            let Some((metric, filter)) = key.split_once(',') else {
                continue;
            };
            let (false, Some(value)) = (metric.ends_with("_stderr"), value.as_f64()) else {
                continue;
            };
            let stderr = values[format!("{metric}_stderr,{filter}")].as_f64();
            let counted = [&read["n-samples"][task]["effective"], &values["sample_len"]];
            let n = counted.into_iter().find_map(Value::as_u64).unwrap_or(0);
            let key = key_of(&places.set(task), filter, our_metric(task, metric));
            metrics.insert(key, MetricValue { value, stderr, n });
        }
    }
    if metrics.is_empty() {
        return Err(wrong("it holds no value of any task".to_owned()));
    }
    Ok(HarnessResults {
        name: name_of(&read, &file),
        run: RunId(digest_bytes(text.as_bytes()).0),
        rows: rows_beside(&file, results, &places)?,
        metrics,
    })
}

/// The file itself, or the newest in the folder.
fn results_file(path: &Path) -> Result<PathBuf, ReportError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let list = |folder: &Path| -> Result<Vec<PathBuf>, ReportError> {
        let failed = |e| PathError::new("read", folder, e);
        let entries = std::fs::read_dir(folder).map_err(failed)?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()));
        Ok(entries.collect::<Result<_, _>>().map_err(failed)?)
    };
    let mut all = list(path)?;
    for folder in all.clone().into_iter().filter(|path| path.is_dir()) {
        all.extend(list(&folder)?);
    }
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let json = path.extension().is_some_and(|ending| ending == "json");
        (json && name.starts_with("results")).then(|| name.into_owned())
    };
    let newest = all.into_iter().filter(|path| named(path).is_some());
    newest
        .max_by_key(named)
        .ok_or_else(|| ReportError::Harness {
            path: path.to_owned(),
            reason: "the folder has no `results_….json`".to_owned(),
        })
}

/// Which tasks are parts of which.
struct Places(BTreeMap<String, String>);

impl Places {
    fn of(read: &Value) -> Self {
        let groups = read["group_subtasks"].as_object();
        let mut parents = BTreeMap::new();
        for (group, parts) in groups.into_iter().flatten() {
            let parts = parts.as_array().into_iter().flatten();
            for part in parts.filter_map(Value::as_str) {
                parents.insert(part.to_owned(), group.clone());
            }
        }
        Self(parents)
    }

    /// The outermost group whose name a task's begins with, and the rest of its name.
    fn split<'t>(&self, task: &'t str) -> Option<(String, &'t str)> {
        let mut own = task;
        let mut found = None;
        // No group is its own, however deep; a file that says so ends this.
        for _ in 0..16 {
            let Some(parent) = self.0.get(own) else { break };
            let rest = task.strip_prefix(parent.as_str());
            let rest = rest.and_then(|rest| rest.strip_prefix('_'));
            found = rest.map(|rest| (parent.clone(), rest)).or(found);
            own = parent;
        }
        found
    }

    /// The set of a task: `mmlu/anatomy` of `mmlu_anatomy`.
    fn set(&self, task: &str) -> String {
        match self.split(task) {
            Some((group, part)) => format!("{group}/{part}"),
            None => task.to_owned(),
        }
    }
}

fn key_of(set: &str, filter: &str, metric: &str) -> String {
    match filter {
        "none" => format!("{set}/{metric}"),
        filter => format!("{set}/{filter}/{metric}"),
    }
}

/// Our name of a metric.
fn our_metric<'m>(task: &str, metric: &'m str) -> &'m str {
    match (task, metric) {
        ("truthfulqa_mc2", "acc") => "mc2",
        (_, metric) => metric,
    }
}

/// What the model is called: of a path the last part.
fn name_of(read: &Value, file: &Path) -> String {
    let named = [&read["model_name"], &read["config"]["model_args"]];
    let named = named.into_iter().find_map(Value::as_str);
    let named = named.filter(|name| !name.is_empty());
    let Some(name) = named else {
        let stem = file.file_stem().unwrap_or_default();
        return stem.to_string_lossy().into_owned();
    };
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        // An organisation and its model.
        [_, _] if !name.starts_with(['/', '.']) => name.to_owned(),
        [.., last] => (*last).to_owned(),
        [] => name.to_owned(),
    }
}

/// Rows of the files of samples of the same date.
fn rows_beside(
    file: &Path,
    results: &Map<String, Value>,
    places: &Places,
) -> Result<Vec<RowValue>, ReportError> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let date = stem.strip_prefix("results").unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut rows: Vec<RowValue> = Vec::new();
    for task in results.keys() {
        let path = folder.join(format!("samples_{task}{date}.jsonl"));
        let read = read_lines(&path, |line| serde_json::from_str(line).map(Some))?;
        rows.extend(read.iter().filter_map(|line| row_of(line, task, places)));
    }
    Ok(rows)
}

/// A line of samples as a row of ours.
fn row_of(line: &Value, task: &str, places: &Places) -> Option<RowValue> {
    let id = line["doc_id"].as_u64()?;
    let (set, row) = match places.split(task) {
        Some((group, part)) => (group, format!("{part}/{id}")),
        None => (task.to_owned(), id.to_string()),
    };
    let set = match line["filter"].as_str() {
        Some("none") | None => set,
        Some(filter) => format!("{set}/{filter}"),
    };
    let names = line["metrics"].as_array()?.iter().filter_map(Value::as_str);
    let metrics = names.filter_map(|metric| {
        let value = &line[metric];
        let value = value.as_f64().or_else(|| value.as_bool().map(f64::from))?;
        Some((our_metric(task, metric).to_owned(), value))
    });
    Some(RowValue {
        set,
        row,
        metrics: metrics.collect(),
        cluster: None,
    })
}

/// Keys of the file that nothing of ours is called like, for messages: the first few.
pub fn some_keys(results: &HarnessResults) -> String {
    let keys: Vec<String> = results
        .metrics
        .keys()
        .filter(|key| !metric_spec(key).suffix.is_empty())
        .take(4)
        .map(|key| format!("`{key}`"))
        .collect();
    keys.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval/files")
    }

    // A file that lm_eval 0.4.13 wrote (`eval/make/harness_files.py`).
    #[test]
    fn a_file_of_the_harness_is_read_under_our_keys() {
        let read = read_harness_results(&golden().join("results.json")).unwrap();
        assert_eq!(read.name, "tiny-qwen2");
        let file: Value =
            serde_json::from_str(&std::fs::read_to_string(golden().join("results.json")).unwrap())
                .unwrap();
        for (key, task, theirs) in [
            ("arc_challenge/acc_norm", "arc_challenge", "acc_norm,none"),
            (
                "gsm8k/strict-match/exact_match",
                "gsm8k",
                "exact_match,strict-match",
            ),
            ("mmlu/anatomy/acc", "mmlu_anatomy", "acc,none"),
            ("mmlu/stem/acc", "mmlu_stem", "acc,none"),
            ("mmlu/acc", "mmlu", "acc,none"),
            ("truthfulqa_mc2/mc2", "truthfulqa_mc2", "acc,none"),
        ] {
            let got = read.metrics[key];
            assert_eq!(
                Some(got.value),
                file["results"][task][theirs].as_f64(),
                "{key}"
            );
        }
        assert_eq!(read.metrics["mmlu/acc"].n, 11);
        assert_eq!(read.metrics["arc_challenge/acc"].n, 4);
        // All metrics of rows come to those of the whole.
        for (set, metric, key) in [
            ("mmlu", "acc", "mmlu/acc"),
            (
                "gsm8k/flexible-extract",
                "exact_match",
                "gsm8k/flexible-extract/exact_match",
            ),
            ("truthfulqa_mc2", "mc2", "truthfulqa_mc2/mc2"),
        ] {
            let own = read.rows.iter().filter(|row| row.set == set);
            let own: Vec<f64> = own.map(|row| row.metrics[metric]).collect();
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            assert!((mean - read.metrics[key].value).abs() < 1e-12, "{key}");
        }
        assert_eq!(read_harness_results(&golden()).unwrap(), read);
    }

    #[test]
    fn what_holds_no_results_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let said = |text: &str| {
            let path = dir.path().join("results_x.json");
            write_atomic(&path, text.as_bytes()).unwrap();
            read_harness_results(&path).unwrap_err().to_string()
        };
        assert!(said("{").contains("no JSON"));
        assert!(said("{}").contains("`results`"));
        assert!(said("{\"results\": {\"a\": {\"alias\": \"a\"}}}").contains("no value"));
        let loops = "{\"results\": {\"a_b\": {\"acc,none\": 1}}, \"group_subtasks\": {\"a\": [\"a_b\", \"a\"]}}";
        let path = dir.path().join("results_x.json");
        write_atomic(&path, loops.as_bytes()).unwrap();
        let read = read_harness_results(dir.path()).unwrap();
        assert_eq!(read.metrics.keys().collect::<Vec<_>>(), ["a/b/acc"]);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        let none = read_harness_results(&dir.path().join("empty")).unwrap_err();
        assert!(none.to_string().contains("results_…"), "{none}");
    }
}
