//! Scorers from their recipes. A new one has a file beside this one, a variant in the recipe and a line here.

use super::choices::{Chosen, Spread};
use super::ifeval::Instructions;
use super::scorer::RowScorer;
use super::texts::{Found, Matched};
use crate::config::spec::{ScorerRecipe, TaskRecipe};
use std::path::Path;

/// The scorers of a task, in its order.
///
/// # Errors
/// A pattern or expression cannot be compiled, or a file of a scorer cannot be read; the text says what.
pub fn open_scorers(root: &Path, task: &TaskRecipe) -> Result<Vec<Box<dyn RowScorer>>, String> {
    let open = |recipe: &ScorerRecipe| -> Result<Box<dyn RowScorer>, String> {
        Ok(match recipe {
            ScorerRecipe::Acc => Box::new(Chosen("acc")),
            ScorerRecipe::AccNorm => Box::new(Chosen("acc_norm")),
            ScorerRecipe::AccBytes => Box::new(Chosen("acc_bytes")),
            ScorerRecipe::Mc2 => Box::new(Spread),
            ScorerRecipe::ExactMatch(recipe) => Box::new(Matched::new(recipe)?),
            ScorerRecipe::Found(recipe) => Box::new(Found::new(recipe)?),
            ScorerRecipe::Ifeval(recipe) => Box::new(Instructions::new(root, recipe)?),
        })
    };
    task.score.iter().map(open).collect()
}
