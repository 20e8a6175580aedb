//! Measures training and sampling: the same objectives, loop and sampler as a run, without a run.
//!
//! [`bench`] prepares the work of a [`BenchRequest`] (`work`), takes some steps to warm up and some
//! that count (`measure`), and reports medians with quartiles on both clocks (`report`). Nothing is
//! written but the file of [`BenchRequest::work_file`], with which another implementation can do
//! exactly the same work.

mod measure;
mod peak;
mod place;
#[cfg(test)]
mod plan_tests;
mod recipe;
mod report;
mod request;
mod run;
mod work;

pub use report::{BenchDevice, BenchReport, BenchStep, BenchUnit, PhaseTime, Spread};
pub use request::{BenchKind, BenchModel, BenchRequest, BenchShape, Between};
pub use run::bench;
