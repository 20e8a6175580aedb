//! What can be wrong with data files, tokenizers, templates and length limits.

use crate::base::{PathError, counted};
use std::fmt;
use std::path::PathBuf;

/// The error of every function of this module.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be opened or read.
    #[error(transparent)]
    File(#[from] PathError),
    /// A data file without a single row.
    #[error("`{path}` has no rows")]
    EmptyFile {
        /// The file, as the recipe names it.
        path: String,
    },
    /// A file name that tells no known format.
    #[error(
        "`{path}` is no data file by its name: known are `.jsonl`, `.ndjson`, `.json` (each also with \
         `.gz` or `.zst`) and `.parquet`"
    )]
    UnknownFormat {
        /// The file, as the recipe names it.
        path: String,
    },
    /// A file that is not what it should be.
    #[error("cannot read `{path}`: {reason}")]
    Unreadable {
        /// The file, as the recipe names it.
        path: String,
        /// Why.
        reason: String,
    },
    /// A Parquet file that cannot be decoded.
    #[error("cannot decode the Parquet file `{path}`")]
    Parquet {
        /// The file, as the recipe names it.
        path: String,
        /// What the decoder said.
        source: parquet::errors::ParquetError,
    },
    /// Rows that do not have the form of the first row, or whose content cannot be used.
    #[error("{problems}")]
    BadRows {
        /// Every bad row of one file.
        problems: RowProblems,
    },
    /// The first row of a file has none of the known forms.
    #[error(
        "`{path}` is no {wanted}: its first row has the keys {}; known forms are {known}",
        list(keys)
    )]
    UnknownSchema {
        /// The file, as the recipe names it.
        path: String,
        /// What was looked for.
        wanted: &'static str,
        /// Keys of the first row.
        keys: Vec<String>,
        /// The forms that would do.
        known: &'static str,
    },
    /// A source asks for an impossible share of its rows.
    #[error("data source `{path}`: {reason}")]
    Mixture {
        /// The file, as the recipe names it.
        path: String,
        /// Why.
        reason: String,
    },
    /// A split leaves a source no row on its side.
    #[error("data source `{path}`: part {held_out} of {of} leaves no row on this side")]
    EmptySide {
        /// The file, as the recipe names it.
        path: String,
        /// The part that is held out, from 0.
        held_out: u64,
        /// Parts.
        of: u64,
    },
    /// More examples were asked for than there are.
    #[error("`max-examples` is {wanted}, but the data has {}", counted(*found, "example"))]
    TooFew {
        /// As in the recipe.
        wanted: usize,
        /// After the mixture.
        found: usize,
    },
    /// A tokenizer file that cannot be used.
    #[error("cannot use the tokenizer `{}`: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A model folder without a chat template.
    #[error(
        "`{}` has no chat template: put one into `chat_template.jinja`, or into `chat_template` of \
         `tokenizer_config.json`, or name a file with `model.chat-template`",
        path.display()
    )]
    NoTemplate {
        /// The model folder.
        path: PathBuf,
    },
    /// A list of chat templates none of which is the one for conversations.
    #[error(
        "`{}` has no chat template called `default`, only {}: write the one that you want into \
         `chat_template.jinja`, or name a file with `model.chat-template`",
        path.display(), list(names)
    )]
    NoDefault {
        /// The model folder.
        path: PathBuf,
        /// Names of those that are there.
        names: Vec<String>,
    },
    /// A chat template that cannot be used with this tokenizer or at all.
    #[error("chat template of {origin}: {reason}")]
    Template {
        /// Where the template comes from.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A row that the template or the tokenizer cannot turn into training tokens.
    #[error("row `{id}` ({origin}): {reason}")]
    Row {
        /// The row's id.
        id: String,
        /// File and line.
        origin: String,
        /// Why.
        reason: String,
    },
    /// Length limits or batch sizes that leave no room.
    #[error("{0}")]
    Limits(String),
    /// Token ids that the tokenizer cannot turn into text.
    #[error("cannot decode token ids: {0}")]
    Decode(String),
}

/// One row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// Line of a JSONL file or row of a Parquet file, from 1.
    pub row: usize,
    /// Column of a JSON syntax error, from 1.
    pub column: Option<usize>,
    /// What is wrong, a fragment.
    pub reason: String,
}

/// All bad rows of one file. Shows the first five and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblems {
    /// The file, as the recipe names it.
    pub path: String,
    /// In the order of the file.
    pub rows: Vec<RowProblem>,
}

/// How many bad rows an error message shows.
const SHOWN: usize = 5;

impl fmt::Display for RowProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.rows.len();
        let rows = if n == 1 { "row" } else { "rows" };
        write!(f, "{n} bad {rows} in `{}`", self.path)?;
        for (i, problem) in self.rows.iter().take(SHOWN).enumerate() {
            let lead = if i == 0 { ": " } else { "; " };
            write!(f, "{lead}{}:{}", self.path, problem.row)?;
            if let Some(column) = problem.column {
                write!(f, ":{column}")?;
            }
            write!(f, ": {}", problem.reason)?;
        }
        if n > SHOWN {
            write!(f, "; and {} more", n - SHOWN)?;
        }
        Ok(())
    }
}

/// Names in backticks, with commas.
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_rows_show_the_first_five_and_the_count() {
        let row = |row| RowProblem {
            row,
            column: (row == 1).then_some(9),
            reason: "empty response".to_owned(),
        };
        let problems = RowProblems {
            path: "a.jsonl".to_owned(),
            rows: (1..=7).map(row).collect(),
        };
        assert_eq!(
            problems.to_string(),
            "7 bad rows in `a.jsonl`: a.jsonl:1:9: empty response; a.jsonl:2: empty response; \
             a.jsonl:3: empty response; a.jsonl:4: empty response; a.jsonl:5: empty response; and 2 more"
        );
    }
}
