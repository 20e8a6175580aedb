//! What may be deleted: weights that no sweep wants kept and no run needs, and sweeps with what is theirs alone.

use crate::base::Timestamp;
use crate::config::KeepPolicy;
use crate::plan::{RunId, StageKind};
use crate::queue::RunEvent;
use crate::rundir::{RunDir, attempt_at_work, collect, read_collected, reject_all};
use crate::store::error::StoreError;
use crate::store::open::{ReadStore, Store};
use crate::store::orders::{FAMILY, rungs};
use crate::store::rows::{kind_of, uint};
use crate::store::snapshot::remove_snapshot;
use crate::store::write::{apply, delete_outcome, inputs_of, row_of};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files of a finished run that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub kind: StageKind,
    /// Paths under `artifacts/`.
    pub files: BTreeSet<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// What goes with a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepRemains {
    /// Itself, if it is known, and its rungs.
    pub sweeps: Vec<String>,
    /// Runs that no other sweep has, and that no run which stays needs; with earlier ones of no sweep any more
    /// that need them.
    pub runs: Vec<RunId>,
    /// Runs that stay.
    pub kept: usize,
    /// Runs of it that are at work.
    pub at_work: Vec<RunId>,
    /// Bytes of published files of the runs that go.
    pub bytes: u64,
}

/// That a run is done, and every run that takes something of it.
const NOT_NEEDED: &str = "run.state = 'succeeded'
    AND NOT EXISTS (SELECT 1 FROM run_input JOIN run AS child ON child.id = run_input.run
        WHERE run_input.parent = run.id AND child.state <> 'succeeded')";

/// Whether a path under `artifacts/` is part of a model, and whether of one of an earlier step.
fn weights_of(path: &str) -> Option<bool> {
    match path.split('/').next()? {
        "model" | "adapter" => Some(false),
        "checkpoints" => Some(true),
        _ => None,
    }
}

impl ReadStore {
    /// Weights that no sweep wants kept and that no run needs any more, by run. Only runs of sweeps count: of
    /// others nobody has said anything. `best` has, for each sweep that keeps its best configurations and knows them,
    /// their runs ([`Self::sweeps_with_best`]).
    ///
    /// # Errors
    /// The file, or what was deleted before, cannot be read.
    pub fn garbage(
        &self,
        root: &Path,
        best: &BTreeMap<String, BTreeSet<RunId>>,
    ) -> Result<Vec<Garbage>, StoreError> {
        let policies = self.policies(best)?;
        let mut garbage: Vec<Garbage> = Vec::new();
        let sql = format!(
            "SELECT run.run_id, run.kind, artifact.path, artifact.bytes
            FROM artifact JOIN run ON run.id = artifact.run
            WHERE {NOT_NEEDED} ORDER BY run.id, artifact.path"
        );
        let files = self.rows(&sql, [], |row| {
            let kind = kind_of(&row.get::<_, String>(1)?)?;
            let (path, bytes): (String, i64) = (row.get(2)?, row.get(3)?);
            Ok((RunId(row.get(0)?), kind, path, uint(bytes)))
        })?;
        for (run, kind, path, bytes) in files {
            let goes = match (weights_of(&path), policies.get(&run)) {
                (Some(_), Some(KeepPolicy::None)) => true,
                (Some(is_earlier), Some(KeepPolicy::Last)) => is_earlier,
                _ => false,
            };
            if !goes {
                continue;
            }
            if garbage.last().is_none_or(|last| last.run != run) {
                garbage.push(Garbage {
                    run,
                    kind,
                    files: BTreeSet::new(),
                    bytes: 0,
                });
            }
            if let Some(last) = garbage.last_mut() {
                last.files.insert(path);
                last.bytes += bytes;
            }
        }
        let mut left = Vec::new();
        for found in garbage {
            left.extend(not_gone(root, found)?);
        }
        Ok(left)
    }

