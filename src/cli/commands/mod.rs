//! One command, one file: `Args` and `run`.

pub(crate) mod bench;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod figures;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod job;
pub(crate) mod log;
pub(crate) mod merge;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod why;
