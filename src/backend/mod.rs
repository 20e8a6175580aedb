//! Starts, polls and stops attempts somewhere.
//!
//! A [`Handle`] is text that outlives the process that made it, so that a later runner can ask
//! after an attempt or stop it. [`LocalBackend`] starts child processes on this machine;
//! `ScriptedBackend` plays attempts in tests.

pub mod local;
#[cfg(test)]
pub mod scripted;
pub mod traits;

pub use local::{LocalBackend, THREAD_VARIABLES, end_with_runner, restart_with_threads};
#[cfg(test)]
pub use scripted::{Act, ScriptedBackend};
pub use traits::{Backend, BackendError, Handle, Launch, Poll, StopSignal};
