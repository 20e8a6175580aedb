//! A client that waits for its answer. What is written to it goes through a thread of its own: one that does not read
//! holds up nobody.

use super::api_error::ApiError;
use serde_json::Value;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tiny_http::{Header, Request, Response};

/// A client before anything was written to it.
pub(super) struct Client(pub(super) Request);

/// A client that gets an answer in parts.
pub(super) struct Stream {
    parts: Sender<Vec<u8>>,
    gone: Arc<AtomicBool>,
}

impl Client {
    /// Answers at once, with JSON.
    pub(super) fn answer(self, status: u16, body: &Value) {
        let text = body.to_string();
        let mut response = Response::from_string(text).with_status_code(status);
        if let Ok(header) = Header::from_bytes("content-type", "application/json") {
            response = response.with_header(header);
        }
        // A client that has gone away has no use for it.
        thread::spawn(move || drop(self.0.respond(response)));
    }

    /// Refuses.
    pub(super) fn refuse(self, error: &ApiError) {
        self.answer(error.status, &error.json());
    }

    /// Begins an answer in parts: events as the server sends them, in HTTP's chunks.
    pub(super) fn stream(self) -> Stream {
        let (parts, received) = channel();
        let gone = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&gone);
        thread::spawn(move || {
            let mut writer = self.0.into_writer();
            if write_chunks(&mut writer, &received).is_err() {
                told.store(true, Ordering::SeqCst);
            }
        });
        Stream { parts, gone }
    }
}

fn write_chunks(to: &mut impl Write, parts: &Receiver<Vec<u8>>) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
        transfer-encoding: chunked\r\n\r\n";
    to.write_all(head.as_bytes())?;
    to.flush()?;
    for part in parts {
        write!(to, "{:x}\r\n", part.len())?;
        to.write_all(&part)?;
        to.write_all(b"\r\n")?;
        to.flush()?;
    }
    to.write_all(b"0\r\n\r\n")?;
    to.flush()
}

impl Stream {
    /// Whether the client still listens, as far as is known.
    pub(super) fn listens(&self) -> bool {
        !self.gone.load(Ordering::SeqCst)
    }

    /// Sends an event.
    pub(super) fn send(&self, event: &Value) {
        self.send_text(&event.to_string());
    }

    /// Sends the event that ends a stream.
    pub(super) fn end(self) {
        self.send_text("[DONE]");
    }

    fn send_text(&self, text: &str) {
        // Its thread ends early only if the client is gone.
        drop(self.parts.send(format!("data: {text}\n\n").into_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chunks_and_the_last_is_empty() {
        let (parts, received) = channel();
        for text in ["data: a\n\n", "data: [DONE]\n\n"] {
            parts.send(text.as_bytes().to_vec()).unwrap();
        }
        drop(parts);
        let mut written = Vec::new();
        write_chunks(&mut written, &received).unwrap();
        let text = String::from_utf8(written).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(
            body,
            "9\r\ndata: a\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        );
    }
}
