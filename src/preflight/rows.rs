//! Which rows of a file are sent through template and tokenizer, and how bad ones are named.

use crate::base::chain;
use crate::data::{DataError, FileRows, Message, Origin, TextFormat};
use crate::preflight::lengths::Measured;
use crate::preflight::problem::Problem;
use serde_json::Value;

/// Most bad rows of a file that are named; how many more there are is said.
const ROWS_NAMED: usize = 5;

/// Rows at the beginning of a file that go through template and tokenizer, and how many more are
/// taken from all over it.
const SAMPLED: (usize, usize) = (16, 48);

/// What helps against a bad row.
const FIX_ROW: &str = "fix the row or take it out; `lions check --deep` looks at every row";

/// What became of the rows of a file in template and tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Encoded {
    /// Rows of which something is left to be used.
    pub(super) left: usize,
    /// Rows looked at.
    pub(super) seen: usize,
    /// Whether those are all rows of the file.
    pub(super) all: bool,
    /// Their lengths, as far as they were measured.
    pub(super) measured: Vec<Measured>,
}

/// Which of `count` rows are sent through the tokenizer: the first, then some from all over.
pub(super) fn sample(every: bool, count: usize) -> Vec<usize> {
    let (first, spread) = SAMPLED;
    if every || count <= first + spread {
        return (0..count).collect();
    }
    let rest = count - first;
    let mut chosen: Vec<usize> = (0..first).collect();
    chosen.extend((1..=spread).map(|at| first + at * rest / spread - 1));
    chosen
}

/// Sends the `chosen` rows of a file through template and tokenizer, until too many of them cannot be
/// used; `look` says whether something of a row is left, and how long it is.
pub(super) fn encode(
    path: &str,
    rows: &FileRows,
    chosen: &[usize],
    look: impl Fn(usize) -> Result<(bool, Option<Measured>), DataError>,
    found: &mut Vec<Problem>,
) -> Encoded {
    let (mut encoded, mut bad) = (Encoded::default(), 0);
    for at in chosen {
        match look(*at) {
            Ok((is_left, measured)) => {
                encoded.left += usize::from(is_left);
                encoded.seen += 1;
                encoded.measured.extend(measured);
            }
            Err(error) => {
                bad += 1;
                name_errors(path, &error, found);
            }
        }
        if bad >= ROWS_NAMED {
            break;
        }
    }
    encoded.all = rows.whole && encoded.seen == rows.len();
    encoded
}

/// A conversation and where it stands.
pub(super) type Turns = (Vec<Message>, String);

/// As [`encode`] for conversations; the first that fails is told alone: it is the template that refuses it.
pub(super) fn encode_turns(
    rows: &FileRows,
    chosen: &[usize],
    turns: impl Fn(usize) -> Turns,
    is_left: impl Fn(&[Message]) -> Result<bool, DataError>,
    found: &mut Vec<Problem>,
) -> Encoded {
    let (mut left, mut seen) = (0, 0);
    for at in chosen {
        let (turns, place) = turns(*at);
        match is_left(&turns) {
            Ok(is_left) => {
                left += usize::from(is_left);
                seen += 1;
            }
            Err(error) => {
                found.push(bad_row(&place, &chain(&error)));
                break;
            }
        }
    }
    let all = rows.whole && seen == rows.len();
    Encoded {
        left,
        seen,
        all,
        ..Encoded::default()
    }
}

/// The conversation of a row up to its last reply: of a pair its prompt.
pub(super) fn prompt(rows: &FileRows, at: usize) -> Turns {
    if let Some(row) = rows.chats.get(at) {
        return (row.prompt().to_vec(), row.origin.to_string());
    }
    let row = &rows.pairs[at - rows.chats.len()];
    (row.prompt.clone(), row.origin.to_string())
}

/// The whole conversation of a row: of a pair the prompt with the preferred reply.
pub(super) fn conversation(rows: &FileRows, at: usize) -> Turns {
    if let Some(row) = rows.chats.get(at) {
        return (row.messages.clone(), row.origin.to_string());
    }
    let row = &rows.pairs[at - rows.chats.len()];
    ([&*row.prompt, &row.chosen].concat(), row.origin.to_string())
}

/// The further keys of each row, and where it stands.
pub(super) fn extras(rows: &FileRows) -> impl Iterator<Item = (&Value, &Origin)> {
    let chats = rows.chats.iter().map(|row| (&row.extra, &row.origin));
    let pairs = rows.pairs.iter().map(|row| (&row.extra, &row.origin));
    chats.chain(pairs)
}

/// Id and further keys of each row.
pub(super) fn named(rows: &FileRows) -> impl Iterator<Item = (&str, &Value)> {
    let chats = rows.chats.iter().map(|row| (row.id.as_str(), &row.extra));
    let pairs = rows.pairs.iter().map(|row| (row.id.as_str(), &row.extra));
    chats.chain(pairs)
}

/// How tokenizer and template of a judge write a conversation that is scored whole.
pub(super) fn written(format: &TextFormat, turns: &[Message]) -> Result<Vec<u32>, DataError> {
    format.encode_text(&format.render(turns, false)?)
}

/// An error about a data file: each bad row at its own place, what is wrong with all of it where it is
/// named.
pub(super) fn name_errors(path: &str, error: &DataError, found: &mut Vec<Problem>) {
    match error {
        DataError::BadRows { problems } => {
            let rows = problems.rows.iter().map(|row| {
                let column = row.column.map(|column| format!(":{column}"));
                let at = format!("{path}:{}{}", row.row, column.unwrap_or_default());
                (at, row.reason.clone())
            });
            name_rows(path, &rows.collect::<Vec<_>>(), found);
        }
        DataError::Row { origin, reason, .. } => found.push(bad_row(origin, reason)),
        other => found.push(Problem::of_asker(chain(other)).help(of_file(other))),
    }
}

/// A row that cannot be used.
pub(super) fn bad_row(at: &str, reason: &str) -> Problem {
    Problem::of_file(at, reason).help(FIX_ROW)
}

/// Names the first of some bad rows, each with what is wrong with it, and says how many more there are.
pub(super) fn name_rows(path: &str, bad: &[(String, String)], found: &mut Vec<Problem>) {
    let named = bad.iter().take(ROWS_NAMED);
    found.extend(named.map(|(at, reason)| bad_row(at, reason)));
    if bad.len() > ROWS_NAMED {
        let message = format!("{} more rows cannot be used", bad.len() - ROWS_NAMED);
        found.push(Problem::of_file(path, message).help(FIX_ROW));
    }
}

/// What helps against a data file that cannot be used at all.
fn of_file(error: &DataError) -> &'static str {
    match error {
        DataError::UnknownSchema { .. } => {
            "take a file of such rows, or give its columns these names with `columns`"
        }
        DataError::EmptyFile { .. } => "take a file that has rows, or remove it here",
        DataError::EmptySide { .. } => "split it in fewer parts",
        DataError::Mixture { .. } => "name a column that the rows have",
        DataError::Parquet { source, .. } if source.to_string().contains("Disabled feature") => {
            "write it again, compressed by Zstandard, Snappy, gzip or not at all"
        }
        DataError::Unreadable { .. } | DataError::Parquet { .. } | DataError::File(_) => {
            "fetch the file again, or see that it can be read"
        }
        DataError::Template { .. } => {
            "name another template, a file, as `chat-template` in `[base.model]`"
        }
        _ => "take another file",
    }
}
