//! Connections: one thread each, one request each. A client has so long for its request; where too many are open the
//! oldest gives way, so that clients that say nothing keep nobody else out.

use crate::serve::request::{MOST_HEAD, Request};
use crate::serve::response::Response;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// More connections than browsers of a laboratory open.
const MOST_OPEN: usize = 128;
/// For the whole head, however slowly it comes.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For each piece that the client takes.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// A client may still be sending what is not read: it would lose the answer if the connection were reset.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// Connections that are open, in order of their beginning.
#[derive(Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, TcpStream>,
}

/// Answers every request that comes, until the process ends.
pub fn serve(
    listener: &TcpListener,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    let open = Arc::new(Mutex::new(Open::default()));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file handles, perhaps: others close theirs.
                tracing::debug!(%error, "a connection was not taken");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let Ok(number) = enter(&open, &stream) else {
            continue;
        };
        let (answer, in_thread) = (Arc::clone(&answer), Arc::clone(&open));
        let begun = thread::Builder::new()
            .name(format!("client {number}"))
            .spawn(move || {
                if let Err(error) = converse(stream, &*answer) {
                    tracing::debug!(%error, "a client went away");
                }
                locked(&in_thread).streams.remove(&number);
            });
        if begun.is_err() {
            locked(&open).streams.remove(&number);
        }
    }
}

fn locked(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a connection, for which the oldest gives way if there are too many.
fn enter(open: &Mutex<Open>, stream: &TcpStream) -> io::Result<u64> {
    let kept = stream.try_clone()?;
    let mut open = locked(open);
    if open.streams.len() >= MOST_OPEN
        && let Some((_, oldest)) = open.streams.pop_first()
    {
        drop(oldest.shutdown(Shutdown::Both));
    }
    let number = open.next;
    open.next += 1;
    open.streams.insert(number, kept);
    Ok(number)
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIME))?;
    let (response, head_only) = match read_head(&mut stream)? {
        Ok(request) => {
            let head = request.method == "HEAD";
            // What goes wrong while one is answered ends for this one.
            let answered = catch_unwind(AssertUnwindSafe(|| answer(&request)));
            let response =
                answered.unwrap_or_else(|_| Response::error(500, "this is a bug of lions"));
            (response, head)
        }
        Err(refusal) => (refusal, false),
    };
    stream.write_all(&response.bytes(head_only))?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(DRAIN_TIME))?;
    let mut rest = [0; 4096];
    let until = Instant::now() + DRAIN_TIME;
    while Instant::now() < until && stream.read(&mut rest)? > 0 {}
    Ok(())
}

/// The request, or what its client is told instead.
fn read_head(stream: &mut TcpStream) -> io::Result<Result<Request, Response>> {
    let until = Instant::now() + HEAD_TIME;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match Request::read(&bytes) {
            Ok(Some(request)) => return Ok(Ok(request)),
            Err(refusal) => return Ok(Err(refusal)),
            Ok(None) => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(Response::error(408, "the request took too long")));
        }
        stream.set_read_timeout(Some(left))?;
        let room = (MOST_HEAD - bytes.len().min(MOST_HEAD)).clamp(1, part.len());
        match stream.read(&mut part[..room]) {
            Ok(0) if bytes.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(Err(Response::error(400, "the request ends in its head"))),
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A time limit is told as one or the other, by the system.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
