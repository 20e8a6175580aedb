//! Define, run and compare alignment ablations of language models.
//!
//! A sweep file becomes trials ([`config`]), trials become a DAG of content-addressed runs
//! ([`plan`]), runs are executed from a queue ([`queue`], [`runner`], [`backend`], [`store`]) by
//! stages ([`stage`]) that train and evaluate ([`data`], [`model`], [`train`], [`generate`],
//! [`judge`], [`eval`], [`select`]), models are served ([`serving`]), and the results become tables and figures ([`report`],
//! [`figures`]). The two wings meet only in the run directory ([`rundir`]).
//!
//! Imports go downwards only; `ARCHITECTURE.md` has the floors.

pub mod arch;
pub mod backend;
pub mod base;
pub mod cli;
pub mod config;
pub mod data;
pub mod eval;
pub mod figures;
pub mod generate;
pub mod gpu;
pub mod judge;
pub mod live;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod preflight;
pub mod queue;
pub mod report;
pub mod rundir;
pub mod runner;
pub mod select;
pub mod serve;
pub mod serving;
pub mod stage;
pub mod store;
pub mod train;
