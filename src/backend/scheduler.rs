//! What is needed of a program that queues jobs and starts them on other machines.

use crate::backend::traits::StopSignal;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A job: a name that nothing else has, and its number among those that were submitted together.
pub(crate) type TaskKey = (String, u32);

/// Jobs with equal needs, submitted together.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Their name.
    pub(crate) name: String,
    /// Their numbers, ascending.
    pub(crate) indices: Vec<u32>,
    /// Where their script lies and what they print goes.
    pub(crate) folder: PathBuf,
}

/// What a scheduler says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It waits, and why.
    Queued(String),
    /// It runs, ends, or is in a state that nobody here knows: it is taken to live.
    Alive,
    /// It is over.
    Ended(Ended),
}

/// How a scheduler says that a job is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Itself,
    /// At its time limit.
    TimeLimit,
    /// For want of memory.
    Memory,
    /// Another job took its place.
    Preempted,
    /// Its machine failed.
    Machine,
    /// Somebody cancelled it.
    Cancelled,
    /// It was cancelled when it had a machine: by somebody, or by the scheduler, which could not start it there or took it for
    /// another job.
    Dropped,
}

/// A program that queues jobs. Each call may take as long as a command takes; an error is what it said, and says nothing of
/// any job.
pub(crate) trait Scheduler {
    /// Submits a batch. After an error it may have been submitted all the same.
    fn submit(&mut self, batch: &Batch) -> Result<(), String>;

    /// The state of every job of these names that is known, in as few commands as is possible. One that is left out is not
    /// known.
    fn look(&mut self, jobs: &[(TaskKey, PathBuf)]) -> Result<BTreeMap<TaskKey, Seen>, String>;

    /// Ends a job: it is asked to save its state first, if there is time.
    fn cancel(
        &mut self,
        job: &TaskKey,
        folder: &std::path::Path,
        how: StopSignal,
    ) -> Result<(), String>;

    /// Whether such jobs would ever start; why not. Nothing where that cannot be told.
    fn refuses(&mut self) -> Option<String>;

    /// Has no further job start on a node; `false` where that cannot be asked for.
    ///
    /// # Errors
    /// Such jobs would never start then. They may start there again.
    fn exclude(&mut self, _node: &str) -> Result<bool, String> {
        Ok(false)
    }

    /// Shell for the number of a job of an array; nothing where each job has a script of its own.
    fn index_variable(&self) -> Option<&'static str>;
}
