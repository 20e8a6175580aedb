//! What a client is answered.

use crate::base::{chain, printable_json};
use crate::store::StoreError;
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;

/// Nothing but our own files, which hold no script in a page; no other page may frame or send to ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its HTTP status.
    pub status: u16,
    /// Its media type.
    pub kind: &'static str,
    /// Its body.
    pub body: Cow<'static, [u8]>,
    /// Headers beside the usual ones.
    pub headers: Vec<(&'static str, String)>,
}

impl Response {
    /// A body of a kind.
    pub(crate) fn of(kind: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            status: 200,
            kind,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    /// A value as JSON.
    pub(crate) fn json<T: Serialize>(value: &T) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Self::of(
                "application/json; charset=utf-8",
                printable_json(&text).into_owned().into_bytes(),
            ),
            Err(error) => Self::error(500, &error.to_string()),
        }
    }

    /// What is wrong, as JSON.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let mut response = Self::json(&json!({ "error": message }));
        response.status = status;
        response
    }

    /// That the client has it already, by its mark.
    pub(crate) fn unchanged() -> Self {
        let mut response = Self::of("application/json; charset=utf-8", Vec::new());
        response.status = 304;
        response
    }

    /// The same with another header.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// What is sent; without its body if `head` alone was asked for.
    pub(crate) fn bytes(&self, head: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nContent-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             Cross-Origin-Opener-Policy: same-origin\r\n",
            self.status,
            reason(self.status),
            self.kind,
            self.body.len(),
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        if !head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

/// What a client is told of a store that does not answer.
pub(crate) fn refusal(error: &StoreError) -> Response {
    let status = match error {
        StoreError::NoSweep { .. } | StoreError::NoRun { .. } => 404,
        StoreError::Ambiguous { .. } => 400,
        _ => 500,
    };
    Response::error(status, &chain(error))
}
