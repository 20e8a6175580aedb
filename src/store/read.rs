//! Questions to the store. None of them changes anything.

use crate::base::{Digest, Timestamp};
use crate::plan::{RunId, StageKind};
use crate::queue::{CRASH_LIMIT, Facts, RunState, explain};
use crate::rundir::{MetricValue, Usage};
use crate::store::error::StoreError;
use crate::store::open::ReadStore;
use crate::store::rows::{
    ArtifactRow, AttemptRow, LiveAttempt, RunRow, StateCounts, SweepRow, TrialRow, TrialRun,
    TrialUse, Why, class_of, device_of, kind_of, state_of, uint,
};
use crate::store::stored::StoredSweep;
use rusqlite::{OptionalExtension as _, Params, Row};
use std::collections::BTreeMap;

const RUN_COLUMNS: &str = "SELECT run.run_id, run.kind, run.state, run.attempts, run.crashes,
    run.tokens, run.flops, run.peak_memory_bytes, run.created, run.finished,
    live.number, live.expires, last.class, last.message, run_order.paused
FROM run
LEFT JOIN run_order ON run_order.run = run.id
LEFT JOIN attempt AS live ON live.run = run.id AND live.state = 'live'
LEFT JOIN attempt AS last ON last.run = run.id AND last.number =
    (SELECT max(number) FROM attempt WHERE run = run.id AND ended IS NOT NULL) ";

impl ReadStore {
    /// Every sweep, latest registration first.
    pub fn sweeps(&self) -> Result<Vec<SweepRow>, StoreError> {
        let sql = "SELECT sweep.name, sweep.question, sweep.registered,
                (SELECT count(*) FROM trial WHERE trial.sweep = sweep.id),
                sweep_order.paused, coalesce(sweep_order.priority, 0)
            FROM sweep LEFT JOIN sweep_order ON sweep_order.sweep = sweep.id
            ORDER BY sweep.registered DESC, sweep.name";
        let rows = self.rows(sql, [], |row| {
            Ok(SweepRow {
                name: row.get(0)?,
                question: row.get(1)?,
                registered: Timestamp(row.get(2)?),
                trials: size(row, 3)?,
                paused: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                priority: row.get(5)?,
                states: StateCounts::default(),
            })
        })?;
        let with_states = rows.into_iter().map(|mut row| {
            row.states = self.state_counts(&row.name)?;
            Ok(row)
        });
        with_states.collect()
    }

    /// What reports need of a sweep as it was registered, by whichever version.
    pub fn sweep(&self, name: &str) -> Result<StoredSweep, StoreError> {
        let sql = "SELECT content, registered FROM sweep WHERE name = ?1";
        let found = self.rows(sql, [name], |row| {
            let content: String = row.get(0)?;
            let registered = Timestamp(row.get(1)?);
            StoredSweep::read(&content, registered).map_err(|e| StoreError::Cell {
                column: "sweep.content",
                text: e.to_string(),
            })
        })?;
        found
            .into_iter()
            .next()
            .map_or_else(|| Err(self.no_sweep(name)), Ok)
    }

    /// How many runs of a sweep are in each state.
    pub fn state_counts(&self, sweep: &str) -> Result<StateCounts, StoreError> {
        let mut counts = StateCounts::default();
        for (_, state) in self.run_states(sweep)? {
            counts.add(state);
        }
        Ok(counts)
    }

    /// The runs of a sweep and where they stand, in order of first registration.
    pub fn run_states(&self, sweep: &str) -> Result<Vec<(RunId, RunState)>, StoreError> {
        let sql = "SELECT run.run_id, run.state, live.number, live.expires
            FROM run LEFT JOIN attempt AS live ON live.run = run.id AND live.state = 'live'
            WHERE run.id IN (SELECT trial_run.run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial
                JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1)
            ORDER BY run.id";
        self.rows(sql, [sweep], |row| {
            let state: String = row.get(1)?;
            Ok((RunId(row.get(0)?), state_of(&state, live_of(row, 2)?)?))
        })
    }

