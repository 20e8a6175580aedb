//! Results that do not count any more, put out of the way: the run is published or done again.
//!
//! They are renamed, not deleted, so that what is left of them stays for a person to see.

use crate::base::PathError;
use crate::base::fs::is_gone;
use crate::rundir::collected::forget_collected;
use crate::rundir::error::RundirError;
use crate::rundir::files::attempt_numbers;
use crate::rundir::layout::{AttemptDir, RunDir};

/// Puts an outcome out of the way: the run is published again from the result that it was made of.
///
/// # Errors
/// It cannot be moved.
pub fn reject_outcome(dir: &RunDir) -> Result<(), PathError> {
    let path = dir.outcome();
    match std::fs::rename(&path, dir.path().join("outcome.rejected.json")) {
        Err(e) if !is_gone(&e) => Err(PathError::new("move", path, e)),
        _ => Ok(()),
    }
}

/// Puts an outcome and the results that it was made of out of the way: the run is done again.
///
/// # Errors
/// The outcome cannot be moved, or the folder not be read.
pub fn reject_all(dir: &RunDir) -> Result<(), RundirError> {
    reject_outcome(dir)?;
    for number in attempt_numbers(dir)? {
        reject_result(&dir.attempt(number));
    }
    forget_collected(dir)
}

/// Puts a result that led to no outcome out of the way, so that it is not adopted again. False if that
/// is refused.
pub fn reject_result(attempt: &AttemptDir) -> bool {
    let rejected = attempt.path().join("result.rejected.json");
    let moved = std::fs::rename(attempt.result(), rejected);
    moved.as_ref().err().is_none_or(is_gone)
}
