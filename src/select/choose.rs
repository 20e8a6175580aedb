//! From a recipe to the rows that it keeps.

use super::context::{SelectContext, SelectModels, given};
use super::error::SelectError;
use super::order::{Direction, Selection, best, seeded};
use super::rows::RowsRef;
use super::work::{SelectProgress, Work};
use super::{columns, deita, ids, less, likelihood, order, reward};
use crate::base::SeedTree;
use crate::config::select::{SelectMethod, SelectRecipe, Tail, select_problems};

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
    models: SelectModels<'_>,
    seed: &SeedTree,
    progress: &mut SelectProgress<'_>,
) -> Result<Selection, SelectError> {
    if let Some(problem) = select_problems(recipe, rows.target()).into_iter().next() {
        return Err(SelectError::Recipe(problem.message));
    }
    rows.check()?;
    let keep = recipe.keep.get();
    let method = &recipe.method;
    let mut work = Work::new(progress);
    let policy = || given(models.policy, method, "the policy");
    let all = || vec![Some(0.0); rows.len()];
    match method {
        SelectMethod::Random => Ok(seeded(all(), keep, seed)?.without_scores()),
        SelectMethod::Longest => best(likelihood::lengths(rows), keep, Direction::Highest),
        SelectMethod::Shortest => best(likelihood::lengths(rows), keep, Direction::Lowest),
        SelectMethod::PreferenceStrength(strength) => {
            let gaps = columns::gaps(rows, &strength.gap)?;
            order::by_bins(gaps, strength, keep, seed)
        }
        SelectMethod::ChosenQuality(rule) | SelectMethod::RejectedQuality(rule) => {
            let scores = columns::column(rows, &rule.column)?;
            columns::within(scores, rule, keep, seed)
        }
        SelectMethod::Deita(deita) => {
            deita::select(deita, recipe, rows, context, models.embedder, &mut work)
        }
        SelectMethod::Ifd => likelihood::select_by_ifd(policy()?, rows, context, keep, &mut work),
        SelectMethod::Perplexity(band) => {
            let scores = likelihood::perplexities(policy()?, rows, context, &mut work)?;
            order::by_quantiles(scores, *band, keep, seed)
        }
        SelectMethod::RewardGap(model) => {
            let scores = reward::gaps(model, recipe, rows, context, &mut work)?;
            best(scores, keep, Direction::Highest)
        }
        SelectMethod::ImplicitRewardGap => {
            let models = (policy()?, given(models.base, method, "the base model")?);
            let scores = likelihood::implicit_gaps(models, rows, context, &mut work)?;
            best(scores, keep, Direction::Highest)
        }
        SelectMethod::MarginUncertainty(rule) => {
            let margins = likelihood::margins(policy()?, rows, context, &mut work)?;
            let score = |m: f64| if rule.absolute { m.abs() } else { m };
            let scores = margins.into_iter().map(|m| m.map(score)).collect();
            let direction = match rule.tail {
                Tail::Hard => Direction::Lowest,
                Tail::Easy => Direction::Highest,
            };
            best(scores, keep, direction)
        }
        SelectMethod::Less(less) => {
            let learner = given(models.learner, method, "the policy")?;
            let scores = less::similarities(less, learner, rows, context, seed, &mut work)?;
            best(scores, keep, Direction::Highest)
        }
        SelectMethod::Ids(file) => ids::select(context.root, &file.ids_path, rows, keep),
    }
}