    /// When an attempt at a run of a sweep ended last, or its outcome was taken over; nothing if none was.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_end(&self, sweep: &str) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT max(max(
                coalesce(attempt.ended, run.finished), coalesce(run.finished, attempt.ended)))
            FROM run LEFT JOIN attempt ON attempt.run = run.id
            WHERE run.id IN (SELECT trial_run.run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial
                JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1)";
        let last: Option<i64> = self
            .conn
            .prepare_cached(sql)?
            .query_row([sweep], |row| row.get(0))?;
        Ok(last.map(Timestamp))
    }

    /// Where the given runs stand, in their order.
    pub fn states(&self, runs: &[RunId]) -> Result<Vec<RunState>, StoreError> {
        let sql = "SELECT run.state, live.number, live.expires
            FROM run LEFT JOIN attempt AS live ON live.run = run.id AND live.state = 'live'
            WHERE run.run_id = ?1";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut states = Vec::with_capacity(runs.len());
        for run in runs {
            let mut rows = statement.query([&run.0])?;
            let missing = || StoreError::NoRun {
                prefix: run.short().to_owned(),
            };
            let row = rows.next()?.ok_or_else(missing)?;
            states.push(state_of(&row.get::<_, String>(0)?, live_of(row, 1)?)?);
        }
        Ok(states)
    }

    /// The runs of a sweep, in order of first registration.
    pub fn runs(&self, sweep: &str) -> Result<Vec<RunRow>, StoreError> {
        let sql = format_runs(
            "WHERE run.id IN (SELECT trial_run.run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial
                JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1)
            ORDER BY run.id",
        );
        self.rows(&sql, [sweep], run_row)
    }

    /// Every run, in order of first registration.
    pub fn all_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        self.rows(&format_runs("ORDER BY run.id"), [], run_row)
    }

    /// Metrics along training of a run, step by step: of a step that several attempts made, the last attempt's.
    pub fn training_steps(
        &self,
        id: &RunId,
    ) -> Result<Vec<(u64, String, Option<f64>)>, StoreError> {
        let sql = "SELECT step, key, value, max(attempt) FROM step_metric
            JOIN run ON run.id = step_metric.run AND run.run_id = ?1
            GROUP BY step, key ORDER BY step, key";
        self.rows(sql, [&id.0], |row| {
            Ok((uint(row.get(0)?), row.get(1)?, row.get(2)?))
        })
    }

    /// A run.
    pub fn run(&self, id: &RunId) -> Result<RunRow, StoreError> {
        let found = self.rows(&format_runs("WHERE run.run_id = ?1"), [&id.0], run_row)?;
        let missing = || StoreError::NoRun {
            prefix: id.short().to_owned(),
        };
        found.into_iter().next().ok_or_else(missing)
    }

    /// The one run whose id begins with `prefix`.
    pub fn find_run(&self, prefix: &str) -> Result<RunId, StoreError> {
        let hex = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        let missing = || StoreError::NoRun {
            prefix: prefix.to_owned(),
        };
        if !hex {
            return Err(missing());
        }
        let sql = "SELECT run_id FROM run WHERE substr(run_id, 1, length(?1)) = lower(?1)";
        let mut found = self.rows(sql, [prefix], |row| Ok(RunId(row.get(0)?)))?;
        match found.len() {
            0 | 1 => found.pop().ok_or_else(missing),
            count => Err(StoreError::Ambiguous {
                prefix: prefix.to_owned(),
                count,
            }),
        }
    }

    /// The identity document of a run.
    pub fn identity(&self, id: &RunId) -> Result<String, StoreError> {
        let sql = "SELECT identity FROM run WHERE run_id = ?1";
        let found: Option<String> = self
            .conn
            .prepare_cached(sql)?
            .query_row([&id.0], |row| row.get(0))
            .optional()?;
        found.ok_or_else(|| StoreError::NoRun {
            prefix: id.short().to_owned(),
        })
    }

    /// Every attempt of a run, in order.
    pub fn attempts(&self, id: &RunId) -> Result<Vec<AttemptRow>, StoreError> {
        let sql = format_attempts("WHERE run.run_id = ?1 ORDER BY a.number");
        self.rows(&sql, [&id.0], attempt_row)
    }

    /// Every attempt at the runs of a sweep, in order, by run: one query, whatever the number of runs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sweep_attempts(
        &self,
        sweep: &str,
    ) -> Result<BTreeMap<RunId, Vec<AttemptRow>>, StoreError> {
        let sql = format_attempts(
            "WHERE run.id IN (SELECT trial_run.run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial
                JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1)
            ORDER BY run.id, a.number",
        );
        let all = self.rows(&sql, [sweep], |row| {
            Ok((RunId(row.get(16)?), attempt_row(row)?))
        })?;
        let mut by_run: BTreeMap<RunId, Vec<AttemptRow>> = BTreeMap::new();
        for (run, attempt) in all {
            by_run.entry(run).or_default().push(attempt);
        }
        Ok(by_run)
    }

    /// Of each run of a sweep that was tried: when its last attempt was claimed, and when it ended.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_attempts(
        &self,
        sweep: &str,
    ) -> Result<BTreeMap<RunId, (Timestamp, Option<Timestamp>)>, StoreError> {
        let sql = "SELECT run.run_id, a.started, a.ended FROM run
            JOIN attempt AS a ON a.run = run.id AND a.number = run.attempts
            WHERE run.id IN (SELECT trial_run.run FROM trial_run
                JOIN trial ON trial.id = trial_run.trial
                JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1)";
        let rows = self.rows(sql, [sweep], |row| {
            let ended: Option<i64> = row.get(2)?;
            let times = (Timestamp(row.get(1)?), ended.map(Timestamp));
            Ok((RunId(row.get(0)?), times))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// How many trials of a sweep have each of its runs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn uses(&self, sweep: &str) -> Result<BTreeMap<RunId, usize>, StoreError> {
        let sql = "SELECT run.run_id, count(*) FROM trial_run
            JOIN trial ON trial.id = trial_run.trial
            JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1
            JOIN run ON run.id = trial_run.run GROUP BY run.id";
        let rows = self.rows(sql, [sweep], |row| Ok((RunId(row.get(0)?), size(row, 1)?)))?;
        Ok(rows.into_iter().collect())
    }

    /// Every attempt that is at work, by run.
    pub fn live_attempts(&self) -> Result<Vec<LiveAttempt>, StoreError> {
        let sql = "SELECT run.run_id, run.kind, a.number, a.owner, a.device, a.handle, a.started,
                a.expires
            FROM attempt AS a JOIN run ON run.id = a.run WHERE a.state = 'live' ORDER BY run.id";
        self.rows(sql, [], |row| {
            Ok(LiveAttempt {
                run: RunId(row.get(0)?),
                kind: kind_of(&row.get::<_, String>(1)?)?,
                attempt: row.get(2)?,
                owner: row.get(3)?,
                device: device_of(row.get(4)?)?,
                handle: row.get(5)?,
                started: Timestamp(row.get(6)?),
                expires: Timestamp(row.get(7)?),
            })
        })
    }

    /// The trials of a sweep in order, each with the final metrics of its evaluation.
    pub fn trials(&self, sweep: &str) -> Result<Vec<TrialRow>, StoreError> {
        let mut trials = self.trials_unmeasured(sweep)?;
        self.add_metrics(sweep, &mut trials)?;
        Ok(trials)
    }

    /// The same without metrics, which are many.
    pub fn trials_unmeasured(&self, sweep: &str) -> Result<Vec<TrialRow>, StoreError> {
        let sql = "SELECT trial.number, trial.label, trial.seed, trial.assignments, run.run_id,
                run.state, live.number, live.expires
            FROM trial
            JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1
            JOIN run ON run.id = trial.eval_run
            LEFT JOIN attempt AS live ON live.run = run.id AND live.state = 'live'
            ORDER BY trial.number";
        let mut trials = self.rows(sql, [sweep], |row| {
            let assignments: String = row.get(3)?;
            Ok(TrialRow {
                index: size(row, 0)?,
                label: row.get(1)?,
                seed: row.get::<_, i64>(2)?.cast_unsigned(),
                assignments: serde_json::from_str(&assignments).map_err(|_| StoreError::Cell {
                    column: "trial.assignments",
                    text: assignments.clone(),
                })?,
                runs: Vec::new(),
                eval: RunId(row.get(4)?),
                state: state_of(&row.get::<_, String>(5)?, live_of(row, 6)?)?,
                metrics: BTreeMap::new(),
            })
        })?;
        if trials.is_empty() {
            self.sweep(sweep)?;
        }
        self.add_runs(sweep, &mut trials)?;
        Ok(trials)
    }

    fn add_runs(&self, sweep: &str, trials: &mut [TrialRow]) -> Result<(), StoreError> {
        let sql = "SELECT trial.number, run.run_id, run.kind, run.state, live.number, live.expires
            FROM trial
            JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1
            JOIN trial_run ON trial_run.trial = trial.id
            JOIN run ON run.id = trial_run.run
            LEFT JOIN attempt AS live ON live.run = run.id AND live.state = 'live'
            ORDER BY trial.number, trial_run.position";
        let runs = self.rows(sql, [sweep], |row| {
            let run = TrialRun {
                id: RunId(row.get(1)?),
                kind: kind_of(&row.get::<_, String>(2)?)?,
                state: state_of(&row.get::<_, String>(3)?, live_of(row, 4)?)?,
            };
            Ok((size(row, 0)?, run))
        })?;
        for (index, run) in runs {
            if let Ok(at) = trials.binary_search_by_key(&index, |trial| trial.index) {
                trials[at].runs.push(run);
            }
        }
        Ok(())
    }

    fn add_metrics(&self, sweep: &str, trials: &mut [TrialRow]) -> Result<(), StoreError> {
        let sql = "SELECT trial.number, metric.key, metric.value, metric.stderr, metric.n
            FROM trial
            JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1
            JOIN metric ON metric.run = trial.eval_run";
        let metrics = self.rows(sql, [sweep], |row| {
            Ok((size(row, 0)?, row.get::<_, String>(1)?, metric_of(row, 2)?))
        })?;
        for (index, key, value) in metrics {
            if let Ok(at) = trials.binary_search_by_key(&index, |trial| trial.index) {
                trials[at].metrics.insert(key, value);
            }
        }
        Ok(())
    }

    /// Final metrics of a run; empty until it is done.
    pub fn metrics(&self, id: &RunId) -> Result<BTreeMap<String, MetricValue>, StoreError> {
        let sql = "SELECT metric.key, metric.value, metric.stderr, metric.n
            FROM metric JOIN run ON run.id = metric.run AND run.run_id = ?1";
        let rows = self.rows(sql, [&id.0], |row| Ok((row.get(0)?, metric_of(row, 1)?)))?;
        Ok(rows.into_iter().collect())
    }

    /// Step and value of every number along training, as whoever opens the database sees them.
    #[cfg(test)]
    pub(crate) fn training(&self, id: &RunId) -> Result<Vec<(u64, f64)>, StoreError> {
        let sql =
            "SELECT step, value FROM training WHERE run = substr(?1, 1, 12) ORDER BY step, metric";
        self.rows(sql, [&id.0], |row| {
            let value: Option<f64> = row.get(1)?;
            Ok((uint(row.get(0)?), value.unwrap_or(f64::NAN)))
        })
    }

    /// Documents, pairs and tokens kept, cut and dropped by a run.
    pub fn counts(&self, id: &RunId) -> Result<BTreeMap<String, u64>, StoreError> {
        let sql = "SELECT count.name, count.value
            FROM count JOIN run ON run.id = count.run AND run.run_id = ?1";
        let rows = self.rows(sql, [&id.0], |row| Ok((row.get(0)?, uint(row.get(1)?))))?;
        Ok(rows.into_iter().collect())
    }

    /// Remarks of a run, in order.
    pub fn notes(&self, id: &RunId) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT note.text FROM note JOIN run ON run.id = note.run AND run.run_id = ?1
            ORDER BY note.position";
        self.rows(sql, [&id.0], |row| Ok(row.get(0)?))
    }

    /// Files that a run published, by path.
    pub fn artifacts(&self, id: &RunId) -> Result<Vec<ArtifactRow>, StoreError> {
        let sql = "SELECT artifact.path, artifact.bytes, artifact.digest
            FROM artifact JOIN run ON run.id = artifact.run AND run.run_id = ?1
            ORDER BY artifact.path";
        self.rows(sql, [&id.0], |row| {
            Ok(ArtifactRow {
                path: row.get(0)?,
                bytes: uint(row.get(1)?),
                digest: Digest(row.get(2)?),
            })
        })
    }

    /// The runs that a run needs.
    pub fn parents(&self, id: &RunId) -> Result<Vec<(RunId, StageKind, RunState)>, StoreError> {
        let sql = "SELECT p.run_id, p.kind, p.state, live.number, live.expires
            FROM run_input
            JOIN run ON run.id = run_input.run AND run.run_id = ?1
            JOIN run AS p ON p.id = run_input.parent
            LEFT JOIN attempt AS live ON live.run = p.id AND live.state = 'live'
            ORDER BY p.id";
        self.rows(sql, [&id.0], neighbour)
    }

    /// The trials that need a run.
    pub fn trials_of(&self, id: &RunId) -> Result<Vec<TrialUse>, StoreError> {
        let sql = "SELECT DISTINCT sweep.name, trial.number, trial.label, trial.seed
            FROM trial_run
            JOIN run ON run.id = trial_run.run AND run.run_id = ?1
            JOIN trial ON trial.id = trial_run.trial
            JOIN sweep ON sweep.id = trial.sweep
            ORDER BY sweep.name, trial.number";
        self.rows(sql, [&id.0], |row| {
            Ok(TrialUse {
                sweep: row.get(0)?,
                index: size(row, 1)?,
                label: row.get(2)?,
                seed: row.get::<_, i64>(3)?.cast_unsigned(),
            })
        })
    }

    /// Why a run is not done.
    ///
    /// `paused` is what the runner that is alive says of why it starts nothing, and since when; `held` the
    /// attempt whose folder a process holds; `waits` why the live one waits at a scheduler, and since when.
    pub fn why(
        &self,
        id: &RunId,
        paused: Option<(String, Timestamp)>,
        (held, waits): (Option<u32>, Option<(String, Timestamp)>),
        now: Timestamp,
    ) -> Result<Why, StoreError> {
        let run = self.run(id)?;
        let attempts = self.attempts(id)?;
        let live = attempts.iter().find(|attempt| attempt.ended.is_none());
        let facts = Facts {
            state: run.state,
            crashes: run.crashes,
            crash_limit: CRASH_LIMIT,
            class: run.class,
            message: run.message.clone().unwrap_or_default(),
            inputs: self.parents(id)?,
            paused,
            waits,
            paused_by_person: self.paused_since(id)?,
            held,
            live: live.and_then(|attempt| Some((attempt.device.parse().ok()?, attempt.started))),
        };
        Ok(Why {
            blockers: explain(&facts, now),
            run,
        })
    }

    /// Every run that is done, in order of first registration.
    pub(crate) fn succeeded(&self) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT run_id FROM run WHERE state = 'succeeded' ORDER BY id";
        self.rows(sql, [], |row| Ok(RunId(row.get(0)?)))
    }

    /// Leased runs that another process wants cancelled.
    pub fn cancel_requests(&self) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT run.run_id FROM request JOIN run ON run.id = request.run
            WHERE request.kind = 'cancel' ORDER BY run.id";
        self.rows(sql, [], |row| Ok(RunId(row.get(0)?)))
    }

    fn no_sweep(&self, name: &str) -> StoreError {
        let names = self
            .sweeps()
            .unwrap_or_default()
            .into_iter()
            .map(|sweep| sweep.name);
        let known = names.collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known
        };
        StoreError::NoSweep {
            name: name.to_owned(),
            known,
        }
    }

    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut typed: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(typed(row)?);
        }
        Ok(all)
    }
}

