//! The rows that a training stage uses: read, filtered, mixed, selected, given system turns. Whoever
//! looks at a stage's data comes through here, so that all see the same rows.

use super::error::DataError;
use super::filter::RowFilter;
use super::format::TextFormat;
use super::look::FileRows;
use super::mix::{LoadReport, load_filtered_chat, load_filtered_pairs, mixed_chat};
use super::order::select;
use super::record::{ChatRow, Message, PairRow};
use crate::base::{SeedTree, digest_bytes};
use crate::config::spec::{RowsRecipe, Share};
use rand::Rng as _;
use std::num::NonZeroUsize;
use std::path::Path;

/// Seed of the sample that a mixture with fractions or counts draws.
pub fn mixture_seed(seed: u64) -> SeedTree {
    SeedTree::root(seed).child("data/mixture")
}

/// Seed of the permutation whose prefix is `max-examples`.
pub fn select_seed(seed: u64) -> SeedTree {
    SeedTree::root(seed).child("data/select")
}

/// What other runs say about the training pairs.
#[derive(Debug, Default)]
pub struct Narrowed<'a> {
    /// Places of the rows that a filter kept, among those of the mixture, in its order.
    pub kept: Option<&'a [usize]>,
    /// Pairs that were made online; they stand behind those of the mixture.
    pub made: Vec<PairRow>,
}

/// The conversations that a filter chooses from: read, without repeats and contaminated rows, mixed.
///
/// # Errors
/// As [`crate::data::load_chat`].
pub fn candidate_chats(
    root: &Path,
    recipe: &RowsRecipe,
    data_seed: u64,
) -> Result<(Vec<ChatRow>, LoadReport), DataError> {
    let filter = RowFilter::new(root, recipe.dedup, recipe.decontaminate.as_ref())?;
    load_filtered_chat(root, &recipe.data, &filter, &mixture_seed(data_seed))
}

/// The rows at these places, in their order.
fn narrow<T: Clone>(rows: Vec<T>, kept: Option<&[usize]>) -> Result<Vec<T>, DataError> {
    let Some(kept) = kept else { return Ok(rows) };
    let row = |&place: &usize| {
        rows.get(place).cloned().ok_or_else(|| {
            let found = rows.len();
            DataError::Limits(format!(
                "the filter kept row {place} of a mixture that has {found} rows"
            ))
        })
    };
    kept.iter().map(row).collect()
}

/// Training conversations of a recipe, selected; of those at the places `kept` if it is given.
///
/// # Errors
/// As [`crate::data::load_chat`] and [`select`]; the template knows no system turns although empty
/// ones are asked for.
pub fn training_chats(
    root: &Path,
    recipe: &RowsRecipe,
    data_seed: u64,
    format: &TextFormat,
    kept: Option<&[usize]>,
) -> Result<(Vec<ChatRow>, LoadReport), DataError> {
    let (rows, mut report) = candidate_chats(root, recipe, data_seed)?;
    let (rows, added) = chosen_chats(narrow(rows, kept)?, recipe, data_seed, format)?;
    report.system_turns = added;
    Ok((rows, report))
}

/// [`training_chats`] of files that were read already: the rows of each source.
///
/// # Errors
/// As [`training_chats`].
pub fn training_chats_of(
    files: Vec<Vec<&ChatRow>>,
    root: &Path,
    recipe: &RowsRecipe,
    data_seed: u64,
    format: &TextFormat,
) -> Result<Vec<ChatRow>, DataError> {
    let filter = RowFilter::new(root, recipe.dedup, recipe.decontaminate.as_ref())?;
    let rows = mixed_chat(root, &recipe.data, files, &filter, &mixture_seed(data_seed))?;
    chosen_chats(rows, recipe, data_seed, format).map(|(rows, _)| rows)
}

/// How many rows of each source a recipe's filters leave, of files that were read already.
///
/// # Errors
/// The texts of an evaluation cannot be read.
pub fn rows_left(
    files: &[&FileRows],
    root: &Path,
    recipe: &RowsRecipe,
) -> Result<Vec<usize>, DataError> {
    let filter = RowFilter::new(root, recipe.dedup, recipe.decontaminate.as_ref())?;
    let chats: Vec<Vec<&ChatRow>> = files.iter().map(|f| f.chats.iter().collect()).collect();
    let pairs: Vec<Vec<&PairRow>> = files.iter().map(|f| f.pairs.iter().collect()).collect();
    let (chats, pairs) = (filter.apply(chats).0, filter.apply(pairs).0);
    let both = chats.iter().zip(&pairs);
    Ok(both
        .map(|(chats, pairs)| chats.len() + pairs.len())
        .collect())
}

