//! Transitions of runs, each in one transaction with everything that follows from it.

use crate::backend::{LOCAL_HANDLE, SCRIPTED_HANDLE};
use crate::base::{Device, Timestamp};
use crate::plan::RunId;
use crate::queue::{
    AttemptEnd, CRASH_LIMIT, Effect, Inputs, QueuedRun, RunEvent, RunState, Stale, step,
};
use crate::rundir::{Outcome, Usage};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::rows::{class_name, int, state_of};
use crate::store::run_order::{is_paused, save_starved};
use crate::store::snapshot::SnapshotTrial;
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;

/// A run whose state changed.
pub type Change = (RunId, RunState);

/// A request to begin an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The run.
    pub run: RunId,
    /// Where it is to compute.
    pub device: Device,
    /// A scheduler shares out the device: another attempt on one of that name is on another.
    pub elsewhere: bool,
}

/// The answer to a [`ClaimRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The attempt may begin.
    Taken {
        /// Its number.
        attempt: u32,
        /// Whether it computes with half the micro-batch.
        halved: bool,
    },
    /// A person has paused it since.
    Paused,
    /// Somebody was faster, or the run is no longer wanted.
    NotReady {
        /// Where it stands.
        state: RunState,
    },
    /// Another runner's attempt is on the device.
    DeviceBusy {
        /// That runner.
        owner: String,
    },
}

/// Metrics of one step of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// The step.
    pub step: u64,
    /// Values by key.
    pub metrics: BTreeMap<String, f64>,
}

/// The answer to a request to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It was not at work and is cancelled now; the runs that need it are skipped.
    Cancelled(Vec<Change>),
    /// It is at work; its runner has been asked to stop it.
    Requested,
    /// It was at its end already.
    Ended(RunState),
}

impl Store {
    /// Begins attempts, all in one transaction; the answers are in the order of the requests.
    pub fn claim(
        &mut self,
        requests: &[ClaimRequest],
        owner: &str,
        now: Timestamp,
        lease_millis: i64,
    ) -> Result<Vec<Claim>, StoreError> {
        let tx = self.writer()?;
        let expires = now.plus_millis(lease_millis);
        let mut claims = Vec::new();
        for request in requests {
            claims.push(claim_one(&tx, request, owner, now, expires)?);
        }
        tx.commit()?;
        Ok(claims)
    }

    /// Remembers how the backend finds an attempt again.
    pub fn set_handle(
        &mut self,
        run: &RunId,
        attempt: u32,
        handle: &str,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE attempt SET handle = ?3
            WHERE run = (SELECT id FROM run WHERE run_id = ?1) AND number = ?2";
        let tx = self.writer()?;
        tx.prepare_cached(sql)?
            .execute(params![run.0, attempt, handle])?;
        Ok(tx.commit()?)
    }

    /// Makes a runner the owner of an attempt whose runner is dead, `before`; whether it was still that one's.
    pub fn adopt(
        &mut self,
        run: &RunId,
        attempt: u32,
        (before, owner): (&str, &str),
        expires: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE attempt SET owner = ?4, expires = ?5
            WHERE run = (SELECT id FROM run WHERE run_id = ?1) AND number = ?2 AND owner = ?3
                AND state = 'live'";
        let tx = self.writer()?;
        let values = params![run.0, attempt, before, owner, expires.0];
        let adopted = tx.prepare_cached(sql)?.execute(values)?;
        tx.commit()?;
        Ok(adopted == 1)
    }

    /// Records what attempts told since the last call and extends the leases of those that live.
    /// Extensions of attempts that are no longer live change nothing.
    pub fn record(
        &mut self,
        steps: &[StepRecord],
        alive: &[(RunId, u32)],
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        if steps.is_empty() && alive.is_empty() {
            return Ok(());
        }
        let tx = self.writer()?;
        insert_steps(&tx, steps)?;
        let extend = "UPDATE attempt SET expires = ?3
            WHERE run = (SELECT id FROM run WHERE run_id = ?1) AND number = ?2 AND state = 'live'";
        for (run, attempt) in alive {
            tx.prepare_cached(extend)?
                .execute(params![run.0, attempt, expires.0])?;
        }
        Ok(tx.commit()?)
    }

