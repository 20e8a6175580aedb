//! Answers that are on disk already, so that an interrupted evaluation asks no question twice.

use super::error::TaskError;
use super::score::Likelihood;
use crate::base::fs::{append_line, create_dir};
use crate::base::{PathError, digest_bytes};
use crate::data::TokenizedRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What a model said to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    /// How likely the continuation is: nats and tokens; whether a greedy reply would be this one.
    Logp(f64, usize, bool),
    /// What it wrote, before any cutting; its tokens; whether it ended by itself.
    Text(String, usize, bool),
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    question: String,
    said: Said,
}

/// Answers by their questions, in memory and in a file.
#[derive(Debug)]
pub struct KeptAnswers {
    known: BTreeMap<String, Said>,
    path: PathBuf,
    file: Option<File>,
}

impl KeptAnswers {
    /// Reads what `earlier` files hold; lines that are not as they were written are left out. New answers go to `path`.
    pub fn read(earlier: &[PathBuf], path: &Path) -> Self {
        let mut known = BTreeMap::new();
        for text in earlier
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
        {
            for line in text.lines().filter_map(as_written) {
                if let Ok(line) = serde_json::from_str::<Line>(line) {
                    known.insert(line.question, line.said);
                }
            }
        }
        Self {
            known,
            path: path.to_owned(),
            file: None,
        }
    }

    /// What was said to a question.
    pub(super) fn get(&self, question: &str) -> Option<&Said> {
        self.known.get(question)
    }

    /// That a row's question has no answer of the kind that it asks for.
    pub(super) fn unanswered(&self, row: usize) -> TaskError {
        TaskError::Unanswered {
            row,
            path: self.path.clone(),
        }
    }

    /// Keeps answers.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, answers: Vec<(String, Said)>) -> Result<(), PathError> {
        let failed = |e| PathError::new("write", &self.path, e);
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                create_dir(folder)?;
            }
            let mut options = File::options();
            let open = options.create(true).append(true).open(&self.path);
            let mut file = open.map_err(failed)?;
            // Behind a line that a crash has cut.
            append_line(&mut file, "").map_err(failed)?;
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        for (question, said) in answers {
            let line = Line { question, said };
            let text = serde_json::to_string(&line).map_err(std::io::Error::from);
            let text = text.map_err(failed)?;
            let checked = format!("{} {text}", digest_bytes(text.as_bytes()));
            append_line(file, &checked).map_err(failed)?;
            self.known.insert(line.question, line.said);
        }
        file.sync_data().map_err(failed)
    }
}

/// What stands behind a line's digest, if it is what was digested.
fn as_written(line: &str) -> Option<&str> {
    let (digest, text) = line.split_once(' ')?;
    (digest_bytes(text.as_bytes()).0 == digest).then_some(text)
}

/// The name of a question: its tokens and `how` it is asked.
pub(super) fn question_name(request: &TokenizedRequest, how: &str) -> String {
    let mut bytes =
        Vec::with_capacity(4 * (request.context.len() + request.continuation.len() + 1));
    let lists = [&request.context, &request.continuation];
    for list in lists {
        bytes.extend((list.len() as u64).to_le_bytes());
        bytes.extend(list.iter().flat_map(|token| token.to_le_bytes()));
    }
    bytes.extend(how.as_bytes());
    digest_bytes(&bytes).0
}

impl Said {
    /// As a likelihood.
    pub(super) fn likelihood(&self) -> Option<Likelihood> {
        match self {
            Self::Logp(logp, tokens, greedy) => Some(Likelihood {
                logp: *logp,
                tokens: *tokens,
                greedy: *greedy,
            }),
            Self::Text(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;

    #[test]
    fn answers_come_back_and_a_cut_line_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work/a.jsonl");
        let mut kept = KeptAnswers::read(&[], &path);
        let text = Said::Text("a\nb".to_owned(), 3, false);
        kept.add(vec![
            ("q".to_owned(), Said::Logp(-1.25, 2, true)),
            ("r".to_owned(), text.clone()),
        ])
        .unwrap();
        let all = std::fs::read_to_string(&path).unwrap();
        write_atomic(&path, &all.as_bytes()[..all.len() - 4]).unwrap();
        let mut again = KeptAnswers::read(std::slice::from_ref(&path), &path);
        assert_eq!(again.get("q"), Some(&Said::Logp(-1.25, 2, true)));
        assert_eq!(again.get("r"), None);
        again.add(vec![("r".to_owned(), text.clone())]).unwrap();
        let last = KeptAnswers::read(std::slice::from_ref(&path), &path);
        assert_eq!(last.get("r"), Some(&text));
    }

    #[test]
    fn a_question_is_named_by_its_tokens_and_how_it_is_asked() {
        let request = |context: &[u32], continuation: &[u32]| TokenizedRequest {
            context: context.to_vec(),
            continuation: continuation.to_vec(),
        };
        let names = [
            question_name(&request(&[1, 2], &[3]), ""),
            question_name(&request(&[1], &[2, 3]), ""),
            question_name(&request(&[1, 2], &[3]), "x"),
        ];
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    }
}
