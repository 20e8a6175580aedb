//! Registration of a sweep: its trials, its runs and what their folders already hold.

use crate::base::Timestamp;
use crate::config::sweep::Sweep;
use crate::plan::{Plan, PlannedRun, RunId};
use crate::queue::{QueuedRun, RunEvent, RunState};
use crate::rundir::{Outcome, RunDir};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::orders::take_over_orders;
use crate::store::rebuild::recorded_steps;
use crate::store::rows::{int, known_flops};
use crate::store::snapshot::SnapshotTrial;
use crate::store::stored::content_of;
use crate::store::write::{
    StepRecord, apply, delete_outcome, inputs_of, insert_outcome, insert_steps, insert_trial,
    queued, save,
};
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the folder of a run holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundRun {
    /// The outcome, if it and everything that it names is there.
    pub outcome: Option<Outcome>,
    /// Highest number of an attempt that has a folder.
    pub attempts: u32,
}

/// Whether runs that failed, crashed too often or were cancelled are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// They stay as they are.
    Never,
    /// They are put back.
    Failed,
}

/// What registration did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registered {
    /// Runs that the store did not know.
    pub new: usize,
    /// Where every run of the plan stands now, in its order.
    pub states: Vec<RunState>,
    /// Runs whose outcome was found in their folder and not in the store.
    pub imported: Vec<RunId>,
    /// Runs that the store called done and whose folder says otherwise.
    pub lost: Vec<RunId>,
}

impl Store {
    /// Puts a sweep and its plan into the store, in one transaction. A sweep of the same name is
    /// replaced with its trials; runs are only added.
    ///
    /// `found` says what lies in the folders of the project at `root`; runs that are not in it have none.
    ///
    /// # Errors
    /// SQLite refuses a statement, or the journals of a run that is taken over cannot be read. Nothing is
    /// changed then.
    pub fn register(
        &mut self,
        root: &Path,
        sweep: &Sweep,
        plan: &Plan,
        found: &BTreeMap<RunId, FoundRun>,
        retry: Retry,
        now: Timestamp,
    ) -> Result<Registered, StoreError> {
        let content = content_of(sweep)?;
        // Before the lock is taken: the journals of many runs take seconds, for which no attempt of another
        // runner could be claimed.
        let steps = self.steps_to_import(root, found)?;
        let tx = self.writer()?;
        let sweep_row = put_sweep(&tx, sweep, &content, now)?;
        let mut registered = Registered::default();
        let mut rows = BTreeMap::new();
        let nothing = FoundRun::default();
        for run in &plan.runs {
            let row = put_run(&tx, run, &rows, now, &mut registered)?;
            rows.insert(&run.id, row);
            let found = found.get(&run.id).unwrap_or(&nothing);
            reconcile(&tx, row, run, found, retry, now, &mut registered)?;
        }
        // With the outcomes, since no later registration sees that they are missing.
        for run in &registered.imported {
            let steps = match steps.get(run) {
                Some(steps) => steps,
                // Another runner has put it back since.
                None => &recorded_steps(&RunDir::new(root, run), run)?,
            };
            insert_steps(&tx, steps)?;
        }
        for trial in &plan.trials {
            let trial = SnapshotTrial::of(trial)?;
            insert_trial(&tx, sweep_row, &trial, |run| rows.get(run).copied())?;
        }
        for run in &plan.runs {
            let row = rows.get(&run.id).copied().unwrap_or_default();
            registered.states.push(queued(&tx, row)?.state);
        }
        tx.commit()?;
        Ok(registered)
    }
}

impl Store {
    /// The steps of runs whose outcome was found and is not in the store.
    fn steps_to_import(
        &self,
        root: &Path,
        found: &BTreeMap<RunId, FoundRun>,
    ) -> Result<BTreeMap<RunId, Vec<StepRecord>>, StoreError> {
        let known: BTreeSet<RunId> = self.read().succeeded()?.into_iter().collect();
        let mut steps = BTreeMap::new();
        for (run, found) in found {
            if found.outcome.is_some() && !known.contains(run) {
                steps.insert(run.clone(), recorded_steps(&RunDir::new(root, run), run)?);
            }
        }
        Ok(steps)
    }
}

