//! Makes the store anew from the run folders and the snapshots of sweeps.

use crate::base::fs::{create_dir, is_gone};
use crate::base::{PathError, Timestamp, chain};
use crate::plan::RunId;
use crate::queue::{QueuedRun, RunEvent, RunState};
use crate::rundir::{
    AttemptEvent, FailureClass, FolderLock, Outcome, RunDir, RundirError, StageHead,
    attempt_numbers, live_runners, read_events, read_identity, read_provenance, read_stage_head,
    run_folders, sealed_outcome,
};
use crate::store::error::StoreError;
use crate::store::open::{Store, store_path};
use crate::store::rows::{class_name, int};
use crate::store::snapshot::{Snapshot, read_snapshots};
use crate::store::write::{
    StepRecord, apply, inputs_of, insert_outcome, insert_steps, insert_trial, save,
};
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
    /// Sweeps that came back.
    pub sweeps: usize,
    /// Their trials.
    pub trials: usize,
    /// Folders and files that could not be used, and why.
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

/// Makes a new store for the project at `root` from its run folders and from the sweeps that were
/// registered; an old file is kept beside it. Descriptions of runs that are damaged keep a folder out
/// until the next `lions run` has mended them.
///
/// # Errors
/// A runner is at work, or a file cannot be read or written. The old file is in its place then.
pub fn rebuild(root: &Path, now: Timestamp) -> Result<Rebuilt, StoreError> {
    no_runner_at_work(root)?;
    let path = store_path(root)?;
    let results = path.parent().unwrap_or(root);
    create_dir(results)?;
    // Two at a time would write one file.
    let _alone = FolderLock::take(results)?;
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
    let (snapshots, damaged) = read_snapshots(root)?;
    rebuilt.passed_over.extend(damaged);
    let new = path.with_extension("db.new");
    remove_database(&new)?;
    fill(&new, &folders, &snapshots, now, &mut rebuilt)?;
    // One may have begun since: large models take a while to be read.
    no_runner_at_work(root)?;
    let old = path.with_extension(format!("db.old-{}", now.0));
    rebuilt.old = move_database(&path, &old)?.then_some(old);
    move_database(&new, &path)?;
    Ok(rebuilt)
}

fn no_runner_at_work(root: &Path) -> Result<(), StoreError> {
    match live_runners(root)?.into_iter().next() {
        Some(runner) => Err(StoreError::Busy { runner }),
        None => Ok(()),
    }
}

/// Makes a database of what was found.
fn fill(
    path: &Path,
    folders: &BTreeMap<RunId, Folder>,
    snapshots: &[Snapshot],
    now: Timestamp,
    rebuilt: &mut Rebuilt,
) -> Result<(), StoreError> {
    let mut store = Store::open(path)?;
    let tx = store.writer()?;
    let mut rows = BTreeMap::new();
    for (id, folder) in folders {
        rows.insert(id.clone(), put_folder(&tx, folder, now)?);
        rebuilt.runs += 1;
        rebuilt.done += usize::from(folder.outcome.is_some());
    }
    for (id, folder) in folders {
        put_inputs(&tx, id, &folder.stage.parents(), &rows)?;
    }
    for snapshot in snapshots {
        put_snapshot(&tx, snapshot, &mut rows)?;
        rebuilt.sweeps += 1;
        rebuilt.trials += snapshot.trials.len();
    }
    for row in rows.values() {
        let event = RunEvent::InputsChanged(inputs_of(&tx, *row)?);
        // Runs that are done or have failed stay so.
        apply(&tx, *row, &event, now, &mut Vec::new())?.ok();
    }
    Ok(tx.commit()?)
}

/// A sweep with its trials, and those of its runs that have no folder yet.
fn put_snapshot(
    tx: &Transaction<'_>,
    snapshot: &Snapshot,
    rows: &mut BTreeMap<RunId, i64>,
) -> Result<(), StoreError> {
    for run in &snapshot.runs {
        let (tokens, memory) = (int(run.tokens), int(run.peak_memory_bytes));
        if let Some(row) = rows.get(&run.id) {
            let sql =
                "UPDATE run SET tokens = ?2, flops = ?3, peak_memory_bytes = ?4 WHERE id = ?1";
            tx.prepare_cached(sql)?
                .execute(params![row, tokens, run.flops, memory])?;
        } else {
            let sql = "INSERT INTO run (run_id, kind, identity, state, attempts, crashes, tokens,
                    flops, peak_memory_bytes, created)
                VALUES (?1, ?2, '', 'blocked', 0, 0, ?3, ?4, ?5, ?6)";
            let (kind, created) = (run.kind.name(), snapshot.registered.0);
            let values = params![run.id.0, kind, tokens, run.flops, memory, created];
            tx.prepare_cached(sql)?.execute(values)?;
            rows.insert(run.id.clone(), tx.last_insert_rowid());
        }
        // Also of a run with a folder, whose own inputs may have none.
        put_inputs(tx, &run.id, &run.parents, rows)?;
    }
    let sql = "INSERT INTO sweep (name, question, content, registered) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (name) DO NOTHING";
    let values = params![
        snapshot.name,
        snapshot.question,
        snapshot.content,
        snapshot.registered.0
    ];
    if tx.prepare_cached(sql)?.execute(values)? == 0 {
        return Ok(());
    }
    let sweep = tx.last_insert_rowid();
    for trial in &snapshot.trials {
        insert_trial(tx, sweep, trial, |run| rows.get(run).copied())?;
    }
    Ok(())
}

