//! What a report tells of every run of a sweep, in a few queries: asked run by run, ten thousand runs take most of a
//! report's time.

use crate::plan::RunId;
use crate::rundir::{MetricValue, Usage};
use crate::store::error::StoreError;
use crate::store::open::ReadStore;
use crate::store::read::{metric_of, usage_of};
use crate::store::rows::uint;
use std::collections::{BTreeMap, HashMap};

/// What is stored of a run beside its state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunDetails {
    /// Final metrics; empty until it is done.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Documents, pairs and tokens kept, cut and dropped.
    pub counts: BTreeMap<String, u64>,
    /// Remarks, in order.
    pub notes: Vec<String>,
    /// The last attempt that ended well, and what it cost.
    pub finished: Option<(u32, Usage)>,
}

/// The runs of a sweep by their row.
const MINE: &str = "WITH mine (run) AS MATERIALIZED (SELECT DISTINCT trial_run.run FROM trial_run
    JOIN trial ON trial.id = trial_run.trial
    JOIN sweep ON sweep.id = trial.sweep AND sweep.name = ?1) ";

impl ReadStore {
    /// What is stored of every run of a sweep.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn details(&self, sweep: &str) -> Result<BTreeMap<RunId, RunDetails>, StoreError> {
        let mut found: HashMap<i64, RunDetails> = HashMap::new();
        let sql = format!(
            "{MINE} SELECT mine.run, metric.key, metric.value, metric.stderr, metric.n
            FROM mine JOIN metric ON metric.run = mine.run"
        );
        for (run, key, value) in self.rows(&sql, [sweep], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, metric_of(row, 2)?))
        })? {
            found.entry(run).or_default().metrics.insert(key, value);
        }
        let sql = format!(
            "{MINE} SELECT mine.run, count.name, count.value
            FROM mine JOIN count ON count.run = mine.run"
        );
        for (run, name, value) in self.rows(&sql, [sweep], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, uint(row.get(2)?)))
        })? {
            found.entry(run).or_default().counts.insert(name, value);
        }
        let sql = format!(
            "{MINE} SELECT mine.run, note.text FROM mine JOIN note ON note.run = mine.run
            ORDER BY note.run, note.position"
        );
        for (run, text) in self.rows(&sql, [sweep], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?))
        })? {
            found.entry(run).or_default().notes.push(text);
        }
        // The columns of usage stand where they stand among those of an attempt.
        let sql = format!(
            "{MINE} SELECT mine.run, a.number, 0, 0, 0, 0, 0, 0, 0, 0, a.wall_secs, a.cpu_secs,
                a.peak_memory_bytes, a.tokens, a.positions, a.flops
            FROM mine JOIN attempt AS a ON a.run = mine.run ORDER BY a.run, a.number"
        );
        for (run, number, usage) in self.rows(&sql, [sweep], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, usage_of(row)?))
        })? {
            if let Some(usage) = usage {
                found.entry(run).or_default().finished = Some((number, usage));
            }
        }
        let sql =
            format!("{MINE} SELECT run.id, run.run_id FROM mine JOIN run ON run.id = mine.run");
        let ids = self.rows(&sql, [sweep], |row| {
            Ok((row.get::<_, i64>(0)?, RunId(row.get(1)?)))
        })?;
        let named = ids.into_iter();
        let named = named.map(|(row, id)| (id, found.remove(&row).unwrap_or_default()));
        Ok(named.collect())
    }
}
