//! `lions serve` of a test: started, asked over its socket as a browser asks, ended with the value.

use crate::project::Project;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Longer than any answer takes here.
const LONG: Duration = Duration::from_mins(2);

/// A server of a project.
pub(crate) struct Server {
    child: Child,
    /// What it printed: the address to open.
    pub(crate) url: String,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let first = lines.next().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        Self {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Server {
    /// Starts it at a free port; `words` follow `lions serve --port 0`.
    pub(crate) fn start(project: &Project, words: &[&str]) -> Self {
        let words = [&["serve", "--port", "0"], words].concat();
        let mut command = project.command(&words);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        let port = url.split(':').nth(2).unwrap().split('/').next().unwrap();
        Self {
            child,
            address: format!("127.0.0.1:{port}"),
            url,
        }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends bytes and reads what comes until the end.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        Answer::read(&said)
    }

    /// Asks with lines of a head beside the host.
    pub(crate) fn ask(&self, method: &str, path: &str, lines: &str) -> Answer {
        let host = &self.address;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
        self.raw(head.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// The value at a path, which must be there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