/// Every step metric in the journals of a run's attempts.
///
/// # Errors
/// A journal cannot be read or is of a later version.
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
    let stage = read_stage_head(&dir).map_err(|e| chain(&e))?;
    if RunDir::new(root, &stage.run) != dir {
        return Err(format!("`stage.json` names run {}", stage.run));
    }
    let identity = read_identity(&dir).map_err(|e| chain(&e))?;
    let identity = identity.ok_or_else(|| "no `identity.json`".to_owned())?;
    let attempts = attempt_numbers(&dir).map_err(|e| chain(&e))?;
    let outcome = match sealed_outcome(&dir) {
        // What is damaged is done again; what cannot be read is not touched.
        Err(RundirError::Damaged { .. }) => None,
        read => read.map_err(|e| chain(&e))?,
    };
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
    let ends = put_attempts(tx, row, folder)?;
    let state = match ends {
        _ if folder.outcome.is_some() => RunState::Succeeded,
        // For want of room, or of an input that is made again, no run has failed.
        Some(AttemptEvent::Failed { class, .. })
            if !matches!(
                class,
                FailureClass::DiskFull | FailureClass::Damaged | FailureClass::DeviceFault
            ) =>
        {
            RunState::Failed
        }
        _ => RunState::Blocked,
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
            starved: 0,
        },
        finished,
    )?;
    if let Some(outcome) = &folder.outcome {
        insert_outcome(tx, row, outcome)?;
    }
    insert_steps(tx, &recorded_steps(&folder.dir, run)?)?;
    Ok(row)
}

/// Every attempt with what its provenance and its journal tell of it; gives how the last one ended.
fn put_attempts(
    tx: &Transaction<'_>,
    row: i64,
    folder: &Folder,
) -> Result<Option<AttemptEvent>, StoreError> {
    let mut last = None;
    for number in &folder.attempts {
        let dir = folder.dir.attempt(*number);
        let events = read_events(&dir.events()).unwrap_or_default();
        last = events.into_iter().next_back();
        let published = folder.outcome.as_ref().filter(|o| o.attempt == *number);
        let provenance = read_provenance(&dir).ok().flatten();
        let (state, class, message) = match &last {
            _ if published.is_some() => ("succeeded", None, None),
            Some(AttemptEvent::Failed { class, message }) => {
                ("failed", Some(class_name(*class)), Some(message.as_str()))
            }
            Some(AttemptEvent::Interrupted) => ("interrupted", None, None),
            _ => ("lost", None, None),
        };
        let (owner, device, started) = provenance.map_or_else(
            || ("unknown".to_owned(), "unknown".to_owned(), None),
            |p| (p.host, p.device.to_string(), Some(p.started)),
        );
        let started = published.map(|o| o.started).or(started);
        let started = started.unwrap_or(Timestamp(0)).0;
        let ended = published.map_or(started, |o| o.finished.0);
        let sql = "INSERT INTO attempt (run, number, state, owner, device, started, expires,
                ended, class, message)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9)";
        let values = params![
            row, number, state, owner, device, started, ended, class, message
        ];
        tx.prepare_cached(sql)?.execute(values)?;
    }
    Ok(last)
}

fn put_inputs(
    tx: &Transaction<'_>,
    id: &RunId,
    parents: &[RunId],
    rows: &BTreeMap<RunId, i64>,
) -> Result<(), StoreError> {
    for parent in parents {
        let (Some(child), Some(parent)) = (rows.get(id), rows.get(parent)) else {
            continue;
        };
        let sql = "INSERT OR IGNORE INTO run_input (run, parent) VALUES (?1, ?2)";
        tx.prepare_cached(sql)?.execute(params![child, parent])?;
    }
    Ok(())
}

/// The files of a database.
fn files_of(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Gives a database another name; whether there was one.
fn move_database(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let mut moved = false;
    for (from, to) in files_of(from).iter().zip(files_of(to)) {
        if from.exists() {
            std::fs::rename(from, to).map_err(|e| PathError::new("move", from, e))?;
            moved = true;
        }
    }
    Ok(moved)
}

/// Removes what a rebuild left that was stopped.
fn remove_database(path: &Path) -> Result<(), StoreError> {
    for file in files_of(path) {
        match std::fs::remove_file(&file) {
            Err(e) if !is_gone(&e) => return Err(PathError::new("remove", file, e).into()),
            _ => {}
        }
    }
    Ok(())
}
