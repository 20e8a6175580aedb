//! The rows of a data file as a stage would read them, before any stage does.

use super::error::DataError;
use super::filter::evaluation_texts;
use super::fold::{glance_at_side, read_side};
use super::mix::parse;
use super::record::{ChatRow, PairRow, chat_row, chat_schema, is_pair, pair_row, pair_schema};
use super::source::RawRow;
use crate::config::spec::DataSource;
use std::path::Path;

/// What the rows of a file are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// Conversations.
    Chats,
    /// Preference pairs.
    Pairs,
    /// Prompts: of pairs if the first row is one, else of conversations.
    Prompts,
}

/// Rows of one file, of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileRows {
    /// Conversations.
    pub chats: Vec<ChatRow>,
    /// Preference pairs.
    pub pairs: Vec<PairRow>,
    /// Whether these are all rows of the file, or of the side of its split that was asked for.
    pub whole: bool,
    /// Whether they are one side of a split only.
    pub split: bool,
}

impl FileRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.chats.len() + self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads the rows of `source`, its share aside; of one with more than 16 MiB of text those at its
/// beginning, unless `every` row is wanted.
///
/// # Errors
/// As [`crate::data::load_chat`].
pub fn look_at_rows(
    root: &Path,
    source: &DataSource,
    wanted: Wanted,
    every: bool,
) -> Result<FileRows, DataError> {
    let path = &*source.path;
    let (raw, whole) = read(root, source, every)?;
    let split = source.fold.is_some();
    let Some((_, first)) = raw.first() else {
        // None of the rows at its beginning is on this side: nothing is known of the others.
        if split && !whole {
            return Ok(FileRows {
                split,
                ..FileRows::default()
            });
        }
        return Err(DataError::EmptyFile {
            path: path.to_owned(),
        });
    };
    let mut rows = FileRows {
        whole,
        split,
        ..FileRows::default()
    };
    if wanted == Wanted::Pairs || (wanted == Wanted::Prompts && is_pair(first)) {
        pair_schema(path, first)?;
        rows.pairs = parse(path, raw, |raw| pair_row(path, raw))?;
    } else {
        let schema = chat_schema(path, first)?;
        rows.chats = parse(path, raw, |raw| chat_row(path, schema, raw))?;
    }
    Ok(rows)
}

/// Reads the texts of an evaluation's file as decontamination does, in the same way; whether these are all.
///
/// # Errors
/// The file is missing, malformed or of an unknown form.
pub fn look_at_texts(root: &Path, source: &DataSource, every: bool) -> Result<bool, DataError> {
    let (raw, whole) = read(root, source, every)?;
    if raw.is_empty() && !whole {
        return Ok(false);
    }
    evaluation_texts(&source.path, raw).map(|_| whole)
}

fn read(root: &Path, source: &DataSource, every: bool) -> Result<(Vec<RawRow>, bool), DataError> {
    if every {
        Ok((read_side(root, source)?, true))
    } else {
        glance_at_side(root, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;

    fn source() -> DataSource {
        serde_json::from_value(serde_json::json!({ "path": "a.jsonl" })).unwrap()
    }

    #[test]
    fn a_large_file_is_read_at_its_beginning_and_whole_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let row = format!(
            "{{\"prompt\": \"{}\", \"completion\": \"b\"}}\n",
            "a".repeat(1 << 20)
        );
        write_atomic(&dir.path().join("a.jsonl"), row.repeat(18).as_bytes()).unwrap();
        let look = |every| look_at_rows(dir.path(), &source(), Wanted::Chats, every).unwrap();
        let (some, all) = (look(false), look(true));
        assert_eq!((some.len(), some.whole), (15, false));
        assert_eq!((all.len(), all.whole), (18, true));
    }

    #[test]
    fn a_column_may_first_occur_behind_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let row = format!(
            "{{\"prompt\": \"{}\", \"completion\": \"b\"}}\n",
            "a".repeat(1 << 20)
        );
        let last = "{\"prompt\": \"a\", \"completion\": \"b\", \"persona\": \"c\"}\n";
        let text = row.repeat(18) + last;
        write_atomic(&dir.path().join("a.jsonl"), text.as_bytes()).unwrap();
        let look = |column: &str, every| {
            let mut source = source();
            source
                .columns
                .insert("system".to_owned(), column.to_owned());
            look_at_rows(dir.path(), &source, Wanted::Chats, every)
        };
        assert_eq!(look("persona", false).unwrap().len(), 15);
        let all = look("persona", true).unwrap();
        assert_eq!(all.chats[18].messages[0].content, "c");
        let error = look("character", true).unwrap_err().to_string();
        assert!(
            error.contains("no row has the column `character`"),
            "{error}"
        );
    }

    #[test]
    fn prompts_are_those_of_pairs_or_of_conversations() {
        let dir = tempfile::tempdir().unwrap();
        let look = |text: &str| {
            write_atomic(&dir.path().join("a.jsonl"), text.as_bytes()).unwrap();
            look_at_rows(dir.path(), &source(), Wanted::Prompts, false).unwrap()
        };
        let chats = look("{\"prompt\": \"a\", \"completion\": \"b\"}\n");
        assert_eq!((chats.chats.len(), chats.pairs.len()), (1, 0));
        let pairs = look("{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n");
        assert_eq!((pairs.chats.len(), pairs.pairs.len()), (0, 1));
    }
}
