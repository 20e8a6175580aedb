//! Starts, polls and stops attempts somewhere.
//!
//! A [`Handle`] is text that outlives the process that made it, so that a later runner can ask
//! after an attempt or stop it. [`LocalBackend`] starts child processes on this machine; `queued` gives attempts to a
//! `scheduler`, which is `slurm` or any that has commands (`command`), whose jobs are `watch_attempt`;
//! `ScriptedBackend` plays attempts in tests. [`open_backend`] knows them all.

mod command;
mod git;
mod local;
mod outside;
mod queued;
mod queued_job;
#[cfg(test)]
mod queued_tests;
mod registry;
mod scheduler;
#[cfg(test)]
mod scripted;
mod slurm;
mod tell;
mod traits;
mod watch;

pub use git::git_state;
pub use local::{LocalBackend, end_with_runner, restart_with_threads};
pub use registry::open_backend;
#[cfg(test)]
pub use scripted::{Act, ScriptedBackend};
pub use tell::tell_command;
pub use traits::{
    Backend, BackendError, Eviction, Habits, Handle, LOCAL_HANDLE, Launch, Poll, SCRIPTED_HANDLE,
    StopSignal, THREAD_VARIABLES,
};
pub use watch::{JobSignals, watch_attempt};
