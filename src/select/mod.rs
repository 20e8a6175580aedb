//! Which rows of the training data are kept.
//!
//! [`select_rows`] is the entry. Every method is a score for each row and a rule over the scores
//! ([`Selection`] holds both); [`crate::config::select`] lists the methods with their sources.
//!
//! - `order`: rules over scores, pure: the best, a seeded sample, quotas of bins.
//! - `columns`, `ids`: what the rows and a file of ids say themselves.
//! - `likelihood`: perplexity, IFD, margins, from log-probabilities of replies.
//! - `reward`, `deita`: models of their own beside the pipeline's.
//! - `less`, `projection`: gradients of single rows, projected on random signs.
//!
//! On the CPU the same rows, models and seed give the same selection. Equal scores are ordered by the
//! row's place.

mod columns;
mod deita;
mod error;
mod ids;
mod less;
mod likelihood;
mod models;
mod order;
mod projection;
mod reward;
mod rows;
#[cfg(test)]
mod tests;
mod work;

pub use error::SelectError;
pub use order::Selection;
pub use rows::{RowsRef, align_pairs};
pub use work::SelectProgress;

use crate::base::SeedTree;
use crate::config::select::{SelectMethod, SelectRecipe, Tail, select_problems};
use crate::data::TextFormat;
use crate::model::Decoder;
use candle_core::{Device, Var};
use order::{Direction, best, seeded};
use std::collections::BTreeMap;
use std::path::Path;
use work::Work;

/// Models, files and machine of a selection.
#[derive(Clone, Copy)]
pub struct SelectContext<'a> {
    /// The project; paths of the recipe are relative to it.
    pub root: &'a Path,
    /// Tokenizer and template that made the rows' tokens.
    pub format: &'a TextFormat,
    /// The pipeline's checkpoint at this point, where the method
    /// [needs it](SelectMethod::needs_policy); with gradients ([`Decoder::trainable`]) for `less`.
    pub policy: Option<&'a Decoder>,
    /// The policy's variables by name, where the method
    /// [needs gradients](SelectMethod::needs_gradients).
    pub vars: Option<&'a BTreeMap<String, Var>>,
    /// The base model, where the method [needs it](SelectMethod::needs_base).
    pub base: Option<&'a Decoder>,
    /// Where models of the method's own are opened.
    pub device: &'a Device,
    /// Most positions in one pass.
    pub max_positions: usize,
}

impl<'a> SelectContext<'a> {
    fn policy(&self, method: &SelectMethod) -> Result<&'a Decoder, SelectError> {
        self.policy.ok_or(SelectError::NoModel {
            method: method.name(),
            model: "the policy",
        })
    }

    fn base(&self, method: &SelectMethod) -> Result<&'a Decoder, SelectError> {
        self.base.ok_or(SelectError::NoModel {
            method: method.name(),
            model: "the base model",
        })
    }

    fn vars(&self, method: &SelectMethod) -> Result<&'a BTreeMap<String, Var>, SelectError> {
        self.vars.ok_or(SelectError::NoModel {
            method: method.name(),
            model: "the policy's variables",
        })
    }
}

/// Chooses among `rows` as `recipe` says. `seed` is the one that [`crate::data::select`] would be
/// given. `progress` hears how much of the work is done; its error ends the work.
///
/// # Errors
/// The recipe is not sound or not for such rows, a model or file cannot be read or is not given, a
/// row lacks a score that the method needs, or fewer rows than `keep` can be chosen.
pub fn select_rows(
    recipe: &SelectRecipe,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    seed: &SeedTree,
    progress: &mut SelectProgress<'_>,
) -> Result<Selection, SelectError> {
    if let Some(problem) = select_problems(recipe, rows.target()).into_iter().next() {
        return Err(SelectError::Recipe(problem.message));
    }
    rows.check()?;
    let keep = recipe.keep;
    let method = &recipe.method;
    let mut work = Work::new(progress);
    let all = || vec![Some(0.0); rows.len()];
    match method {
        SelectMethod::Random => Ok(seeded(all(), keep.get(), seed)?.without_scores()),
        SelectMethod::Longest => best(likelihood::lengths(rows), keep.get(), Direction::Highest),
        SelectMethod::Shortest => best(likelihood::lengths(rows), keep.get(), Direction::Lowest),
        SelectMethod::PreferenceStrength(strength) => {
            let gaps = columns::gaps(rows, &strength.gap)?;
            order::by_bins(gaps, strength, keep.get(), seed)
        }
        SelectMethod::ChosenQuality(rule) | SelectMethod::RejectedQuality(rule) => {
            let scores = columns::column(rows, &rule.column)?;
            columns::within(scores, rule, keep.get(), seed)
        }
        SelectMethod::Deita(deita) => deita::select(deita, recipe, rows, context, &mut work),
        SelectMethod::Ifd => {
            let policy = context.policy(method)?;
            likelihood::select_by_ifd(policy, rows, context, keep.get(), &mut work)
        }
        SelectMethod::Perplexity(band) => {
            let policy = context.policy(method)?;
            let scores = likelihood::perplexities(policy, rows, context, &mut work)?;
            order::by_quantiles(scores, *band, keep.get(), seed)
        }
        SelectMethod::RewardGap(model) => {
            let scores = reward::gaps(model, recipe, rows, context, &mut work)?;
            best(scores, keep.get(), Direction::Highest)
        }
        SelectMethod::ImplicitRewardGap => {
            let models = (context.policy(method)?, context.base(method)?);
            let scores = likelihood::implicit_gaps(models, rows, context, &mut work)?;
            best(scores, keep.get(), Direction::Highest)
        }
        SelectMethod::MarginUncertainty(rule) => {
            let policy = context.policy(method)?;
            let margins = likelihood::margins(policy, rows, context, &mut work)?;
            let score = |m: f64| if rule.absolute { m.abs() } else { m };
            let scores = margins.into_iter().map(|m| m.map(score)).collect();
            let direction = match rule.tail {
                Tail::Hard => Direction::Lowest,
                Tail::Easy => Direction::Highest,
            };
            best(scores, keep.get(), direction)
        }
        SelectMethod::Less(less) => {
            let model = (context.policy(method)?, context.vars(method)?);
            let scores = less::similarities(less, model, rows, context, seed, &mut work)?;
            best(scores, keep.get(), Direction::Highest)
        }
        SelectMethod::Ids(file) => ids::select(context.root, &file.ids_path, rows, keep.get()),
    }
}