/// The rows that are trained on out of the mixture, and how many of them got a system turn.
fn chosen_chats(
    rows: Vec<ChatRow>,
    recipe: &RowsRecipe,
    data_seed: u64,
    format: &TextFormat,
) -> Result<(Vec<ChatRow>, Option<usize>), DataError> {
    let most = recipe.max_examples.map(NonZeroUsize::get);
    let mut rows = select(rows, most, &select_seed(data_seed))?;
    let Some(share) = recipe.empty_system_turn else {
        return Ok((rows, None));
    };
    let rest: &[Message] = &[];
    let turns = rows.iter_mut().map(|row| (&mut row.messages, rest));
    let added = add_system_turns(turns, share, data_seed, format)?;
    Ok((rows, Some(added)))
}

/// Training pairs of a recipe, selected.
///
/// # Errors
/// As [`training_chats`].
pub fn training_pairs(
    root: &Path,
    recipe: &RowsRecipe,
    data_seed: u64,
    format: &TextFormat,
    narrowed: Narrowed<'_>,
) -> Result<(Vec<PairRow>, LoadReport), DataError> {
    let (mut rows, mut report) = if recipe.data.is_empty() {
        (Vec::new(), LoadReport::default())
    } else {
        candidate_pairs(root, recipe, data_seed)?
    };
    rows = narrow(rows, narrowed.kept)?;
    rows.extend(narrowed.made);
    let mut rows = select(
        rows,
        recipe.max_examples.map(NonZeroUsize::get),
        &select_seed(data_seed),
    )?;
    report.system_turns = system_turns_of_pairs(&mut rows, recipe, data_seed, format)?;
    Ok((rows, report))
}

/// All pairs of a recipe: a superset of what [`training_pairs`] gives, turn by turn the same.
///
/// # Errors
/// As [`training_pairs`].
pub fn all_pairs(
    root: &Path,
    recipe: &RowsRecipe,
    data_seed: u64,
    format: &TextFormat,
) -> Result<(Vec<PairRow>, LoadReport), DataError> {
    let (mut rows, mut report) = candidate_pairs(root, recipe, data_seed)?;
    report.system_turns = system_turns_of_pairs(&mut rows, recipe, data_seed, format)?;
    Ok((rows, report))
}

/// The pairs that a filter chooses from: read, without repeats and contaminated rows, mixed.
///
/// # Errors
/// As [`crate::data::load_pairs`].
pub fn candidate_pairs(
    root: &Path,
    recipe: &RowsRecipe,
    data_seed: u64,
) -> Result<(Vec<PairRow>, LoadReport), DataError> {
    let filter = RowFilter::new(root, recipe.dedup, recipe.decontaminate.as_ref())?;
    load_filtered_pairs(root, &recipe.data, &filter, &mixture_seed(data_seed))
}

fn system_turns_of_pairs(
    rows: &mut [PairRow],
    recipe: &RowsRecipe,
    data_seed: u64,
    format: &TextFormat,
) -> Result<Option<usize>, DataError> {
    let Some(share) = recipe.empty_system_turn else {
        return Ok(None);
    };
    let turns = rows.iter_mut().map(|row| {
        let replies = [row.chosen.as_slice(), &row.rejected].concat();
        (&mut row.prompt, replies)
    });
    add_system_turns(turns, share, data_seed, format).map(Some)
}

/// Puts an empty system turn before a share of the conversations that have none; how many got one.
/// Each conversation is its opening, which is changed, and what follows.
///
/// The draw depends on the seed and on the texts alone, not on names, places or the order of rows.
fn add_system_turns<'r, R: AsRef<[Message]>>(
    conversations: impl Iterator<Item = (&'r mut Vec<Message>, R)>,
    share: Share,
    data_seed: u64,
    format: &TextFormat,
) -> Result<usize, DataError> {
    format.check_empty_system_turn()?;
    let seed = SeedTree::root(data_seed).child("data/empty-system-turn");
    let mut added = 0;
    for (opening, rest) in conversations {
        if opening.iter().any(|m| m.role == "system") {
            continue;
        }
        let key = content_key(opening.iter().chain(rest.as_ref()));
        if seed.child(&key).rng().random::<f64>() < share.get() {
            opening.insert(0, Message::new("system", ""));
            added += 1;
        }
    }
    Ok(added)
}

/// Digest of turns, each part led by its length.
fn content_key<'m>(turns: impl Iterator<Item = &'m Message>) -> String {
    let mut bytes = Vec::new();
    for turn in turns {
        for part in [&turn.role, &turn.content] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    digest_bytes(&bytes).0
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
