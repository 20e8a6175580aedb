//! Rows that are left out before the mixture is drawn: repeats, and those that hold texts of an
//! evaluation.

use super::error::{DataError, RowProblem};
use super::fold::read_side;
use super::record::{
    ChatRow, Message, Origin, PairRow, chat_row, chat_schema, has, pair_row, pair_schema,
};
use super::source::{RawRow, kind, refuse};
use crate::config::spec::Decontamination;
use aho_corasick::AhoCorasick;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::Path;

/// How many contaminated rows a report names.
const NAMED: usize = 5;

/// A row as a filter sees it.
pub(super) trait FilteredRow {
    /// Two rows with the same turns here are duplicates.
    fn key(&self) -> Vec<&Message>;
    /// Every turn that is trained on or conditions one that is.
    fn turns(&self) -> Vec<&Message>;
    /// Id and place.
    fn place(&self) -> (&str, &Origin);
}

impl FilteredRow for ChatRow {
    fn key(&self) -> Vec<&Message> {
        self.messages.iter().collect()
    }

    fn turns(&self) -> Vec<&Message> {
        self.messages.iter().collect()
    }

    fn place(&self) -> (&str, &Origin) {
        (&self.id, &self.origin)
    }
}

impl<T: FilteredRow> FilteredRow for &T {
    fn key(&self) -> Vec<&Message> {
        T::key(self)
    }

    fn turns(&self) -> Vec<&Message> {
        T::turns(self)
    }

    fn place(&self) -> (&str, &Origin) {
        T::place(self)
    }
}

impl FilteredRow for PairRow {
    fn key(&self) -> Vec<&Message> {
        self.prompt.iter().chain(&self.chosen).collect()
    }

    fn turns(&self) -> Vec<&Message> {
        let replies = self.chosen.iter().chain(&self.rejected);
        self.prompt.iter().chain(replies).collect()
    }

    fn place(&self) -> (&str, &Origin) {
        (&self.id, &self.origin)
    }
}

/// What a filter left out, over all sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterReport {
    /// Rows that repeat an earlier one; absent if they were not looked for.
    pub duplicates: Option<usize>,
    /// Rows that hold a text of an evaluation; absent if they were not looked for.
    pub contaminated: Option<usize>,
    /// The first of those: id, file and line.
    pub contaminated_rows: Vec<String>,
    /// Texts of the evaluation.
    pub texts: usize,
    /// Texts too short to be looked for as a whole.
    pub short_texts: usize,
}

/// Which rows are left out.
#[derive(Debug, Default)]
pub(super) struct RowFilter {
    dedup: bool,
    contamination: Option<Contamination>,
}

impl RowFilter {
    /// Reads the texts to be looked for.
    ///
    /// # Errors
    /// A file is missing, malformed or of an unknown form.
    pub(super) fn new(
        root: &Path,
        dedup: bool,
        decontaminate: Option<&Decontamination>,
    ) -> Result<Self, DataError> {
        let contamination = decontaminate.map(|recipe| Contamination::read(root, recipe));
        Ok(Self {
            dedup,
            contamination: contamination.transpose()?,
        })
    }

    /// The rows of each file that stay, in their order; nothing is reported if nothing is looked for.
    pub(super) fn apply<T: FilteredRow + Sync>(
        &self,
        files: Vec<Vec<T>>,
    ) -> (Vec<Vec<T>>, Option<FilterReport>) {
        if !self.dedup && self.contamination.is_none() {
            return (files, None);
        }
        let mut report = FilterReport::default();
        let mut keep: Vec<Vec<bool>> = files.iter().map(|rows| vec![true; rows.len()]).collect();
        if self.dedup {
            report.duplicates = Some(mark_repeats(&files, &mut keep));
        }
        if let Some(contamination) = &self.contamination {
            let bad = contamination.mark(&files, &mut keep);
            let name = |row: &&T| {
                let (id, origin) = row.place();
                format!("`{id}` ({origin})")
            };
            report.contaminated_rows = bad.iter().take(NAMED).map(name).collect();
            report.contaminated = Some(bad.len());
            report.texts = contamination.texts;
            report.short_texts = contamination.short_texts;
        }
        let kept = files.into_iter().zip(keep).map(|(rows, keep)| {
            let marked = rows.into_iter().zip(keep);
            marked
                .filter_map(|(row, keep)| keep.then_some(row))
                .collect()
        });
        (kept.collect(), Some(report))
    }
}

/// Unmarks every row whose content stood before; how many there are. Contents are compared, not
/// digests of them.
fn mark_repeats<T: FilteredRow>(files: &[Vec<T>], keep: &mut [Vec<bool>]) -> usize {
    let mut seen = HashSet::new();
    let mut repeats = 0;
    for (rows, keep) in files.iter().zip(keep) {
        for (row, keep) in rows.iter().zip(keep) {
            if !seen.insert(row.key()) {
                *keep = false;
                repeats += 1;
            }
        }
    }
    repeats
}

/// Texts of an evaluation, ready to be looked for.
#[derive(Debug)]
struct Contamination {
    whole: Option<AhoCorasick>,
    /// Sequences of `n` words, each as one normalised text.
    ngrams: HashSet<String>,
    n: Option<usize>,
    texts: usize,
    short_texts: usize,
}