    /// What each sweep keeps, as its file said when it was registered, by its name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn keeps(&self) -> Result<BTreeMap<String, KeepPolicy>, StoreError> {
        let sql = "SELECT name, json_extract(content, '$.keep') FROM sweep";
        let rows = self.rows(sql, [], |row| Ok((row.get(0)?, policy(row.get(1)?))))?;
        Ok(rows.into_iter().collect())
    }

    /// Names of the sweeps that keep the weights of their best configurations alone.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sweeps_with_best(&self) -> Result<Vec<String>, StoreError> {
        let sql =
            "SELECT name FROM sweep WHERE json_extract(content, '$.keep') = 'best' ORDER BY name";
        self.rows(sql, [], |row| Ok(row.get(0)?))
    }

    /// What holds for each run of a sweep: of several sweeps the one that keeps most.
    fn policies(
        &self,
        best: &BTreeMap<String, BTreeSet<RunId>>,
    ) -> Result<BTreeMap<RunId, KeepPolicy>, StoreError> {
        // Once a sweep: its content is megabytes where it has thousands of trials.
        let sql = "WITH said (sweep, name, keep) AS MATERIALIZED (
                SELECT id, name, json_extract(content, '$.keep') FROM sweep)
            SELECT DISTINCT run.run_id, said.keep, said.name
            FROM trial_run JOIN run ON run.id = trial_run.run
            JOIN trial ON trial.id = trial_run.trial JOIN said ON said.sweep = trial.sweep";
        let mut policies = BTreeMap::new();
        for (run, text, sweep) in self.rows(sql, [], |row| {
            let sweep: String = row.get(2)?;
            Ok((RunId(row.get(0)?), row.get::<_, Option<String>>(1)?, sweep))
        })? {
            let policy = match policy(text) {
                // Before the best are known any may be.
                KeepPolicy::Best if best.get(&sweep).is_none_or(|best| best.contains(&run)) => {
                    KeepPolicy::Last
                }
                KeepPolicy::Best => KeepPolicy::None,
                said => said,
            };
            let most = policies.entry(run).or_insert(policy);
            *most = policy.max(*most);
        }
        Ok(policies)
    }

    /// What goes with a sweep and its rungs.
    ///
    /// # Errors
    /// There is no such sweep and no rung of it, or the file cannot be read.
    pub fn remains(&self, sweep: &str) -> Result<SweepRemains, StoreError> {
        let remains = remains_of(&self.conn, sweep)?;
        if remains.sweeps.is_empty() {
            self.sweep(sweep)?;
        }
        Ok(remains)
    }

    /// Bytes of the published files of each sweep's runs, by its name; what was deleted since counts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn published_bytes(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let sql = "SELECT name, sum(bytes) FROM (
                SELECT DISTINCT sweep.name AS name, trial_run.run AS run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial JOIN sweep ON sweep.id = trial.sweep)
            JOIN artifact USING (run) GROUP BY name";
        let rows = self.rows(sql, [], |row| Ok((row.get(0)?, uint(row.get(1)?))))?;
        Ok(rows.into_iter().collect())
    }
}

/// Of the word for it. What a later version may say is not known here, and all is kept.
fn policy(text: Option<String>) -> KeepPolicy {
    let said = text.and_then(|text| serde_json::from_value(Value::from(text)).ok());
    said.unwrap_or(KeepPolicy::All)
}

/// What is left of it after what was deleted before; nothing while a process is at work in the folder.
fn not_gone(root: &Path, mut found: Garbage) -> Result<Option<Garbage>, StoreError> {
    let dir = RunDir::new(root, &found.run);
    let gone = read_collected(&dir)?;
    let sizes = |path: &String| std::fs::metadata(dir.artifacts().join(path)).ok();
    found.files.retain(|path| !gone.contains(path));
    let there = found.files.iter().filter_map(sizes);
    found.bytes = there.map(|meta| meta.len()).sum();
    let idle = found.files.is_empty() || attempt_at_work(&dir)?.is_some();
    Ok((!idle).then_some(found))
}

impl Store {
    /// Deletes garbage of one run, if it still is. Gives the bytes that it had.
    ///
    /// # Errors
    /// The file cannot be written to, or files cannot be deleted.
    pub fn collect(&mut self, root: &Path, garbage: &Garbage) -> Result<u64, StoreError> {
        // With the lock, so that no run that needs it is claimed meanwhile.
        let tx = self.writer()?;
        let row = row_of(&tx, &garbage.run)?;
        let sql = format!("SELECT {NOT_NEEDED} FROM run WHERE run.id = ?1");
        let still: bool = tx
            .prepare_cached(&sql)?
            .query_row([row], |row| row.get(0))?;
        let dir = RunDir::new(root, &garbage.run);
        let bytes = if still && attempt_at_work(&dir)?.is_none() {
            collect(&dir, &garbage.files)?
        } else {
            0
        };
        tx.commit()?;
        Ok(bytes)
    }

