//! Holding rows of a data file out of training.

use crate::base::{SeedTree, digest_bytes, write_atomic};
use crate::cli::error::CommandError;
use crate::config::spec::DataSource;
use crate::data::{ChatRow, Message, PairRow, load_chat, load_pairs};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// At most so many rows are held out: enough for a share to within 1.5 points at one standard error.
const MOST: usize = 1000;
/// One prompt of so many is held out.
const ONE_IN: u64 = 10;

/// Which rows a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    Chats,
    Pairs,
}

/// Rows by the text of their prompts, so that a prompt is on one side only, as JSON objects.
fn rows_of(root: &Path, path: &str, rows: Rows) -> Result<Vec<(String, Value)>, CommandError> {
    let source: DataSource =
        serde_json::from_value(json!({"path": path})).map_err(CommandError::user)?;
    let seed = SeedTree::root(0); // no row is drawn
    let prompt = |messages: &[Message]| json!(messages).to_string();
    let chat = |row: ChatRow| (prompt(row.prompt()), json!({"messages": row.messages}));
    let pair = |row: PairRow| {
        let text = prompt(&row.prompt);
        let whole = |reply: Vec<Message>| [row.prompt.clone(), reply].concat();
        let pair = json!({"chosen": whole(row.chosen), "rejected": whole(row.rejected)});
        (text, pair)
    };
    Ok(match rows {
        Rows::Chats => {
            let (rows, _) = load_chat(root, &[source], &seed).map_err(CommandError::user)?;
            rows.into_iter().map(chat).collect()
        }
        Rows::Pairs => {
            let (rows, _) = load_pairs(root, &[source], &seed).map_err(CommandError::user)?;
            rows.into_iter().map(pair).collect()
        }
    })
}

/// How much there is to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    /// Length of the rows as JSON, bytes.
    pub(crate) bytes: usize,
}

impl Size {
    fn of<'v>(rows: impl IntoIterator<Item = &'v Value>) -> Self {
        let lengths = rows.into_iter().map(|row| row.to_string().len());
        lengths.fold(Self { rows: 0, bytes: 0 }, |size, length| Self {
            rows: size.rows + 1,
            bytes: size.bytes + length,
        })
    }
}

/// How much a file has.
pub(crate) fn measure(root: &Path, path: &str, rows: Rows) -> Result<Size, CommandError> {
    rows_of(root, path, rows).map(|rows| Size::of(rows.iter().map(|(_, row)| row)))
}

/// Parts a file by prompt into rows to train on and rows held out, and writes both as JSON lines. Which
/// prompts those are depends on their text alone: a file that grows keeps them. Returns what is left to train
/// on.
pub(crate) fn part(
    root: &Path,
    path: &str,
    rows: Rows,
    (train, test): (&str, &str),
) -> Result<Size, CommandError> {
    let all = rows_of(root, path, rows)?;
    let (mut learnt, mut held) = (Vec::new(), Vec::new());
    let mut held_prompts = HashSet::new();
    for (prompt, row) in all {
        let number = digest_bytes(prompt.as_bytes()).number();
        let fits = number.is_multiple_of(ONE_IN) && held.len() < MOST;
        if held_prompts.contains(&prompt) || fits {
            held_prompts.insert(prompt);
            held.push(row);
        } else {
            learnt.push(row);
        }
    }
    if held.is_empty() || learnt.is_empty() {
        let message = format!(
            "`{path}` has {} rows, too few to hold some of them out",
            held.len() + learnt.len()
        );
        let error = CommandError::user(message);
        return Err(error.hint("name a file of its own to test on: `--test-sft`, `--test-pairs`"));
    }
    for (name, rows) in [(train, &learnt), (test, &held)] {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        write_atomic(&root.join(name), lines.as_bytes()).map_err(CommandError::user)?;
    }
    Ok(Size::of(&learnt))
}