impl Contamination {
    fn read(root: &Path, recipe: &Decontamination) -> Result<Self, DataError> {
        let mut texts = Vec::new();
        for source in &recipe.data {
            texts.extend(evaluation_texts(&source.path, read_side(root, source)?)?);
        }
        let texts = texts.iter().map(|text| normalise(text));
        let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
        let count = |words: Option<NonZeroUsize>| words.map(NonZeroUsize::get);
        Self::of(&texts, count(recipe.ngram), count(recipe.min_words))
    }

    fn of(
        texts: &[String],
        ngram: Option<usize>,
        min_words: Option<usize>,
    ) -> Result<Self, DataError> {
        let least = min_words.unwrap_or(1);
        let long = |text: &&String| text.split(' ').count() >= least;
        let patterns: Vec<&String> = texts.iter().filter(long).collect();
        let short_texts = texts.len() - patterns.len();
        let whole = (!patterns.is_empty()).then(|| AhoCorasick::new(&patterns));
        let whole = whole.transpose().map_err(|e| {
            DataError::Limits(format!("cannot look for {} texts: {e}", patterns.len()))
        })?;
        let n = ngram.filter(|&n| n > 0);
        let ngrams = n.into_iter().flat_map(|n| {
            let each = texts.iter().flat_map(move |text| word_sequences(text, n));
            each.map(str::to_owned)
        });
        Ok(Self {
            whole,
            ngrams: ngrams.collect(),
            n,
            texts: texts.len(),
            short_texts,
        })
    }

    /// Unmarks the rows that hold a text; those that were still marked.
    fn mark<'r, T: FilteredRow + Sync>(
        &self,
        files: &'r [Vec<T>],
        keep: &mut [Vec<bool>],
    ) -> Vec<&'r T> {
        let mut bad = Vec::new();
        for (rows, keep) in files.iter().zip(keep) {
            let holds = |row: &T| row.turns().iter().any(|turn| self.is_in(&turn.content));
            let found: Vec<bool> = rows.par_iter().map(holds).collect();
            for ((row, keep), found) in rows.iter().zip(keep).zip(found) {
                if *keep && found {
                    *keep = false;
                    bad.push(row);
                }
            }
        }
        bad
    }

    fn is_in(&self, text: &str) -> bool {
        let text = normalise(text);
        let whole = self.whole.as_ref().is_some_and(|all| all.is_match(&text));
        whole
            || self.n.is_some_and(|n| {
                let mut sequences = word_sequences(&text, n);
                sequences.any(|words| self.ngrams.contains(words))
            })
    }
}

/// Lower case, every run of white space one blank, none at the ends.
fn normalise(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every `n` successive words of a normalised text.
fn word_sequences(text: &str, n: usize) -> impl Iterator<Item = &str> {
    let blanks = text.match_indices(' ').map(|(at, _)| at);
    let starts: Vec<usize> = std::iter::once(0)
        .chain(blanks.map(|at| at + 1))
        .chain(std::iter::once(text.len() + 1))
        .collect();
    let count = starts.len().saturating_sub(n);
    (0..count).map(move |i| &text[starts[i]..starts[i + n] - 1])
}

/// The texts of an evaluation's file: `text` where rows have it, else user and assistant turns.
pub(super) fn evaluation_texts(path: &str, raw: Vec<RawRow>) -> Result<Vec<String>, DataError> {
    let first = &raw[0].1;
    let turns = |messages: Vec<Message>| {
        let said = messages.into_iter().filter(|m| m.role != "system");
        said.map(|m| m.content).collect::<Vec<_>>()
    };
    if has(first, "text") {
        return texts_of(path, raw, |(_, mut row)| match row.remove("text") {
            Some(Value::String(text)) => Ok(vec![text]),
            Some(other) => Err(format!("`text` must be a string, not {}", kind(&other))),
            None => Err("`text` is missing".to_owned()),
        });
    }
    if let Ok(schema) = chat_schema(path, first) {
        return texts_of(path, raw, |raw| {
            Ok(turns(chat_row(path, schema, raw)?.messages))
        });
    }
    if pair_schema(path, first).is_ok() {
        return texts_of(path, raw, |raw| {
            let row = pair_row(path, raw)?;
            Ok(turns([row.prompt, row.chosen, row.rejected].concat()))
        });
    }
    Err(DataError::UnknownSchema {
        path: path.to_owned(),
        wanted: "evaluation data",
        keys: first.keys().cloned().collect(),
        known: "`text`, and those of chat and preference data",
    })
}

fn texts_of(
    path: &str,
    raw: Vec<RawRow>,
    texts: impl Fn(RawRow) -> Result<Vec<String>, String>,
) -> Result<Vec<String>, DataError> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for row in raw {
        let number = row.0;
        match texts(row) {
            Ok(texts) => found.extend(texts),
            Err(reason) => problems.push(RowProblem {
                row: number,
                column: None,
                reason,
            }),
        }
    }
    refuse(path, problems)?;
    Ok(found)
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
