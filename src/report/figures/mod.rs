//! Fills a figure of the sweep file with results.
//!
//! [`build_figure`] parts configurations into panels; what a panel shows, what is said of it and how
//! it is labelled stands one file a kind.

mod bars;
mod batch;
mod build;
mod builder;
mod differences;
mod findings;
mod lines;
mod scaling;
mod training;

pub use build::build_figure;
