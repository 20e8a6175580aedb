//! What people and runners say of the queue, beside the states of runs: pauses, priorities, who is at it.

use crate::base::Timestamp;
use crate::config::{RUNG_MARK, SweepName};
use crate::plan::RunId;
use crate::store::error::StoreError;
use crate::store::open::{ReadStore, Store};
use crate::store::write::row_of;
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::BTreeMap;

/// What is said of a sweep and its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Since when the sweep is paused.
    pub paused: Option<Timestamp>,
    /// Of several sweeps the one with the higher number goes first; 0 unless said.
    pub priority: i64,
    /// Runs that are paused by themselves, and since when.
    pub paused_runs: BTreeMap<RunId, Timestamp>,
}

impl Orders {
    /// Whether nothing of a run is to be started.
    pub fn hold(&self, run: &RunId) -> bool {
        self.paused.is_some() || self.paused_runs.contains_key(run)
    }
}

/// A sweep that goes first, if the runner that began it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The sweep.
    pub sweep: String,
    /// The runner that began it last.
    pub runner: String,
}

/// That a sweep is the one of a name (`?1`), or one of its rungs (`?2`: [`rungs`] of the name).
pub(crate) const FAMILY: &str = "(sweep.name = ?1 OR substr(sweep.name, 1, length(?2)) = ?2)";

/// How the names of a sweep's rungs begin.
pub(crate) fn rungs(sweep: &str) -> String {
    format!("{sweep}{RUNG_MARK}")
}

/// What is said of a sweep's rungs, or of the sweep that a rung is one of, is said of one that is registered later, too.
pub(crate) fn take_over_orders(tx: &Transaction<'_>, sweep: (i64, &str)) -> Result<(), StoreError> {
    let (row, name) = sweep;
    let halved = SweepName::of(name).halved.unwrap_or(name);
    let sql = "INSERT INTO sweep_order (sweep, paused, priority)
        SELECT ?1, other.paused, other.priority FROM sweep_order AS other
        JOIN sweep ON sweep.id = other.sweep
        WHERE sweep.id <> ?1 AND (sweep.name = ?2 OR substr(sweep.name, 1, length(?3)) = ?3)
        ORDER BY sweep.id DESC LIMIT 1
        ON CONFLICT (sweep) DO NOTHING";
    tx.prepare_cached(sql)?
        .execute(params![row, halved, rungs(halved)])?;
    Ok(())
}

impl ReadStore {
    /// The names of a sweep's rungs that are known, in the order in which they came to be.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rungs_of(&self, sweep: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM sweep WHERE substr(name, 1, length(?1)) = ?1 ORDER BY id";
        self.rows(sql, [rungs(sweep)], |row| Ok(row.get(0)?))
    }

    /// What is said of a sweep and its runs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn orders(&self, sweep: &str) -> Result<Orders, StoreError> {
        let sql = "SELECT sweep_order.paused, sweep_order.priority FROM sweep_order
            JOIN sweep ON sweep.id = sweep_order.sweep AND sweep.name = ?1";
        let of_sweep = self.rows(sql, [sweep], |row| {
            Ok((row.get::<_, Option<i64>>(0)?.map(Timestamp), row.get(1)?))
        })?;
        let (paused, priority) = of_sweep.into_iter().next().unwrap_or_default();
        let sql = "SELECT run.run_id, run_order.paused FROM run_order
            JOIN run ON run.id = run_order.run
            WHERE run_order.paused IS NOT NULL
                AND run.id IN (SELECT trial_run.run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial
                JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1)";
        let runs = self.rows(sql, [sweep], |row| {
            Ok((RunId(row.get(0)?), Timestamp(row.get(1)?)))
        })?;
        Ok(Orders {
            paused,
            priority,
            paused_runs: runs.into_iter().collect(),
        })
    }

    /// The runner that began a sweep last, alive or not.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn runner_of(&self, sweep: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT sweep_order.runner FROM sweep_order
            JOIN sweep ON sweep.id = sweep_order.sweep AND sweep.name = ?1";
        let found = self.rows(sql, [sweep], |row| Ok(row.get::<_, Option<String>>(0)?))?;
        Ok(found.into_iter().next().flatten())
    }

    /// Sweeps of a higher priority than `sweep` that are not paused, were begun by another runner, and have
    /// runs that could start or are at work. Highest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rivals(&self, sweep: &str, owner: &str) -> Result<Vec<Rival>, StoreError> {
        let sql = "SELECT sweep.name, other.runner FROM sweep_order AS other
            JOIN sweep ON sweep.id = other.sweep
            WHERE other.paused IS NULL AND other.runner <> ?2 AND sweep.name <> ?1
                AND other.priority > coalesce((SELECT mine.priority FROM sweep_order AS mine
                    JOIN sweep AS me ON me.id = mine.sweep AND me.name = ?1), 0)
                AND EXISTS (SELECT 1 FROM trial
                    JOIN trial_run ON trial_run.trial = trial.id
                    JOIN run ON run.id = trial_run.run AND run.state IN ('ready', 'leased')
                    WHERE trial.sweep = sweep.id)
            ORDER BY other.priority DESC, sweep.name";
        self.rows(sql, [sweep, owner], |row| {
            Ok(Rival {
                sweep: row.get(0)?,
                runner: row.get(1)?,
            })
        })
    }

    /// Since when nothing of a run is started because a person paused it, or every sweep that has it; with
    /// the sweep, if it is one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn paused_since(
        &self,
        run: &RunId,
    ) -> Result<Option<(Timestamp, Option<String>)>, StoreError> {
        let sql = "SELECT run_order.paused FROM run_order
            JOIN run ON run.id = run_order.run AND run.run_id = ?1
            WHERE run_order.paused IS NOT NULL";
        let own = self.rows(sql, [&run.0], |row| Ok(Timestamp(row.get(0)?)))?;
        if let Some(since) = own.into_iter().next() {
            return Ok(Some((since, None)));
        }
        let sql = "SELECT DISTINCT sweep.name, sweep_order.paused FROM trial_run
            JOIN run ON run.id = trial_run.run AND run.run_id = ?1
            JOIN trial ON trial.id = trial_run.trial
            JOIN sweep ON sweep.id = trial.sweep
            LEFT JOIN sweep_order ON sweep_order.sweep = sweep.id
            ORDER BY sweep_order.paused";
        let sweeps = self.rows(sql, [&run.0], |row| {
            let since: Option<i64> = row.get(1)?;
            Ok((row.get::<_, String>(0)?, since.map(Timestamp)))
        })?;
        // Another sweep that has it and goes on carries it out.
        let paused: Option<Vec<_>> = sweeps
            .into_iter()
            .map(|(name, since)| Some((since?, Some(name))))
            .collect();
        Ok(paused.and_then(|all| all.into_iter().next_back()))
    }
}