const ATTEMPT_COLUMNS: &str =
    "SELECT a.number, a.state, a.owner, a.device, a.handle, a.started, a.expires,
    a.ended, a.class, a.message, a.wall_secs, a.cpu_secs, a.peak_memory_bytes,
    a.tokens, a.positions, a.flops, run.run_id
FROM attempt AS a JOIN run ON run.id = a.run ";

/// The columns of an [`AttemptRow`] with one of this module's own conditions.
fn format_attempts(condition: &'static str) -> String {
    [ATTEMPT_COLUMNS, condition].concat()
}

fn attempt_row(row: &Row<'_>) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        number: row.get(0)?,
        state: row.get(1)?,
        owner: row.get(2)?,
        device: row.get(3)?,
        handle: row.get(4)?,
        started: Timestamp(row.get(5)?),
        expires: Timestamp(row.get(6)?),
        ended: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        class: class_of(row.get(8)?)?,
        message: row.get(9)?,
        usage: usage_of(row)?,
    })
}

/// The columns of a [`RunRow`] with one of this module's own conditions.
fn format_runs(condition: &'static str) -> String {
    [RUN_COLUMNS, condition].concat()
}

fn run_row(row: &Row<'_>) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        id: RunId(row.get(0)?),
        kind: kind_of(&row.get::<_, String>(1)?)?,
        state: state_of(&row.get::<_, String>(2)?, live_of(row, 10)?)?,
        attempts: row.get(3)?,
        crashes: row.get(4)?,
        tokens: uint(row.get(5)?),
        flops: row.get(6)?,
        peak_memory_bytes: uint(row.get(7)?),
        created: Timestamp(row.get(8)?),
        finished: row.get::<_, Option<i64>>(9)?.map(Timestamp),
        class: class_of(row.get(12)?)?,
        message: row.get(13)?,
        paused: row.get::<_, Option<i64>>(14)?.map(Timestamp),
    })
}

