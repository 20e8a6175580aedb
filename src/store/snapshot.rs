//! What a sweep was registered with, beside the database: `results/sweeps/<name>.json`.
//!
//! Run folders are the truth for results, but know nothing of sweeps. From this file
//! [`rebuild()`](crate::store::rebuild()) brings sweeps and trials back.

use crate::base::fs::is_gone;
use crate::base::{PathError, Timestamp, is_as_written, with_check, write_atomic};
use crate::config::sweep::Sweep;
use crate::plan::{Plan, PlannedTrial, RunId, StageKind};
use crate::store::error::StoreError;
use crate::store::file_stem::stem_of;
use crate::store::rows::known_flops;
use crate::store::stored::content_of;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Version of the file.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    name: &'a str,
    question: &'a str,
    runs: Vec<SnapshotRun>,
    trials: Vec<SnapshotTrial>,
    content: String,
}

/// A sweep as it was registered.
#[derive(Debug, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) question: String,
    /// In an order in which a run comes after those that it needs.
    pub(crate) runs: Vec<SnapshotRun>,
    pub(crate) trials: Vec<SnapshotTrial>,
    /// What the column `sweep.content` holds.
    pub(crate) content: String,
    /// When the file was written.
    #[serde(skip, default = "never")]
    pub(crate) registered: Timestamp,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

fn never() -> Timestamp {
    Timestamp(0)
}

/// A run of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotRun {
    pub(crate) id: RunId,
    pub(crate) kind: StageKind,
    pub(crate) parents: Vec<RunId>,
    pub(crate) tokens: u64,
    pub(crate) flops: f64,
    pub(crate) peak_memory_bytes: u64,
}

/// A trial of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotTrial {
    pub(crate) index: usize,
    pub(crate) label: String,
    pub(crate) seed: u64,
    pub(crate) assignments: serde_json::Value,
    pub(crate) runs: Vec<RunId>,
    pub(crate) eval: RunId,
}

impl SnapshotTrial {
    /// Of a trial of a plan.
    pub(crate) fn of(trial: &PlannedTrial) -> Result<Self, StoreError> {
        let assignments = serde_json::to_value(&trial.assignments);
        Ok(Self {
            index: trial.index,
            label: trial.label.clone(),
            seed: trial.seed,
            assignments: assignments.map_err(|source| StoreError::Json {
                what: "a trial's assignments",
                source,
            })?,
            runs: trial.runs.clone(),
            eval: trial.eval.clone(),
        })
    }
}

/// Keeps what a sweep is registered with; an unchanged file is left alone.
///
/// # Errors
/// The file cannot be written.
pub fn write_snapshot(root: &Path, sweep: &Sweep, plan: &Plan) -> Result<(), StoreError> {
    let json = |source| StoreError::Json {
        what: "the snapshot of the sweep",
        source,
    };
    let runs = plan.runs.iter().map(|run| SnapshotRun {
        id: run.id.clone(),
        kind: run.kind,
        parents: run.parents.clone(),
        tokens: run.estimate.tokens,
        flops: known_flops(run.estimate.flops),
        peak_memory_bytes: run.estimate.peak_memory_bytes,
    });
    let trials = plan.trials.iter().map(SnapshotTrial::of);
    let written = Written {
        format: FORMAT,
        name: &sweep.name,
        question: &sweep.question,
        runs: runs.collect(),
        trials: trials.collect::<Result<_, _>>()?,
        content: content_of(sweep)?,
    };
    let text = with_check(&serde_json::to_string(&written).map_err(json)?);
    let path = folder(root).join(file_name(&sweep.name));
    if std::fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    Ok(write_atomic(&path, text.as_bytes())?)
}

/// Forgets what a sweep was registered with.
///
/// # Errors
/// The file cannot be removed.
pub(crate) fn remove_snapshot(root: &Path, sweep: &str) -> Result<(), StoreError> {
    let path = folder(root).join(file_name(sweep));
    match std::fs::remove_file(&path) {
        Err(e) if !is_gone(&e) => Err(PathError::new("remove", path, e).into()),
        _ => Ok(()),
    }
}

/// When a sweep, its report included, last was another one than now: its file was written then.
///
/// # Errors
/// There is no file of it, or it cannot be read.
pub fn last_change(root: &Path, sweep: &str) -> io::Result<SystemTime> {
    folder(root).join(file_name(sweep)).metadata()?.modified()
}

/// Every snapshot below `root`, and the files that are none, with the reason.
///
/// # Errors
/// The folder cannot be listed.
#[expect(clippy::type_complexity, reason = "two lists")]
pub(crate) fn read_snapshots(
    root: &Path,
) -> Result<(Vec<Snapshot>, Vec<(PathBuf, String)>), StoreError> {
    let folder = folder(root);
    let (mut snapshots, mut passed_over) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if is_gone(&e) => return Ok((snapshots, passed_over)),
        Err(e) => return Err(PathError::new("read", folder, e).into()),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    for path in paths {
        match read(&path) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(why) => passed_over.push((path, why)),
        }
    }
    Ok((snapshots, passed_over))
}

fn read(path: &Path) -> Result<Snapshot, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    if is_as_written(&text) != Some(true) {
        return Err("it is not as it was written".to_owned());
    }
    let Head { format } = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    if format > FORMAT {
        return Err(format!(
            "it is of a later version: it has format {format}, this build knows up to {FORMAT}"
        ));
    }
    let mut snapshot: Snapshot = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let modified = path.metadata().and_then(|meta| meta.modified());
    let since = modified
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let millis = since.unwrap_or_default().as_millis();
    snapshot.registered = Timestamp(i64::try_from(millis).unwrap_or(i64::MAX));
    Ok(snapshot)
}

fn folder(root: &Path) -> PathBuf {
    root.join("results/sweeps")
}

fn file_name(sweep: &str) -> String {
    format!("{}.json", stem_of(sweep))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::grid;

    #[test]
    fn a_snapshot_of_a_later_version_is_passed_over_by_that_name() {
        let root = tempfile::tempdir().unwrap();
        let (sweep, plan) = grid(&[0.1], &[10], &[1]);
        write_snapshot(root.path(), &sweep, &plan).unwrap();
        let later = with_check(r#"{"format":2,"shape":"new"}"#);
        let path = folder(root.path()).join("later.json");
        write_atomic(&path, later.as_bytes()).unwrap();
        let (read, passed_over) = read_snapshots(root.path()).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(passed_over[0].0, path);
        let why = &passed_over[0].1;
        assert!(why.starts_with("it is of a later version"), "{why}");
    }
}