impl Store {
    /// Pauses a sweep and its rungs since a time, or takes that back: all at once, so that a rung which is registered meanwhile
    /// is either among them or takes it over. Whether that changed anything.
    ///
    /// # Errors
    /// There is no such sweep and no rung of it, or the file cannot be written.
    pub fn pause_sweep(
        &mut self,
        sweep: &str,
        since: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let since = since.map(|at| at.0);
        // Since when one is paused does not change with another pause.
        let other = "(sweep_order.paused IS NULL) <> (excluded.paused IS NULL)";
        let sql = format!(
            "INSERT INTO sweep_order (sweep, paused) SELECT id, ?3 FROM sweep WHERE {FAMILY}
            ON CONFLICT (sweep) DO UPDATE SET paused = excluded.paused WHERE {other}"
        );
        let counts = format!(
            "SELECT count(*), coalesce(sum((sweep_order.paused IS NULL) <> (?3 IS NULL)), 0)
            FROM sweep LEFT JOIN sweep_order ON sweep_order.sweep = sweep.id WHERE {FAMILY}"
        );
        let rungs = rungs(sweep);
        let family = params![sweep, rungs, since];
        let tx = self.writer()?;
        let (known, others): (i64, i64) = tx
            .prepare_cached(&counts)?
            .query_row(family, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if others > 0 {
            tx.prepare_cached(&sql)?.execute(family)?;
        }
        tx.commit()?;
        if known == 0 {
            self.read().sweep(sweep)?;
        }
        Ok(others > 0)
    }

    /// Pauses a run since a time, or takes that back. Whether that changed anything.
    ///
    /// # Errors
    /// There is no such run, or the file cannot be written.
    pub fn pause_run(&mut self, run: &RunId, since: Option<Timestamp>) -> Result<bool, StoreError> {
        let sql = "INSERT INTO run_order (run, paused) VALUES (?1, ?2)
            ON CONFLICT (run) DO UPDATE SET paused = excluded.paused
            WHERE (run_order.paused IS NULL) <> (excluded.paused IS NULL)";
        let tx = self.writer()?;
        let row = row_of(&tx, run)?;
        let known = "SELECT paused IS NOT NULL FROM run_order WHERE run = ?1";
        let before: Option<bool> = tx
            .prepare_cached(known)?
            .query_row([row], |row| row.get(0))
            .optional()?;
        let since = since.map(|at| at.0);
        tx.prepare_cached(sql)?.execute(params![row, since])?;
        tx.commit()?;
        Ok(before.unwrap_or(false) != since.is_some())
    }

    /// Sets the priority of a sweep and its rungs, all at once.
    ///
    /// # Errors
    /// There is no such sweep and no rung of it, or the file cannot be written.
    pub fn set_priority(&mut self, sweep: &str, priority: i64) -> Result<(), StoreError> {
        let rungs = rungs(sweep);
        let family = params![sweep, rungs, priority];
        self.order_sweeps((sweep, FAMILY), ("priority", "?3"), family)
    }

    /// Remembers which runner has begun a sweep, which may be a rung.
    ///
    /// # Errors
    /// There is no such sweep, or the file cannot be written.
    pub fn set_runner(&mut self, sweep: &str, runner: &str) -> Result<(), StoreError> {
        let own = "sweep.name = ?1";
        self.order_sweeps((sweep, own), ("runner", "?2"), params![sweep, runner])
    }

    fn order_sweeps(
        &mut self,
        (sweep, which): (&str, &str),
        (column, value): (&str, &str),
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO sweep_order (sweep, {column}) SELECT id, {value} FROM sweep WHERE {which}
            ON CONFLICT (sweep) DO UPDATE SET {column} = excluded.{column}"
        );
        let tx = self.writer()?;
        let changed = tx.prepare_cached(&sql)?.execute(parameters)?;
        tx.commit()?;
        if changed == 0 {
            self.read().sweep(sweep)?;
        }
        Ok(())
    }
}
