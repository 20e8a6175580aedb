//! The file of raw answers: one JSON line for each response of an endpoint, so that nothing that was
//! paid for is asked again.

use crate::base::{Digest, PathError, append_line, digest_bytes};
use crate::judge::error::JudgeError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Digest of the request: address and body of the first attempt.
    pub(super) request: Digest,
    /// Id of the item that it was asked for first.
    pub(super) item: String,
    /// Which time the question was asked, from 1.
    pub(super) attempt: u32,
    /// HTTP status.
    pub(super) status: u16,
    /// The body, as it came.
    pub(super) response: String,
}

/// An open file of answers, and what was in it.
#[derive(Debug)]
pub(super) struct Answers {
    path: PathBuf,
    file: Mutex<File>,
    known: BTreeMap<Digest, Vec<String>>,
}

impl Answers {
    /// Opens the file, or makes it. A last line without an end (a killed process) is cut off.
    ///
    /// # Errors
    /// The file cannot be read or written, or a whole line of it is no answer.
    pub(super) fn open(path: &Path) -> Result<Self, JudgeError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| PathError::new("create", parent, e))?;
        }
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|e| PathError::new("open", path, e))?;
        let bytes = fs::read(path).map_err(|e| PathError::new("read", path, e))?;
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        if whole < bytes.len() {
            opened
                .set_len(whole as u64)
                .map_err(|e| PathError::new("shorten", path, e))?;
        }
        let mut known: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        let lines = bytes[..whole].split(|b| *b == b'\n').enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let answer: Answer =
                serde_json::from_slice(line).map_err(|error| JudgeError::Answers {
                    path: path.to_owned(),
                    line: index + 1,
                    problem: error.to_string(),
                })?;
            if !is_whole(line, &answer) {
                let (path, line) = (path.display(), index + 1);
                tracing::warn!("line {line} of `{path}` is not as it was written: asked again");
                continue;
            }
            if is_success(answer.status) {
                known
                    .entry(answer.request)
                    .or_default()
                    .push(answer.response);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(opened),
            known,
        })
    }

    /// Successful responses to a request that were there when the file was opened, in order.
    pub(super) fn known(&self, request: &Digest) -> &[String] {
        self.known.get(request).map_or(&[], Vec::as_slice)
    }

    /// Adds a response.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&self, answer: &Answer) -> Result<(), PathError> {
        let failed = |e| PathError::new("append to", &self.path, e);
        let line = line_of(answer).map_err(|e| failed(e.into()))?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        append_line(&mut file, &line).map_err(failed)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A line of the file: an answer with a digest of it, so that damage is noticed.
#[derive(Serialize)]
struct Line<'a> {
    check: Digest,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// The digest of a line; none in files of earlier versions.
#[derive(Deserialize)]
struct Check {
    #[serde(default)]
    check: Option<Digest>,
}

fn line_of(answer: &Answer) -> serde_json::Result<String> {
    let check = digest_bytes(&serde_json::to_vec(answer)?);
    serde_json::to_string(&Line { check, answer })
}

fn is_whole(line: &[u8], answer: &Answer) -> bool {
    let Ok(Check { check: Some(check) }) = serde_json::from_slice(line) else {
        return true;
    };
    serde_json::to_vec(answer).is_ok_and(|text| digest_bytes(&text) == check)
}

/// Whether an HTTP status says that the request was answered.
pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str, status: u16, response: &str) -> Answer {
        Answer {
            request: digest_bytes(request.as_bytes()),
            item: "a".to_owned(),
            attempt: 1,
            status,
            response: response.to_owned(),
        }
    }

    #[test]
    fn successful_answers_are_there_again_and_a_half_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/answers.jsonl");
        let answers = Answers::open(&path).unwrap();
        answers.add(&answer("q", 500, "busy")).unwrap();
        answers.add(&answer("q", 200, "one\ntwo \u{e9}")).unwrap();
        answers.add(&answer("q", 200, "three")).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"{\"request\":\"ab").unwrap();

        let again = Answers::open(&path).unwrap();
        let request = digest_bytes(b"q");
        assert_eq!(again.known(&request), ["one\ntwo \u{e9}", "three"]);
        assert!(again.known(&digest_bytes(b"r")).is_empty());
        assert_eq!(fs::read(&path).unwrap(), whole);
        again.add(&answer("r", 200, "four")).unwrap();
        assert_eq!(
            Answers::open(&path).unwrap().known(&digest_bytes(b"r")),
            ["four"]
        );
    }

    #[test]
    fn an_answer_in_which_a_byte_changed_is_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.jsonl");
        let answers = Answers::open(&path).unwrap();
        answers.add(&answer("q", 200, "rating 3")).unwrap();
        answers.add(&answer("r", 200, "rating 4")).unwrap();
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("rating 3", "rating 9");
        crate::base::write_atomic(&path, text.as_bytes()).unwrap();
        let again = Answers::open(&path).unwrap();
        assert!(again.known(&digest_bytes(b"q")).is_empty());
        assert_eq!(again.known(&digest_bytes(b"r")), ["rating 4"]);
    }

    #[test]
    fn a_whole_line_that_is_no_answer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.jsonl");
        let answers = Answers::open(&path).unwrap();
        answers.add(&answer("q", 200, "one")).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        append_line(&mut file, "{\"request\":1}").unwrap();
        let error = Answers::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("answers.jsonl"),
            "{error}"
        );
    }
}
