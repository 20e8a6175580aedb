//! Prompts to sample from, out of preference pairs or chat data.

use super::error::DataError;
use super::mix::{LoadReport, load_chat, load_pairs, make_ids_unique};
use super::order::permutation;
use super::record::{Message, Origin, is_pair};
use super::source::glance_at_source;
use crate::base::SeedTree;
use crate::config::spec::DataSource;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// A prompt, and what its data row knows beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptRow {
    /// The row's id; unique among the rows loaded together.
    pub id: String,
    /// The turns before the reply.
    pub messages: Vec<Message>,
    /// The offline replies, preferred first, of a row of preference data.
    pub original: Option<(Vec<Message>, Vec<Message>)>,
    /// The keys that the form does not name, for example `constraints`.
    pub extra: Value,
    /// File and line.
    pub origin: Origin,
}

/// Reads prompts source by source: a file of preference pairs gives the turns before the replies, a
/// chat file those before its last reply. A prompt that comes again (most preference files have
/// several pairs of one prompt) is left out.
///
/// # Errors
/// As [`load_pairs`] and [`load_chat`].
pub fn load_prompts(
    root: &Path,
    sources: &[DataSource],
    seed: &SeedTree,
) -> Result<(Vec<PromptRow>, LoadReport), DataError> {
    let mut rows = Vec::new();
    let mut report = LoadReport::default();
    for source in sources {
        let first = glance_at_source(root, source)?.0.swap_remove(0).1;
        let own = std::slice::from_ref(source);
        if is_pair(&first) {
            let (pairs, loaded) = load_pairs(root, own, seed)?;
            report.sources.extend(loaded.sources);
            rows.extend(pairs.into_iter().map(|pair| PromptRow {
                id: pair.id,
                messages: pair.prompt,
                original: Some((pair.chosen, pair.rejected)),
                extra: pair.extra,
                origin: pair.origin,
            }));
        } else {
            let (chats, loaded) = load_chat(root, own, seed)?;
            report.sources.extend(loaded.sources);
            rows.extend(chats.into_iter().map(|chat| PromptRow {
                messages: chat.prompt().to_vec(),
                id: chat.id,
                original: None,
                extra: chat.extra,
                origin: chat.origin,
            }));
        }
    }
    let mut seen = BTreeSet::new();
    rows.retain(|row| {
        let turns = row
            .messages
            .iter()
            .map(|m| (m.role.clone(), m.content.clone()));
        !row.messages.is_empty() && seen.insert(turns.collect::<Vec<_>>())
    });
    make_ids_unique(rows.iter_mut().map(|r| (&mut r.id, &r.origin)), &report);
    Ok((rows, report))
}

/// The `per_round` of `n` prompts whose turn is `round` (from 0): the permutations by `seed` are
/// walked through one after the other, so that every prompt has been used before one comes again.
/// Without a number all of them, in their own order.
pub fn round_prompts(
    n: usize,
    per_round: Option<usize>,
    round: usize,
    seed: &SeedTree,
) -> Vec<usize> {
    // So many hold a whole permutation, wherever they begin.
    let Some(wanted) = per_round.filter(|&wanted| wanted / 2 < n) else {
        return (0..n).collect();
    };
    let mut taken = Vec::new();
    let mut order: Option<(usize, Vec<usize>)> = None;
    for at in round * wanted..(round + 1) * wanted {
        let pass = at / n;
        if order.as_ref().is_none_or(|(known, _)| *known != pass) {
            order = Some((pass, permutation(n, &seed.index(pass as u64))));
        }
        if let Some((_, order)) = &order {
            taken.push(order[at % n]);
        }
    }
    taken.sort_unstable();
    taken.dedup();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn source(path: &str) -> DataSource {
        serde_json::from_value(serde_json::json!({ "path": path })).unwrap()
    }

    #[test]
    fn a_prompt_comes_once_and_keeps_the_pair_it_came_from() {
        let path = "data/pref/oasst_human_train.jsonl";
        let seed = SeedTree::root(0);
        let (pairs, _) = load_pairs(root(), &[source(path)], &seed).unwrap();
        let distinct: BTreeSet<String> = pairs.iter().map(|p| format!("{:?}", p.prompt)).collect();
        let (rows, report) = load_prompts(root(), &[source(path)], &seed).unwrap();
        assert_eq!(report.rows(), 521);
        assert_eq!(rows.len(), distinct.len());
        assert!(rows.len() < 521);
        let (chosen, rejected) = rows[0].original.as_ref().unwrap();
        assert_eq!((chosen, rejected), (&pairs[0].chosen, &pairs[0].rejected));
    }

    #[test]
    fn chat_rows_give_the_turns_before_the_last_reply() {
        let sources = [source("data/sft/stories_test.jsonl")];
        let (rows, _) = load_prompts(root(), &sources, &SeedTree::root(0)).unwrap();
        assert_eq!(rows[0].messages.last().unwrap().role, "user");
        assert_eq!(rows[0].extra["constraints"]["name"], "Fin");
        assert!(rows[0].original.is_none());
    }

    // 10 prompts, 4 a round: two rounds take 8, the third the last 2 and 2 of the next permutation.
    #[test]
    fn every_prompt_has_its_turn_before_one_comes_again() {
        let seed = SeedTree::root(3);
        let rounds: Vec<Vec<usize>> = (0..3)
            .map(|round| round_prompts(10, Some(4), round, &seed))
            .collect();
        let first: BTreeSet<usize> = rounds[..2].iter().flatten().copied().collect();
        assert_eq!(first.len(), 8);
        let rest: Vec<usize> = (0..10).filter(|i| !first.contains(i)).collect();
        assert!(rest.iter().all(|i| rounds[2].contains(i)), "{rounds:?}");
        assert_eq!(round_prompts(3, None, 5, &seed), [0, 1, 2]);
        assert_eq!(round_prompts(3, Some(1_000_000_000), 5, &seed), [0, 1, 2]);
        assert_eq!(round_prompts(0, Some(4), 1, &seed), [0; 0]);
    }
}