    /// Commits an outcome that lies in the run's folder: state, metrics, counts, artifacts, what
    /// it cost and the last steps, and tells the runs that need it.
    ///
    /// Answers [`Stale`] if the run had it already.
    pub fn publish(
        &mut self,
        outcome: &Outcome,
        steps: &[StepRecord],
        now: Timestamp,
    ) -> Result<Result<Vec<Change>, Stale>, StoreError> {
        let tx = self.writer()?;
        let row = row_of(&tx, &outcome.run)?;
        let event = RunEvent::Published {
            attempt: outcome.attempt,
        };
        let mut changes = Vec::new();
        if let Err(stale) = apply(&tx, row, &event, now, &mut changes)? {
            return Ok(Err(stale));
        }
        insert_outcome(&tx, row, outcome)?;
        insert_steps(&tx, steps)?;
        tx.commit()?;
        Ok(Ok(changes))
    }

    /// Commits that an attempt ended without an outcome.
    ///
    /// Answers [`Stale`] if the attempt had lost its lease: nothing changes then.
    pub fn end_attempt(
        &mut self,
        run: &RunId,
        attempt: u32,
        end: AttemptEnd,
        now: Timestamp,
    ) -> Result<Result<Vec<Change>, Stale>, StoreError> {
        let tx = self.writer()?;
        let row = row_of(&tx, run)?;
        let inputs = inputs_of(&tx, row)?;
        let mut changes = Vec::new();
        let event = RunEvent::Ended {
            attempt,
            end: as_requested(&tx, row, end)?,
            inputs,
        };
        if let Err(stale) = apply(&tx, row, &event, now, &mut changes)? {
            return Ok(Err(stale));
        }
        tx.commit()?;
        Ok(Ok(changes))
    }

    /// Gives up on a run, or asks its runner to.
    pub fn cancel(&mut self, run: &RunId, now: Timestamp) -> Result<CancelAnswer, StoreError> {
        let tx = self.writer()?;
        let row = row_of(&tx, run)?;
        let state = queued(&tx, row)?.state;
        let answer = if let RunState::Leased { .. } = state {
            let sql =
                "INSERT OR IGNORE INTO request (run, kind, created) VALUES (?1, 'cancel', ?2)";
            tx.prepare_cached(sql)?.execute(params![row, now.0])?;
            CancelAnswer::Requested
        } else {
            let mut changes = Vec::new();
            match apply(&tx, row, &RunEvent::Cancelled, now, &mut changes)? {
                Ok(()) => CancelAnswer::Cancelled(changes),
                Err(Stale { state }) => CancelAnswer::Ended(state),
            }
        };
        tx.commit()?;
        Ok(answer)
    }

    /// Puts a failed, cancelled or skipped run back, crashes forgotten; the runs that were skipped
    /// because of it follow. Answers [`Stale`] if there is nothing to retry.
    pub fn retry(
        &mut self,
        run: &RunId,
        now: Timestamp,
    ) -> Result<Result<Vec<Change>, Stale>, StoreError> {
        let tx = self.writer()?;
        let row = row_of(&tx, run)?;
        let inputs = inputs_of(&tx, row)?;
        let mut changes = Vec::new();
        if let Err(stale) = apply(&tx, row, &RunEvent::Retried(inputs), now, &mut changes)? {
            return Ok(Err(stale));
        }
        tx.commit()?;
        Ok(Ok(changes))
    }

    /// Takes back that a run is done: what it published is damaged. The runs that need it and are not
    /// done wait again. Answers [`Stale`] if it was not done.
    pub fn lose_outcome(
        &mut self,
        run: &RunId,
        now: Timestamp,
    ) -> Result<Result<Vec<Change>, Stale>, StoreError> {
        let tx = self.writer()?;
        let row = row_of(&tx, run)?;
        let event = RunEvent::OutcomeLost(inputs_of(&tx, row)?);
        let mut changes = Vec::new();
        if let Err(stale) = apply(&tx, row, &event, now, &mut changes)? {
            return Ok(Err(stale));
        }
        delete_outcome(&tx, row)?;
        tx.commit()?;
        Ok(Ok(changes))
    }

