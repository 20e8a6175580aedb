//! A checkpoint behind OpenAI's interface: completions and chats over HTTP, on this machine alone.
//!
//! Threads of the server read requests, [`request`] checks them, and one thread, the caller's, answers them one after
//! another with a [`Session`](crate::stage::Session); replies are written to their clients by threads of their own, so
//! that no client holds up another. What is not supported is refused and never ignored.

mod answer;
mod api_error;
mod client;
mod request;
mod server;
mod shapes;

pub use server::{ModelServer, ServingError};
