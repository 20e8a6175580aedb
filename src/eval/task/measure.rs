//! A task from its files to its metrics.

use super::aggregate::{ScoredRow, task_result};
use super::document::{ChatWriter, Document, RowCounts, load_documents};
use super::error::TaskError;
use super::request::encode_questions;
use super::score::{Answer, RowScorer, open_scorers};
use crate::arch::Pass;
use crate::config::spec::TaskRecipe;
use crate::data::{ContinuationTokenizer, TokenizedRequest};
use crate::eval::record::SetResult;
use std::num::NonZeroUsize;
use std::path::Path;

/// Whether a task's scorers can be opened and its first rows, `most` of each part, fit it.
///
/// # Errors
/// See [`TaskError`].
pub fn look_at_task(
    root: &Path,
    (name, recipe): (&str, &TaskRecipe),
    most: NonZeroUsize,
    chat: &ChatWriter<'_>,
) -> Result<(), TaskError> {
    let opened = scorers(root, name, recipe)?;
    let mut few = recipe.clone();
    few.max_rows = Some(recipe.max_rows.map_or(most, |rows| rows.min(most)));
    let (documents, _) = load_documents(root, name, &few, chat)?;
    fit(name, &opened, &documents)
}

/// Refuses a row that a scorer cannot score whatever is answered, before anything is asked.
fn fit(
    name: &str,
    scorers: &[Box<dyn RowScorer>],
    documents: &[Document],
) -> Result<(), TaskError> {
    for document in documents {
        for scorer in scorers {
            scorer.look(document).map_err(|reason| TaskError::Row {
                task: name.to_owned(),
                origin: document.row.origin.clone(),
                what: "score".to_owned(),
                reason,
            })?;
        }
    }
    Ok(())
}

fn scorers(
    root: &Path,
    name: &str,
    recipe: &TaskRecipe,
) -> Result<Vec<Box<dyn RowScorer>>, TaskError> {
    open_scorers(root, recipe).map_err(|reason| TaskError::Task {
        task: name.to_owned(),
        what: "score".to_owned(),
        reason,
    })
}

/// A task whose rows are read and tokenised, so that bad data fails before anything is measured.
pub struct PreparedTask<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub recipe: &'a TaskRecipe,
    /// Its rows.
    pub documents: Vec<Document>,
    /// How many rows each part has, or the task, those beyond `max-rows` among them.
    pub all_rows: RowCounts,
    /// The tokens of every question of every row.
    pub requests: Vec<Vec<TokenizedRequest>>,
    /// How its texts become tokens.
    pub tokenizer: ContinuationTokenizer,
    scorers: Vec<Box<dyn RowScorer>>,
}

impl std::fmt::Debug for PreparedTask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedTask")
            .field("name", &self.name)
            .field("rows", &self.documents.len())
            .finish_non_exhaustive()
    }
}

impl<'a> PreparedTask<'a> {
    /// Reads the rows of a task, and asks for the tokens of the model in `model_dir`, which holds `max_positions`.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub fn open(
        root: &Path,
        (name, recipe): (&'a str, &'a TaskRecipe),
        (model_dir, max_positions): (&Path, usize),
        chat: &ChatWriter<'_>,
    ) -> Result<Self, TaskError> {
        let scorers = scorers(root, name, recipe)?;
        let (documents, all_rows) = load_documents(root, name, recipe, chat)?;
        fit(name, &scorers, &documents)?;
        let tokenizer = ContinuationTokenizer::open(model_dir, recipe.bos)?;
        let requests = encode_questions(name, recipe, &documents, &tokenizer, max_positions)?;
        Ok(Self {
            name,
            recipe,
            documents,
            all_rows,
            requests,
            tokenizer,
            scorers,
        })
    }

    /// The scores of each row's answer.
    ///
    /// # Errors
    /// A row or an answer is not what a scorer needs.
    pub fn score(&self, answers: &[Answer]) -> Result<Vec<ScoredRow>, TaskError> {
        let row = |(document, answer): (&Document, &Answer)| {
            let scores = self.scorers.iter().map(|scorer| {
                let name = scorer.name().map(str::to_owned);
                let score = scorer.score(document, answer);
                let score = score.map_err(|reason| TaskError::Row {
                    task: self.name.to_owned(),
                    origin: document.row.origin.clone(),
                    what: "score".to_owned(),
                    reason,
                })?;
                Ok((name, score))
            });
            Ok(ScoredRow {
                scores: scores.collect::<Result<_, TaskError>>()?,
            })
        };
        self.documents.iter().zip(answers).map(row).collect()
    }

    /// Positions that the answers took, and the passes over them; shared contexts count once for each row.
    pub fn cost(&self, answers: &[Answer]) -> (usize, Pass) {
        let (mut positions, mut pass) = (0, Pass::default());
        for (row, answer) in self.requests.iter().zip(answers) {
            let context = row[0].context.len();
            positions += context;
            match answer {
                Answer::Choices(_) => {
                    pass.add(1.0, context as f64, 0.0, 0.0);
                    for request in row {
                        let tokens = request.continuation.len();
                        positions += tokens;
                        pass.add(1.0, tokens as f64, context as f64, tokens as f64);
                    }
                }
                Answer::Text {
                    tokens, finished, ..
                } => {
                    positions += tokens;
                    // The end token is drawn, too.
                    let drawn = (tokens + usize::from(*finished)) as f64;
                    pass.add_samples(context as f64, [drawn]);
                }
            }
        }
        (positions, pass)
    }

    /// The metrics of the task, and the records of its rows.
    pub fn result(&self, answers: &[Answer], scored: &[ScoredRow]) -> SetResult {
        task_result(self.name, self.recipe, &self.documents, answers, scored)
    }
}