    /// A transaction that has the write lock from its beginning. All writers here read first and
    /// decide by what they read; begun without the lock, such a transaction fails at once, without
    /// waiting, if another runner commits between its read and its write.
    pub(crate) fn writer(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(self
            .inner
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

/// A person wanted the run cancelled, and its attempt ended in another way before it was asked to: it
/// is not tried again.
fn as_requested(tx: &Transaction<'_>, row: i64, end: AttemptEnd) -> Result<AttemptEnd, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM request WHERE run = ?1 AND kind = 'cancel')";
    let wanted: bool = tx.prepare_cached(sql)?.query_row([row], |row| row.get(0))?;
    Ok(match end {
        AttemptEnd::Crashed { .. } | AttemptEnd::Interrupted | AttemptEnd::Lost if wanted => {
            AttemptEnd::Cancelled
        }
        end => end,
    })
}

fn claim_one(
    tx: &Transaction<'_>,
    request: &ClaimRequest,
    owner: &str,
    now: Timestamp,
    expires: Timestamp,
) -> Result<Claim, StoreError> {
    let row = row_of(tx, &request.run)?;
    let run = queued(tx, row)?;
    let (next, effects) = match step(&run, &RunEvent::Claimed { expires }, CRASH_LIMIT) {
        Ok(stepped) => stepped,
        Err(Stale { state }) => return Ok(Claim::NotReady { state }),
    };
    if is_paused(tx, row)? {
        return Ok(Claim::Paused);
    }
    if !request.elsewhere
        && let Some(owner) = device_owner(tx, request.device, owner)?
    {
        return Ok(Claim::DeviceBusy { owner });
    }
    save(tx, row, &next, None)?;
    let mut taken = 0;
    for effect in effects {
        if let Effect::BeginAttempt(attempt) = effect {
            let sql = "INSERT INTO attempt (run, number, state, owner, device, started, expires)
                VALUES (?1, ?2, 'live', ?3, ?4, ?5, ?6)";
            let device = request.device.to_string();
            let values = params![row, attempt, owner, device, now.0, expires.0];
            tx.prepare_cached(sql)?.execute(values)?;
            taken = attempt;
        }
    }
    Ok(Claim::Taken {
        attempt: taken,
        halved: next.is_halved(),
    })
}

/// The other runner whose attempt is on a card of this machine; processors are shared.
fn device_owner(
    tx: &Transaction<'_>,
    device: Device,
    owner: &str,
) -> Result<Option<String>, StoreError> {
    if device.cards().is_empty() {
        return Ok(None);
    }
    // An attempt has no handle for the moment between its claim and its start.
    let sql = "SELECT owner, device FROM attempt WHERE state = 'live' AND owner <> ?1
        AND (handle IS NULL OR handle LIKE ?2 || '%' OR handle LIKE ?3 || '%')";
    let mut live = tx.prepare_cached(sql)?;
    let values = params![owner, LOCAL_HANDLE, SCRIPTED_HANDLE];
    let live = live.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    for attempt in live {
        let (owner, place): (String, String) = attempt?;
        if place.parse().is_ok_and(|other| device.meets(other)) {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

pub(crate) fn row_of(tx: &Transaction<'_>, run: &RunId) -> Result<i64, StoreError> {
    let sql = "SELECT id FROM run WHERE run_id = ?1";
    let found = tx
        .prepare_cached(sql)?
        .query_row([&run.0], |row| row.get(0))
        .optional()?;
    found.ok_or_else(|| StoreError::NoRun {
        prefix: run.short().to_owned(),
    })
}

pub(crate) fn queued(tx: &Transaction<'_>, row: i64) -> Result<QueuedRun, StoreError> {
    let sql = "SELECT run.state, run.attempts, run.crashes, live.number, live.expires,
            coalesce(run_order.starved, 0)
        FROM run LEFT JOIN attempt AS live ON live.run = run.id AND live.state = 'live'
        LEFT JOIN run_order ON run_order.run = run.id
        WHERE run.id = ?1";
    let (state, attempts, crashes, number, expires, starved) =
        tx.prepare_cached(sql)?.query_row([row], |row| {
            let state: String = row.get(0)?;
            let number: Option<u32> = row.get(3)?;
            let expires: Option<i64> = row.get(4)?;
            Ok((
                state,
                row.get(1)?,
                row.get(2)?,
                number,
                expires,
                row.get(5)?,
            ))
        })?;
    let state = state_of(&state, number.zip(expires.map(Timestamp)))?;
    Ok(QueuedRun {
        state,
        attempts,
        crashes,
        starved,
    })
}

pub(crate) fn inputs_of(tx: &Transaction<'_>, row: i64) -> Result<Inputs, StoreError> {
    let sql = "SELECT run.state FROM run_input JOIN run ON run.id = run_input.parent
        WHERE run_input.run = ?1";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([row])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        // Which attempt has a leased parent does not matter here.
        states.push(state_of(&text, Some((0, Timestamp(0))))?);
    }
    Ok(Inputs::of(states))
}

/// Applies an event to a run, and what follows from it to the runs that need it.
pub(crate) fn apply(
    tx: &Transaction<'_>,
    row: i64,
    event: &RunEvent,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Result<Result<(), Stale>, StoreError> {
    let (next, effects) = match step(&queued(tx, row)?, event, CRASH_LIMIT) {
        Ok(stepped) => stepped,
        Err(stale) => return Ok(Err(stale)),
    };
    let finished = (next.state == RunState::Succeeded).then_some(now);
    save(tx, row, &next, finished)?;
    changes.push((run_id_of(tx, row)?, next.state));
    let mut tell = false;
    for effect in effects {
        match effect {
            Effect::CloseAttempt(attempt) => close(tx, row, attempt, event, now)?,
            Effect::TellChildren => tell = true,
            Effect::BeginAttempt(_) => {}
        }
    }
    if tell {
        tell_children(tx, row, changes)?;
    }
    Ok(Ok(()))
}

fn tell_children(
    tx: &Transaction<'_>,
    row: i64,
    changes: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let mut told = vec![row];
    while let Some(parent) = told.pop() {
        for child in children_of(tx, parent)? {
            let run = queued(tx, child)?;
            let event = RunEvent::InputsChanged(inputs_of(tx, child)?);
            let Ok((next, effects)) = step(&run, &event, CRASH_LIMIT) else {
                continue;
            };
            if next != run {
                save(tx, child, &next, None)?;
                changes.push((run_id_of(tx, child)?, next.state));
            }
            if effects.contains(&Effect::TellChildren) {
                told.push(child);
            }
        }
    }
    Ok(())
}

fn children_of(tx: &Transaction<'_>, row: i64) -> Result<Vec<i64>, StoreError> {
    let mut statement =
        tx.prepare_cached("SELECT run FROM run_input WHERE parent = ?1 ORDER BY run")?;
    let rows = statement.query_map([row], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn run_id_of(tx: &Transaction<'_>, row: i64) -> Result<RunId, StoreError> {
    let sql = "SELECT run_id FROM run WHERE id = ?1";
    Ok(RunId(
        tx.prepare_cached(sql)?.query_row([row], |row| row.get(0))?,
    ))
}

pub(crate) fn save(
    tx: &Transaction<'_>,
    row: i64,
    run: &QueuedRun,
    finished: Option<Timestamp>,
) -> Result<(), StoreError> {
    let sql = "UPDATE run SET state = ?2, attempts = ?3, crashes = ?4, finished = ?5 WHERE id = ?1";
    let finished = finished.map(|at| at.0);
    let values = params![row, run.state.name(), run.attempts, run.crashes, finished];
    tx.prepare_cached(sql)?.execute(values)?;
    save_starved(tx, row, run.starved)
}

/// Records how an attempt ended and forgets what was asked of it.
fn close(
    tx: &Transaction<'_>,
    row: i64,
    attempt: u32,
    event: &RunEvent,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (state, class, message) = match event {
        RunEvent::Ended {
            end: AttemptEnd::Failed { class, message },
            ..
        } => ("failed", Some(class_name(*class)), Some(message.as_str())),
        RunEvent::Ended {
            end: AttemptEnd::Crashed { class, message, .. },
            ..
        } => ("crashed", class.map(class_name), Some(message.as_str())),
        RunEvent::Ended {
            end: AttemptEnd::Interrupted,
            ..
        } => ("interrupted", None, None),
        RunEvent::Ended {
            end: AttemptEnd::Cancelled,
            ..
        } => ("cancelled", None, None),
        RunEvent::Published { attempt: by } if *by == attempt => ("succeeded", None, None),
        _ => ("lost", None, None),
    };
    let sql = "UPDATE attempt SET state = ?3, class = ?4, message = ?5, ended = ?6
        WHERE run = ?1 AND number = ?2";
    tx.prepare_cached(sql)?
        .execute(params![row, attempt, state, class, message, now.0])?;
    tx.prepare_cached("DELETE FROM request WHERE run = ?1")?
        .execute([row])?;
    Ok(())
}

/// Forgets everything that an outcome told of a run.
pub(crate) fn delete_outcome(tx: &Transaction<'_>, row: i64) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM metric WHERE run = ?1",
        "DELETE FROM count WHERE run = ?1",
        "DELETE FROM note WHERE run = ?1",
        "DELETE FROM artifact WHERE run = ?1",
    ] {
        tx.prepare_cached(sql)?.execute([row])?;
    }
    Ok(())
}

/// Everything that an outcome tells of a run, and the attempt that made it if it is not known.
pub(crate) fn insert_outcome(
    tx: &Transaction<'_>,
    row: i64,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    delete_outcome(tx, row)?;
    let result = &outcome.result;
    let metric = "INSERT INTO metric (run, key, value, stderr, n) VALUES (?1, ?2, ?3, ?4, ?5)";
    for (key, value) in &result.metrics {
        let values = params![row, key, finite(value.value), value.stderr, int(value.n)];
        tx.prepare_cached(metric)?.execute(values)?;
    }
    for (name, value) in &result.counts {
        let sql = "INSERT INTO count (run, name, value) VALUES (?1, ?2, ?3)";
        tx.prepare_cached(sql)?
            .execute(params![row, name, int(*value)])?;
    }
    for (position, text) in result.notes.iter().enumerate() {
        let sql = "INSERT INTO note (run, position, text) VALUES (?1, ?2, ?3)";
        tx.prepare_cached(sql)?
            .execute(params![row, int(position as u64), text])?;
    }
    for file in &outcome.artifacts {
        let sql = "INSERT INTO artifact (run, path, bytes, digest) VALUES (?1, ?2, ?3, ?4)";
        tx.prepare_cached(sql)?
            .execute(params![row, file.path, int(file.bytes), file.digest.0])?;
    }
    insert_attempt(tx, row, outcome)
}

fn insert_attempt(tx: &Transaction<'_>, row: i64, outcome: &Outcome) -> Result<(), StoreError> {
    let known = "INSERT OR IGNORE INTO attempt
            (run, number, state, owner, device, started, expires, ended)
        VALUES (?1, ?2, 'succeeded', 'unknown', 'unknown', ?3, ?4, ?4)";
    let (started, finished) = (outcome.started.0, outcome.finished.0);
    tx.prepare_cached(known)?
        .execute(params![row, outcome.attempt, started, finished])?;
    let Usage {
        wall_secs,
        cpu_secs,
        peak_memory_bytes,
        // The column is none of the schema: run folders hold it.
        device_memory_bytes: _,
        tokens,
        positions,
        flops,
    } = outcome.result.usage;
    let usage = "UPDATE attempt SET state = 'succeeded', wall_secs = ?3, cpu_secs = ?4,
            peak_memory_bytes = ?5, tokens = ?6, positions = ?7, flops = ?8
        WHERE run = ?1 AND number = ?2 AND state <> 'live'";
    tx.prepare_cached(usage)?.execute(params![
        row,
        outcome.attempt,
        finite(wall_secs),
        finite(cpu_secs),
        int(peak_memory_bytes),
        int(tokens),
        int(positions),
        finite(flops)
    ])?;
    Ok(())
}

pub(crate) fn insert_steps(tx: &Transaction<'_>, steps: &[StepRecord]) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO step_metric (run, attempt, step, key, value)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = tx.prepare_cached(sql)?;
    let mut last: Option<(&RunId, i64)> = None;
    for record in steps {
        let row = match last {
            Some((run, row)) if *run == record.run => row,
            _ => row_of(tx, &record.run)?,
        };
        last = Some((&record.run, row));
        for (key, value) in &record.metrics {
            let step = int(record.step);
            statement.execute(params![row, record.attempt, step, key, finite(*value)])?;
        }
    }
    Ok(())
}

/// A trial of a sweep with its runs; `row_of` finds the row of a run.
pub(crate) fn insert_trial(
    tx: &Transaction<'_>,
    sweep: i64,
    trial: &SnapshotTrial,
    row_of: impl Fn(&RunId) -> Option<i64>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO trial (sweep, number, label, seed, assignments, eval_run)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (number, seed) = (int(trial.index as u64), trial.seed.cast_signed());
    let (assignments, eval) = (trial.assignments.to_string(), row_of(&trial.eval));
    let values = params![sweep, number, trial.label, seed, assignments, eval];
    tx.prepare_cached(sql)?.execute(values)?;
    let row = tx.last_insert_rowid();
    for (position, run) in trial.runs.iter().enumerate() {
        let sql = "INSERT INTO trial_run (trial, position, run) VALUES (?1, ?2, ?3)";
        let values = params![row, int(position as u64), row_of(run)];
        tx.prepare_cached(sql)?.execute(values)?;
    }
    Ok(())
}

/// SQLite has no word for what is not finite.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
