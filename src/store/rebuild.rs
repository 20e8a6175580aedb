//! Makes the store anew from the run folders.

use crate::base::{PathError, Timestamp};
use crate::plan::RunId;
use crate::queue::{QueuedRun, RunState};
use crate::rundir::{
    AttemptEvent, Outcome, RunDir, StageHead, Verify, attempt_numbers, read_events, read_identity,
    read_stage_head, run_folders, verified_outcome,
};
use crate::store::error::StoreError;
use crate::store::open::{STORE_PATH, Store};
use crate::store::write::{StepRecord, insert_outcome, insert_steps, save};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a rebuild found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Runs in the new store.
    pub runs: usize,
    /// Those of them that are done.
    pub done: usize,
    /// Folders that could not be used, and why.
    pub passed_over: Vec<(PathBuf, String)>,
    /// Where the old file was moved, if there was one.
    pub old: Option<PathBuf>,
}

struct Folder {
    stage: StageHead,
    identity: String,
    outcome: Option<Outcome>,
    attempts: Vec<u32>,
    dir: RunDir,
}

/// Makes a new store for the project at `root` from its run folders; an old file is kept beside
/// it. Sweeps and trials come back when their sweep file is run again, without any run being
/// repeated. No runner may be at work.
pub fn rebuild(root: &Path, now: Timestamp) -> Result<Rebuilt, StoreError> {
    let mut rebuilt = Rebuilt::default();
    let mut folders = BTreeMap::new();
    for path in run_folders(root)? {
        match read_folder(root, &path) {
            Ok(folder) => {
                folders.insert(folder.stage.run.clone(), folder);
            }
            Err(why) => rebuilt.passed_over.push((path, why)),
        }
    }
    let path = root.join(STORE_PATH);
    rebuilt.old = set_aside(&path, now)?;
    let mut store = Store::open(&path)?;
    let tx = store.writer()?;
    let mut rows = BTreeMap::new();
    for (id, folder) in &folders {
        rows.insert(id.clone(), put_folder(&tx, folder, now)?);
        rebuilt.runs += 1;
        rebuilt.done += usize::from(folder.outcome.is_some());
    }
    for (id, folder) in &folders {
        put_inputs(&tx, id, folder, &rows)?;
    }
    tx.commit()?;
    Ok(rebuilt)
}

/// Every step metric in the journals of a run's attempts.
pub fn recorded_steps(dir: &RunDir, run: &RunId) -> Result<Vec<StepRecord>, StoreError> {
    let mut steps = Vec::new();
    for attempt in attempt_numbers(dir)? {
        for event in read_events(&dir.attempt(attempt).events())? {
            if let AttemptEvent::Step { step, metrics } = event {
                steps.push(StepRecord {
                    run: run.clone(),
                    attempt,
                    step,
                    metrics,
                });
            }
        }
    }
    Ok(steps)
}

fn read_folder(root: &Path, path: &Path) -> Result<Folder, String> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let dir = RunDir::new(root, &RunId(name));
    let stage = read_stage_head(&dir).map_err(|e| e.to_string())?;
    if RunDir::new(root, &stage.run) != dir {
        return Err(format!("`stage.json` names run {}", stage.run));
    }
    let identity = read_identity(&dir).map_err(|e| e.to_string())?;
    let identity = identity.ok_or_else(|| "no `identity.json`".to_owned())?;
    let attempts = attempt_numbers(&dir).map_err(|e| e.to_string())?;
    let outcome = verified_outcome(&dir, Verify::Sizes).ok().flatten();
    Ok(Folder {
        stage,
        identity,
        outcome,
        attempts,
        dir,
    })
}

fn put_folder(tx: &Transaction<'_>, folder: &Folder, now: Timestamp) -> Result<i64, StoreError> {
    let sql = "INSERT INTO run (run_id, kind, identity, state, attempts, crashes, tokens, flops,
            peak_memory_bytes, created)
        VALUES (?1, ?2, ?3, 'ready', 0, 0, 0, 0.0, 0, ?4)";
    let run = &folder.stage.run;
    let kind = folder.stage.kind().name();
    tx.prepare_cached(sql)?
        .execute(params![run.0, kind, folder.identity, now.0])?;
    let row = tx.last_insert_rowid();
    let state = if folder.outcome.is_some() {
        RunState::Succeeded
    } else {
        RunState::Blocked
    };
    let attempts = folder.attempts.last().copied().unwrap_or_default();
    let finished = folder.outcome.as_ref().map(|outcome| outcome.finished);
    save(
        tx,
        row,
        &QueuedRun {
            state,
            attempts,
            crashes: 0,
        },
        finished,
    )?;
    if let Some(outcome) = &folder.outcome {
        insert_outcome(tx, row, outcome)?;
    }
    insert_steps(tx, &recorded_steps(&folder.dir, run)?)?;
    Ok(row)
}

fn put_inputs(
    tx: &Transaction<'_>,
    id: &RunId,
    folder: &Folder,
    rows: &BTreeMap<RunId, i64>,
) -> Result<(), StoreError> {
    for parent in folder.stage.parents() {
        let (Some(child), Some(parent)) = (rows.get(id), rows.get(&parent)) else {
            continue;
        };
        let sql = "INSERT OR IGNORE INTO run_input (run, parent) VALUES (?1, ?2)";
        tx.prepare_cached(sql)?.execute(params![child, parent])?;
    }
    Ok(())
}

/// Moves the old file and its companions out of the way.
fn set_aside(path: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let mut moved = None;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let from = PathBuf::from(name);
        if !from.exists() {
            continue;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".old-{}{suffix}", now.0));
        let to = PathBuf::from(name);
        std::fs::rename(&from, &to).map_err(|e| PathError::new("move", &from, e))?;
        moved = moved.or(Some(to));
    }
    Ok(moved)
}
