//! Turns a sweep file into fully typed trials, or into an error that points at the place.
//!
//! Start at [`spec`] for what a trial is and at [`sweep`] for what a file expands to.

pub mod spec;
pub mod sweep;
