//! Turns a sweep file into fully typed trials, or into an error that points at the place.
//!
//! Start at [`spec`] for what a trial is and at [`sweep`] for what a file expands to;
//! `sweeps/README.md` describes the files. The passes, in order: *parse* (spans kept),
//! *extends* (the later file wins), *overlay* (axis values set into the base tree, each keeping its
//! place), *type* (serde; unknown keys refused), *check* (rules across fields). Whichever pass finds
//! a mistake, it is shown with file, line, column, snippet and the nearest valid name.

mod check;
mod check_report;
mod diagnose;
mod expand;
mod file;
mod keys;
mod load;
mod loss;
mod schema;
pub mod spec;
pub mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod typed;

pub use diagnose::{ConfigError, Finding};
pub use keys::{file_stem, final_metric_keys, step_metric_keys};
pub use load::{Inputs, load_sweep, load_sweep_with};
