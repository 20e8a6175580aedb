//! Splits of rows for cross-validation.

use super::error::DataError;
use super::record::{chat_row, chat_schema, has, is_pair, pair_row, turns_text};
use super::source::{RawRow, glance_at_source, read_source};
use crate::base::digest_bytes;
use crate::config::spec::DataSource;
use rayon::prelude::*;
use std::path::Path;

/// Reads every row of a source, of a split those on its side, with its columns under our names.
///
/// # Errors
/// As [`read_source`] and [`on_side`].
pub(super) fn read_side(root: &Path, source: &DataSource) -> Result<Vec<RawRow>, DataError> {
    on_side(read_source(root, source)?, source, true)
}

/// As [`read_side`], of a large file only the rows at its beginning; whether those are all.
///
/// # Errors
/// As [`glance_at_source`] and [`on_side`].
pub(super) fn glance_at_side(
    root: &Path,
    source: &DataSource,
) -> Result<(Vec<RawRow>, bool), DataError> {
    let (rows, whole) = glance_at_source(root, source)?;
    Ok((on_side(rows, source, whole)?, whole))
}

/// The rows of a source that are on its side of its split; all without a split. Rows that cannot be read
/// stay, so that they are refused by whoever reads them.
///
/// # Errors
/// Nobody said which part is held out; these are all rows (`whole`), and none is on this side.
fn on_side(rows: Vec<RawRow>, source: &DataSource, whole: bool) -> Result<Vec<RawRow>, DataError> {
    let Some(fold) = source.fold else {
        return Ok(rows);
    };
    let held_out = fold.index.ok_or_else(|| DataError::Mixture {
        path: source.path.to_string(),
        reason: "its `fold` does not say which part is held out (`index`)".to_owned(),
    })?;
    let prompt = prompts(&source.path, &rows);
    let keep: Vec<bool> = rows
        .par_iter()
        .map(|row| prompt(row).is_none_or(|text| fold.takes(part(&text, fold.of.get()), held_out)))
        .collect();
    let kept = rows.into_iter().zip(keep);
    let kept: Vec<RawRow> = kept.filter_map(|(row, keep)| keep.then_some(row)).collect();
    if whole && kept.is_empty() {
        return Err(DataError::EmptySide {
            path: source.path.to_string(),
            held_out,
            of: fold.of.get(),
        });
    }
    Ok(kept)
}

/// The part of `of` in which rows of a prompt are, from 0: a digest of its text.
fn part(prompt: &str, of: u64) -> u64 {
    digest_bytes(format!("fold\n{prompt}").as_bytes()).number() % of.max(1)
}

/// The text before a row's reply; nothing of a row that has none.
type PromptOf = Box<dyn Fn(&RawRow) -> Option<String> + Send + Sync>;

/// What tells the text before a row's reply, by the form of the file's first row: the turns with their roles, or
/// the whole text of rows that hold one.
fn prompts(path: &str, rows: &[RawRow]) -> PromptOf {
    let path = path.to_owned();
    let Some((_, first)) = rows.first() else {
        return Box::new(|_| None);
    };
    if is_pair(first) {
        return Box::new(move |row| Some(turns_text(&pair_row(&path, row.clone()).ok()?.prompt)));
    }
    if let Ok(schema) = chat_schema(&path, first) {
        return Box::new(move |row| {
            Some(turns_text(
                chat_row(&path, schema, row.clone()).ok()?.prompt(),
            ))
        });
    }
    if has(first, "text") {
        return Box::new(|row| row.1.get("text")?.as_str().map(str::to_owned));
    }
    Box::new(|_| None)
}

#[cfg(test)]
mod tests {
    use crate::base::{SeedTree, write_atomic};
    use crate::config::spec::DataSource;
    use crate::data::{PairRow, load_chat, load_pairs, load_prompts};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::path::Path;

    const PAIRS: [&str; 2] = [
        "data/pref/polite_train.jsonl",
        "data/pref/polite_test.jsonl",
    ];

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn source(path: &str, part: &str, index: u64) -> DataSource {
        let fold = json!({"of": 5, "part": part, "index": index});
        serde_json::from_value(json!({"path": path, "fold": fold})).unwrap()
    }

    fn pairs(part: &str, index: u64) -> Vec<PairRow> {
        let sources = PAIRS.map(|path| source(path, part, index));
        load_pairs(root(), &sources, &SeedTree::root(0)).unwrap().0
    }

