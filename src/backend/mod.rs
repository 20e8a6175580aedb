//! Starts, polls and stops attempts somewhere.
//!
//! A [`Handle`] is text that outlives the process that made it, so that a later runner can ask
//! after an attempt or stop it. [`LocalBackend`] starts child processes on this machine;
//! `ScriptedBackend` plays attempts in tests. A backend is a file here and an entry of [`BACKENDS`].

mod local;
mod registry;
#[cfg(test)]
mod scripted;
mod tell;
mod traits;

pub use local::{LocalBackend, end_with_runner, restart_with_threads};
pub use registry::{BACKENDS, BackendSpec};
#[cfg(test)]
pub use scripted::{Act, ScriptedBackend};
pub use tell::tell_command;
pub use traits::{Backend, BackendError, Handle, Launch, Poll, StopSignal, THREAD_VARIABLES};