fn put_sweep(
    tx: &Transaction<'_>,
    sweep: &Sweep,
    content: &str,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let sql = "INSERT INTO sweep (name, question, content, registered) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (name) DO UPDATE SET question = excluded.question, content = excluded.content,
            registered = excluded.registered
        RETURNING id";
    let values = params![sweep.name, sweep.question, content, now.0];
    let row: i64 = tx
        .prepare_cached(sql)?
        .query_row(values, |row| row.get(0))?;
    take_over_orders(tx, (row, &sweep.name))?;
    tx.prepare_cached("DELETE FROM trial WHERE sweep = ?1")?
        .execute([row])?;
    Ok(row)
}

fn put_run(
    tx: &Transaction<'_>,
    run: &PlannedRun,
    rows: &BTreeMap<&RunId, i64>,
    now: Timestamp,
    registered: &mut Registered,
) -> Result<i64, StoreError> {
    let known: Option<i64> = tx
        .prepare_cached("SELECT id FROM run WHERE run_id = ?1")?
        .query_row([&run.id.0], |row| row.get(0))
        .optional()?;
    let estimate = &run.estimate;
    let (tokens, memory) = (int(estimate.tokens), int(estimate.peak_memory_bytes));
    let flops = known_flops(estimate.flops);
    let row = if let Some(row) = known {
        // A run that was brought back without its folder has no identity yet.
        let sql = "UPDATE run SET tokens = ?2, flops = ?3, peak_memory_bytes = ?4, identity = ?5
            WHERE id = ?1";
        tx.prepare_cached(sql)?
            .execute(params![row, tokens, flops, memory, run.identity])?;
        row
    } else {
        registered.new += 1;
        let sql =
            "INSERT INTO run (run_id, kind, identity, state, attempts, crashes, tokens, flops,
                peak_memory_bytes, created)
            VALUES (?1, ?2, ?3, 'blocked', 0, 0, ?4, ?5, ?6, ?7)";
        let kind = run.kind.name();
        let values = params![run.id.0, kind, run.identity, tokens, flops, memory, now.0];
        tx.prepare_cached(sql)?.execute(values)?;
        tx.last_insert_rowid()
    };
    // Also of a known run: one that was brought back may have been without a folder of its input.
    for parent in &run.parents {
        let parent = rows.get(parent).copied();
        let sql = "INSERT INTO run_input (run, parent) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.prepare_cached(sql)?.execute(params![row, parent])?;
    }
    Ok(row)
}

/// Brings a run's state in line with its folder and its inputs.
fn reconcile(
    tx: &Transaction<'_>,
    row: i64,
    run: &PlannedRun,
    found: &FoundRun,
    retry: Retry,
    now: Timestamp,
    registered: &mut Registered,
) -> Result<(), StoreError> {
    let before = queued(tx, row)?;
    if found.attempts > before.attempts {
        save_attempts(tx, row, before, found.attempts)?;
    }
    let inputs = inputs_of(tx, row)?;
    let event = match (&found.outcome, before.state) {
        (Some(_), RunState::Succeeded) => return Ok(()),
        (Some(outcome), _) => RunEvent::Published {
            attempt: outcome.attempt,
        },
        (None, RunState::Succeeded) => RunEvent::OutcomeLost(inputs),
        (None, RunState::Failed | RunState::Cancelled) if retry == Retry::Failed => {
            RunEvent::Retried(inputs)
        }
        (None, state) if QueuedRun::new(inputs).state == state => return Ok(()),
        (None, _) => RunEvent::InputsChanged(inputs),
    };
    let applied = apply(tx, row, &event, now, &mut Vec::new())?;
    if applied.is_err() {
        return Ok(());
    }
    if let Some(outcome) = &found.outcome {
        insert_outcome(tx, row, outcome)?;
        registered.imported.push(run.id.clone());
    } else if before.state == RunState::Succeeded {
        delete_outcome(tx, row)?;
        registered.lost.push(run.id.clone());
    }
    Ok(())
}

/// Attempts in the folder that the store does not know keep their numbers.
fn save_attempts(
    tx: &Transaction<'_>,
    row: i64,
    run: QueuedRun,
    attempts: u32,
) -> Result<(), StoreError> {
    if matches!(run.state, RunState::Leased { .. } | RunState::Succeeded) {
        return Ok(());
    }
    save(tx, row, &QueuedRun { attempts, ..run }, None)
}
