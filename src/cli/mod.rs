//! Words in, words out, exit code.
//!
//! One command, one file under `commands`: its `Args` and its `run`. Data goes to stdout, talk to
//! stderr; only this module decides how an error looks and with which code the program ends.
//! Start at [`app`].

mod app;
mod calibration;
mod cards;
mod chat;
mod checkpoint;
mod commands;
mod cost;
mod database;
mod error;
mod first_table;
mod global;
mod halving;
mod held_out;
mod notify;
mod numbers;
mod pick;
mod planned;
mod preflight;
mod progress;
mod progress_line;
mod project;
mod prompts;
mod quick;
mod signals;
mod slots;
mod starter;
mod sweep_file;
mod table_files;
mod talk;
mod text;
mod time_limit;
mod translate;
mod trl;
mod ui;
mod watch;

pub use app::main;
pub use error::{CommandError, ErrorKind, exit_code};
