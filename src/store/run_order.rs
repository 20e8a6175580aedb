//! What is kept of a run beside its state, as transitions use it.

use crate::store::error::StoreError;
use rusqlite::{Transaction, params};

/// Whether a person has paused a run by itself.
pub(crate) fn is_paused(tx: &Transaction<'_>, row: i64) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM run_order WHERE run = ?1 AND paused IS NOT NULL)";
    Ok(tx.prepare_cached(sql)?.query_row([row], |row| row.get(0))?)
}

/// Keeps how often a run ran out of memory.
pub(crate) fn save_starved(tx: &Transaction<'_>, row: i64, starved: u32) -> Result<(), StoreError> {
    let sql = if starved > 0 {
        "INSERT INTO run_order (run, starved) VALUES (?1, ?2)
            ON CONFLICT (run) DO UPDATE SET starved = excluded.starved"
    } else {
        "UPDATE run_order SET starved = ?2 WHERE run = ?1"
    };
    tx.prepare_cached(sql)?.execute(params![row, starved])?;
    Ok(())
}
