//! Listens on this machine, and answers one request after another.

use super::answer::Answering;
use super::api_error::ApiError;
use super::client::Client;
use super::request::{Request, read_request};
use super::shapes::Head;
use crate::base::{Clock as _, Host, Shutdown, SystemClock};
use crate::stage::Session;
use serde_json::json;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;
use tiny_http::{Method, Server};

/// Threads that read requests: a client that is slow to send holds up one of them and no reply.
const READERS: usize = 4;
/// Requests that wait for their turn; more are told to come again. lm-evaluation-harness sends a few at a time.
const WAITING: usize = 64;
/// Bytes of a request at most: some hundred prompts of the longest contexts as lists of tokens.
const LONGEST_BODY: usize = 32 << 20;
/// How soon a request to stop is seen.
const LOOK: Duration = Duration::from_millis(200);

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// Another program listens there, or may not.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
}

/// A server that listens on the loopback interface alone.
pub struct ModelServer {
    http: Server,
    address: SocketAddr,
}

impl std::fmt::Debug for ModelServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A request that waits for its turn.
struct Waiting {
    client: Client,
    request: Request,
    chat: bool,
}

impl ModelServer {
    /// Listens on a port; 0 takes one that is free.
    ///
    /// # Errors
    /// The port is taken or not allowed.
    pub fn bind(port: u16) -> Result<Self, ServingError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let refused = |reason: String| ServingError::Bind { address, reason };
        let http = Server::http(address).map_err(|error| refused(error.to_string()))?;
        let found = http.server_addr().to_ip();
        let address = found.ok_or_else(|| refused("it has no address".to_owned()))?;
        Ok(Self { http, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a session as the model `name` until a stop is asked for. A request without a seed has the next one from
    /// `seed` on. `tell` is told each answer in a line.
    pub fn serve(
        &self,
        session: &mut Session,
        name: &str,
        seed: u64,
        shutdown: &Shutdown,
        tell: &mut dyn FnMut(&str),
    ) {
        let began = now();
        let (send, waiting) = sync_channel::<Waiting>(WAITING);
        thread::scope(|scope| {
            for _ in 0..READERS {
                let send = send.clone();
                scope.spawn(move || {
                    while !shutdown.requested() {
                        // An error is of one connection.
                        if let Ok(Some(request)) = self.http.recv_timeout(LOOK) {
                            take(Client(request), name, began, &send);
                        }
                    }
                });
            }
            drop(send);
            let mut id = 0;
            loop {
                match waiting.recv_timeout(LOOK) {
                    Ok(one) if shutdown.requested() => one.client.refuse(&stopping()),
                    Ok(one) => {
                        let head = Head {
                            chat: one.chat,
                            id,
                            created: now(),
                            model: name.to_owned(),
                        };
                        tell(&answer(
                            session,
                            &head,
                            one,
                            seed.wrapping_add(id),
                            shutdown,
                        ));
                        id += 1;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    // The readers have ended, as they do when a stop is asked for.
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemClock.now().0 / 1000
}

fn stopping() -> ApiError {
    ApiError::status(503, "stopping", "the server is about to end")
}

/// Answers a request; a line about it.
fn answer(
    session: &mut Session,
    head: &Head,
    waiting: Waiting,
    seed: u64,
    shutdown: &Shutdown,
) -> String {
    let begun = SystemClock.elapsed_millis();
    let answering = Answering {
        session,
        head,
        request: &waiting.request,
        seed,
        shutdown,
    };
    let answered = answering.answer(waiting.client);
    let took = (SystemClock.elapsed_millis() - begun) as f64 / 1000.0;
    let what = if head.chat { "chat" } else { "completion" };
    match answered {
        Ok(usage) => format!(
            "{what} {}: {} tokens read, {} written, {took:.2} s",
            head.id, usage.prompt, usage.completion
        ),
        Err(error) => format!(
            "{what} {}: refused with {}: {}",
            head.id,
            error.status,
            error.message()
        ),
    }
}

/// Answers what needs no model, and puts what does into the queue.
fn take(mut client: Client, name: &str, began: i64, queue: &SyncSender<Waiting>) {
    let found = read(&mut client, name, began);
    let (request, chat) = match found {
        Ok(Read::Ask(request, chat)) => (request, chat),
        Ok(Read::Known(value)) => return client.answer(200, &value),
        Err(error) => return client.refuse(&error),
    };
    let waiting = Waiting {
        client,
        request: *request,
        chat,
    };
    match queue.try_send(waiting) {
        Ok(()) => {}
        Err(TrySendError::Full(waiting)) => {
            let message = format!("{WAITING} requests are waiting already");
            waiting
                .client
                .refuse(&ApiError::status(429, "rate_limit_exceeded", message));
        }
        Err(TrySendError::Disconnected(waiting)) => waiting.client.refuse(&stopping()),
    }
}

/// What a client wants.
enum Read {
    /// Replies; whether in a chat.
    Ask(Box<Request>, bool),
    /// What is known without the model.
    Known(serde_json::Value),
}

fn read(client: &mut Client, name: &str, began: i64) -> Result<Read, ApiError> {
    let http = &mut client.0;
    let header = |wanted: &'static str| {
        let mut headers = http.headers().iter();
        let found = headers.find(|header| header.field.equiv(wanted));
        found.map(|header| header.value.as_str().to_owned())
    };
    // A page in a browser may not reach the model under a name of its own for this machine.
    let host = header("host").unwrap_or_default();
    if !is_local(&host) {
        return Err(ApiError::status(
            403,
            "forbidden_host",
            format!("`{host}` is not served"),
        ));
    }
    let path = http.url().split('?').next().unwrap_or_default().to_owned();
    let model = json!({"id": name, "object": "model", "created": began, "owned_by": "lions"});
    let chat = match (http.method(), path.as_str()) {
        (Method::Get, "/v1/models") => {
            return Ok(Read::Known(json!({"object": "list", "data": [model]})));
        }
        (Method::Get, "/health") => return Ok(Read::Known(json!({"status": "ok"}))),
        (Method::Get, path) if path.strip_prefix("/v1/models/") == Some(name) => {
            return Ok(Read::Known(model));
        }
        (Method::Post, "/v1/completions") => false,
        (Method::Post, "/v1/chat/completions") => true,
        (_, "/v1/models" | "/v1/completions" | "/v1/chat/completions") => {
            let message = format!("{} is not for {path}", http.method());
            return Err(ApiError::status(405, "method_not_allowed", message));
        }
        _ => {
            return Err(ApiError::status(
                404,
                "not_found",
                format!("nothing is at {path}"),
            ));
        }
    };
    // Browsers send other types without asking whether they may.
    if !header("content-type")
        .unwrap_or_default()
        .starts_with("application/json")
    {
        let message = "the content type must be application/json";
        return Err(ApiError::status(415, "unsupported_media_type", message));
    }
    let too_large = || {
        ApiError::status(
            413,
            "too_large",
            format!("a request has at most {LONGEST_BODY} bytes"),
        )
    };
    if http
        .body_length()
        .is_some_and(|length| length > LONGEST_BODY)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let mut reader = http.as_reader().take(LONGEST_BODY as u64 + 1);
    let read = reader.read_to_end(&mut body);
    read.map_err(|error| ApiError::bad(None, format!("the body cannot be read: {error}")))?;
    if body.len() > LONGEST_BODY {
        return Err(too_large());
    }
    let request = read_request(&body, chat, name)?;
    Ok(Read::Ask(Box::new(request), chat))
}

/// Whether a `Host` names this machine as its own programs do.
fn is_local(host: &str) -> bool {
    match Host::read(host) {
        Some(Host::Address(address)) => address.is_loopback(),
        Some(Host::Name(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_for_this_machine_are_not_served() {
        for host in ["localhost", "localhost:80", "127.0.0.1:8080", "[::1]:1"] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost:x",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