    /// Takes back that a run is done of which something was deleted: the next `lions run` makes it again, and
    /// what it needs of others that was deleted, too. False if nothing was deleted of it, or it is not done.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn restore(
        &mut self,
        root: &Path,
        run: &RunId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let tx = self.writer()?;
        let row = row_of(&tx, run)?;
        let dir = RunDir::new(root, run);
        if read_collected(&dir)?.is_empty() || attempt_at_work(&dir)?.is_some() {
            return Ok(false);
        }
        let event = RunEvent::OutcomeLost(inputs_of(&tx, row)?);
        if apply(&tx, row, &event, now, &mut Vec::new())?.is_err() {
            return Ok(false);
        }
        delete_outcome(&tx, row)?;
        // With the lock, so that no runner takes it before; and a folder is what the next one believes.
        reject_all(&dir)?;
        tx.commit()?;
        Ok(true)
    }

    /// Removes a sweep with its trials, and the runs that are its alone with their folders. Gives what went;
    /// nothing is removed while runs of it are at work.
    ///
    /// # Errors
    /// There is no such sweep, or a file cannot be written or deleted.
    pub fn remove_sweep(&mut self, root: &Path, sweep: &str) -> Result<SweepRemains, StoreError> {
        self.read().remains(sweep)?;
        let tx = self.writer()?;
        let remains = remains_of(&tx, sweep)?;
        if !remains.at_work.is_empty() {
            return Ok(remains);
        }
        // Its trials go with it.
        let sql = format!("DELETE FROM sweep WHERE {FAMILY}");
        tx.execute(&sql, [sweep, &rungs(sweep)])?;
        for run in &remains.runs {
            let row = row_of(&tx, run)?;
            for table in RUN_TABLES {
                let sql = format!("DELETE FROM {table} WHERE run = ?1");
                tx.prepare_cached(&sql)?.execute([row])?;
            }
        }
        // Only when none of them is named as an input any more.
        for run in &remains.runs {
            let sql = "DELETE FROM run WHERE run_id = ?1";
            tx.prepare_cached(sql)?.execute(params![run.0])?;
        }
        tx.commit()?;
        for sweep in &remains.sweeps {
            remove_snapshot(root, sweep)?;
        }
        for run in &remains.runs {
            let path = RunDir::new(root, run).path().to_owned();
            match std::fs::remove_dir_all(&path) {
                Err(e) if !crate::base::fs::is_gone(&e) => {
                    return Err(crate::base::PathError::new("remove", path, e).into());
                }
                _ => {}
            }
        }
        Ok(remains)
    }
}

/// Every table with rows of a run.
const RUN_TABLES: [&str; 9] = [
    "run_input",
    "run_order",
    "request",
    "attempt",
    "metric",
    "step_metric",
    "count",
    "note",
    "artifact",
];

fn remains_of(conn: &Connection, sweep: &str) -> Result<SweepRemains, StoreError> {
    // Runs of the sweep and its rungs, and those of no sweep any more that need one of them; of these the ones of other
    // sweeps, and what these need in turn.
    let sql = format!(
        "WITH RECURSIVE mine (run) AS (
            SELECT trial_run.run FROM trial_run JOIN trial ON trial.id = trial_run.trial
            JOIN sweep ON sweep.id = trial.sweep AND {FAMILY}
            UNION SELECT run_input.run FROM run_input JOIN mine ON mine.run = run_input.parent
            WHERE NOT EXISTS (SELECT 1 FROM trial_run WHERE trial_run.run = run_input.run)),
        wanted (run) AS (
            SELECT id FROM run WHERE id NOT IN (SELECT run FROM mine)
            UNION SELECT trial_run.run FROM trial_run JOIN trial ON trial.id = trial_run.trial
            JOIN sweep ON sweep.id = trial.sweep AND NOT {FAMILY}
            UNION SELECT run_input.parent FROM run_input JOIN wanted ON wanted.run = run_input.run)
        SELECT run.run_id, run.state = 'leased', run.id IN (SELECT run FROM wanted),
            (SELECT coalesce(sum(bytes), 0) FROM artifact WHERE artifact.run = run.id)
        FROM run WHERE run.id IN (SELECT run FROM mine) ORDER BY run.id"
    );
    let family = [sweep, &rungs(sweep)];
    let names = format!("SELECT name FROM sweep WHERE {FAMILY} ORDER BY id");
    let mut names = conn.prepare_cached(&names)?;
    let mut remains = SweepRemains {
        sweeps: names
            .query_map(family, |row| row.get(0))?
            .collect::<Result<_, _>>()?,
        ..SweepRemains::default()
    };
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(family)?;
    while let Some(row) = rows.next()? {
        let run = RunId(row.get(0)?);
        if row.get(2)? {
            remains.kept += 1;
            continue;
        }
        if row.get(1)? {
            remains.at_work.push(run.clone());
        }
        remains.bytes += uint(row.get(3)?);
        remains.runs.push(run);
    }
    Ok(remains)
}
