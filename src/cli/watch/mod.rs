//! `lions status --watch`: a screen that follows what is running, or lines at each change where no terminal is.
//!
//! [`Looker`] reads what is shown, [`WatchState`] is what keys do to it, `screen` draws it, `terminal` owns the
//! terminal.

mod look;
mod plain;
mod rows;
mod screen;
#[cfg(test)]
mod screen_tests;
mod state;
mod terminal;

pub(crate) use look::{Looker, Page};
pub(crate) use plain::follow;
pub(crate) use state::WatchState;
pub(crate) use terminal::watch;
