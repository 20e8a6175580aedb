//! Batched sampling from a policy.
//!
//! [`sample`] keeps a number of rows in flight and refills rows that end. Every sample draws from its
//! own generator of random numbers, so that a batch of one and a batch of sixteen give the same tokens.
//! It asks a [`Generator`] for logits and touches no tensor; [`crate::model::Decoder`] is one on the
//! CPU, [`crate::model::DeviceModel`] on a device of [`gpu`](crate::gpu).

mod device;
mod draw;
mod error;
mod generator;
mod host;
mod logits;
mod sample;
mod text_stream;
mod until;

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod generator_tests;

pub use draw::draw_token;
pub use error::GenerateError;
pub use generator::{Generator, Room, Rows};
pub use logits::LogitReader;
pub use sample::{Completion, Drawn, SampleJob, sample, sample_watched};
pub use text_stream::TextStream;
pub use until::StopTexts;