    fn ids(rows: &[PairRow]) -> BTreeSet<&str> {
        rows.iter().map(|row| row.id.as_str()).collect()
    }

    #[test]
    fn each_row_is_held_out_once_and_trained_on_otherwise() {
        let mut seen = BTreeSet::new();
        for index in 0..5 {
            let (train, held_out) = (pairs("train", index), pairs("held-out", index));
            assert_eq!(train.len() + held_out.len(), 1094);
            assert!(ids(&train).is_disjoint(&ids(&held_out)));
            // A fifth of 1094 prompts, ± 3 standard errors of 13.
            assert!((180..=258).contains(&held_out.len()), "{}", held_out.len());
            seen.extend(held_out.iter().map(|row| row.id.clone()));
        }
        assert_eq!(seen.len(), 1094);
    }

    // 1,094 pairs of 1,069 prompts.
    #[test]
    fn rows_of_one_prompt_are_on_one_side() {
        let prompts = |rows: &[PairRow]| -> BTreeSet<String> {
            rows.iter().map(|row| format!("{:?}", row.prompt)).collect()
        };
        for index in 0..5 {
            let (train, held_out) = (pairs("train", index), pairs("held-out", index));
            assert!(prompts(&train).is_disjoint(&prompts(&held_out)));
        }
    }

    // A prompt has its part in whichever file and form it stands, so that files share a split.
    #[test]
    fn pairs_and_conversations_of_one_prompt_have_one_part() {
        let dir = tempfile::tempdir().unwrap();
        let (mut pairs, mut chats) = (String::new(), String::new());
        for n in 0..60 {
            let prompt = format!("say {n}");
            pairs +=
                &json!({"id": n, "prompt": prompt, "chosen": "a", "rejected": "b"}).to_string();
            chats += &json!({"id": n, "messages": [
                {"role": "user", "content": prompt}, {"role": "assistant", "content": "c"}
            ]})
            .to_string();
            pairs.push('\n');
            chats.push('\n');
        }
        write_atomic(&dir.path().join("p.jsonl"), pairs.as_bytes()).unwrap();
        write_atomic(&dir.path().join("c.jsonl"), chats.as_bytes()).unwrap();
        let seed = SeedTree::root(0);
        for part in ["train", "held-out"] {
            let (pairs, report) =
                load_pairs(dir.path(), &[source("p.jsonl", part, 1)], &seed).unwrap();
            let (chats, _) = load_chat(dir.path(), &[source("c.jsonl", part, 1)], &seed).unwrap();
            let of_chats: Vec<&str> = chats.iter().map(|row| row.id.as_str()).collect();
            assert_eq!(ids(&pairs), of_chats.into_iter().collect());
            assert_eq!(report.sources[0].used, pairs.len());
            let sources = [source("c.jsonl", part, 1)];
            let (prompts, _) = load_prompts(dir.path(), &sources, &seed).unwrap();
            assert_eq!(prompts.len(), chats.len());
        }
    }

    #[test]
    fn a_share_is_taken_of_the_side_and_an_empty_side_is_refused() {
        let with = |change: Value| {
            let mut source =
                json!({"path": PAIRS[1], "fold": {"of": 5, "part": "held-out", "index": 0}});
            for (key, value) in change.as_object().unwrap() {
                source[key] = value.clone();
            }
            let source: DataSource = serde_json::from_value(source).unwrap();
            let rows = load_pairs(root(), &[source], &SeedTree::root(0));
            rows.map(|(rows, _)| rows.len()).map_err(|e| e.to_string())
        };
        let all = with(json!({})).unwrap();
        assert!((15..60).contains(&all), "{all}");
        assert_eq!(with(json!({"count": 10})), Ok(10));
        assert_eq!(with(json!({"fraction": 2.0})), Ok(2 * all));
        let many = with(json!({"count": 100})).unwrap_err();
        assert!(
            many.ends_with(&format!(
                "`count` is 100, but its side of the split has {all} rows"
            )),
            "{many}"
        );
        let empty =
            with(json!({"fold": {"of": 9999, "part": "held-out", "index": 3}})).unwrap_err();
        assert!(
            empty.contains("part 3 of 9999 leaves no row on this side"),
            "{empty}"
        );
        let open = with(json!({"fold": {"of": 5, "part": "train"}})).unwrap_err();
        assert!(
            open.contains("does not say which part is held out"),
            "{open}"
        );
    }
}