fn neighbour(row: &Row<'_>) -> Result<(RunId, StageKind, RunState), StoreError> {
    let kind = kind_of(&row.get::<_, String>(1)?)?;
    let state = state_of(&row.get::<_, String>(2)?, live_of(row, 3)?)?;
    Ok((RunId(row.get(0)?), kind, state))
}

fn live_of(row: &Row<'_>, column: usize) -> Result<Option<(u32, Timestamp)>, StoreError> {
    let number: Option<u32> = row.get(column)?;
    let expires: Option<i64> = row.get(column + 1)?;
    Ok(number.zip(expires.map(Timestamp)))
}

fn size(row: &Row<'_>, column: usize) -> Result<usize, StoreError> {
    Ok(uint(row.get(column)?) as usize)
}

pub(crate) fn metric_of(row: &Row<'_>, column: usize) -> Result<MetricValue, StoreError> {
    let value: Option<f64> = row.get(column)?;
    Ok(MetricValue {
        value: value.unwrap_or(f64::NAN),
        stderr: row.get(column + 1)?,
        n: uint(row.get(column + 2)?),
    })
}

pub(crate) fn usage_of(row: &Row<'_>) -> Result<Option<Usage>, StoreError> {
    let Some(wall_secs) = row.get::<_, Option<f64>>(10)? else {
        return Ok(None);
    };
    Ok(Some(Usage {
        wall_secs,
        cpu_secs: row.get::<_, Option<f64>>(11)?.unwrap_or_default(),
        peak_memory_bytes: uint(row.get::<_, Option<i64>>(12)?.unwrap_or_default()),
        device_memory_bytes: None,
        tokens: uint(row.get::<_, Option<i64>>(13)?.unwrap_or_default()),
        positions: uint(row.get::<_, Option<i64>>(14)?.unwrap_or_default()),
        flops: row.get::<_, Option<f64>>(15)?.unwrap_or_default(),
    }))
}
