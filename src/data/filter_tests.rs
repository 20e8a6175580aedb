//! Claims about repeats and contaminated rows, on made-up files.

use super::*;
use crate::base::SeedTree;
use crate::config::spec::DataSource;
use crate::data::mix::{load_filtered_chat, load_filtered_pairs};
use crate::data::{LoadReport, load_chat};

fn write(dir: &Path, name: &str, lines: &[&str]) {
    let text = lines.join("\n") + "\n";
    crate::base::write_atomic(&dir.join(name), text.as_bytes()).unwrap();
}

fn source(path: &str) -> DataSource {
    DataSource {
        path: path.into(),
        fraction: None,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    }
}

const ONE: &str = r#"{"id": "one", "prompt": "Hi", "response": "Ho"}"#;
const ONE_AGAIN: &str = r#"{"id": "again", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}"#;
const TWO: &str = r#"{"id": "two", "prompt": "Hi", "response": "ho"}"#;
const THREE: &str = r#"{"id": "three", "prompt": "Hi", "response": "Ho "}"#;

fn chats(
    dir: &Path,
    sources: &[DataSource],
    filter: &RowFilter,
) -> Result<(Vec<String>, LoadReport), DataError> {
    let (rows, report) = load_filtered_chat(dir, sources, filter, &SeedTree::root(0))?;
    Ok((rows.into_iter().map(|row| row.id).collect(), report))
}

#[test]
fn of_equal_rows_of_all_sources_the_first_stays_and_others_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", &[ONE, TWO, ONE]);
    write(dir.path(), "b.jsonl", &[ONE_AGAIN, ONE_AGAIN]);
    write(dir.path(), "c.jsonl", &[THREE]);
    let sources = ["a.jsonl", "b.jsonl", "c.jsonl"].map(source);
    let filter = RowFilter::new(dir.path(), true, None).unwrap();
    let (ids, report) = chats(dir.path(), &sources, &filter).unwrap();
    assert_eq!(
        ids,
        ["one", "two", "three"],
        "case and blanks tell rows apart"
    );
    assert_eq!(report.filtered.unwrap().duplicates, Some(3));
    let counts: Vec<_> = report.sources.iter().map(|s| (s.found, s.used)).collect();
    assert_eq!(counts, [(3, 2), (2, 0), (1, 1)]);
    // Without the option every row stays and nothing is reported.
    let (rows, report) = load_chat(dir.path(), &sources, &SeedTree::root(0)).unwrap();
    assert_eq!((rows.len(), report.filtered), (6, None));
}

#[test]
fn repeats_are_gone_before_a_share_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jsonl", &[ONE, ONE, ONE, TWO]);
    let filter = RowFilter::new(dir.path(), true, None).unwrap();
    let twice = DataSource {
        fraction: Some(2.0.try_into().unwrap()),
        ..source("a.jsonl")
    };
    let (ids, _) = chats(dir.path(), &[twice], &filter).unwrap();
    assert_eq!(
        ids,
        ["one", "two", "one", "two"],
        "a wanted repeat is no duplicate"
    );
    let three = DataSource {
        count: Some(3.try_into().unwrap()),
        columns: std::collections::BTreeMap::new(),
        fold: None,
        ..source("a.jsonl")
    };
    let error = chats(dir.path(), &[three], &filter).unwrap_err();
    assert_eq!(
        error.to_string(),
        "data source `a.jsonl`: `count` is 3, but only 2 of the file's 4 rows are left"
    );
}

#[test]
fn pairs_are_repeats_by_prompt_and_preferred_reply() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        r#"{"id": "a", "prompt": "p", "chosen": "c", "rejected": "r"}"#,
        r#"{"id": "b", "prompt": "p", "chosen": "c", "rejected": "other"}"#,
        r#"{"id": "c", "prompt": "q", "chosen": "c", "rejected": "r"}"#,
        r#"{"id": "d", "prompt": "p", "chosen": "r", "rejected": "c"}"#,
    ];
    write(dir.path(), "a.jsonl", &rows);
    let filter = RowFilter::new(dir.path(), true, None).unwrap();
    let sources = [source("a.jsonl")];
    let (rows, report) =
        load_filtered_pairs(dir.path(), &sources, &filter, &SeedTree::root(0)).unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["a", "c", "d"]);
    assert_eq!(report.filtered.unwrap().duplicates, Some(1));
}

fn recipe(files: &[&str], ngram: Option<usize>, min_words: Option<usize>) -> Decontamination {
    Decontamination {
        data: files.iter().map(|path| source(path)).collect(),
        ngram: ngram.and_then(std::num::NonZeroUsize::new),
        min_words: min_words.and_then(std::num::NonZeroUsize::new),
    }
}

const TRAIN: [&str; 4] = [
    r#"{"id": "holds", "prompt": "Please do this:\n\"\"\"Return  the\n SUM of a list.\"\"\"", "response": "ok"}"#,
    r#"{"id": "reply", "prompt": "Hi", "response": "return the sum of a list."}"#,
    r#"{"id": "part", "prompt": "Hi", "response": "It will return the sum of two numbers"}"#,
    r#"{"id": "clean", "prompt": "Hi", "response": "Ho"}"#,
];

#[test]
fn rows_that_hold_a_text_or_share_words_with_one_are_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "train.jsonl", &TRAIN);
    write(
        dir.path(),
        "eval.jsonl",
        &[r#"{"text": " Return the sum\tof a list.\n"}"#],
    );
    let left = |ngram| {
        let wanted = recipe(&["eval.jsonl"], ngram, None);
        let filter = RowFilter::new(dir.path(), false, Some(&wanted)).unwrap();
        chats(dir.path(), &[source("train.jsonl")], &filter).unwrap()
    };
    let (ids, report) = left(None);
    assert_eq!(ids, ["part", "clean"]);
    let filtered = report.filtered.unwrap();
    assert_eq!(
        (filtered.contaminated, filtered.duplicates),
        (Some(2), None)
    );
    assert_eq!(
        filtered.contaminated_rows,
        ["`holds` (train.jsonl:1)", "`reply` (train.jsonl:2)"]
    );
    // "return the sum of" is common to `part` and the text, "return the sum of a" is not.
    assert_eq!(left(Some(4)).0, ["clean"]);
    assert_eq!(left(Some(5)).0, ["part", "clean"]);
    assert_eq!(left(Some(50)).0, ["part", "clean"], "longer than the text");
}

#[test]
fn texts_come_from_chat_and_preference_files_without_their_system_turns() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "train.jsonl", &TRAIN);
    let chat = r#"{"messages": [{"role": "system", "content": "Hi"}, {"role": "user", "content": "sum of two"}, {"role": "assistant", "content": "never said"}]}"#;
    write(dir.path(), "chat.jsonl", &[chat]);
    let pair = r#"{"prompt": "x y z", "chosen": "u v w", "rejected": "Return the sum of a list"}"#;
    write(dir.path(), "pairs.jsonl", &[pair]);
    let left = |files: &[&str], min_words| {
        let wanted = recipe(files, None, min_words);
        let filter = RowFilter::new(dir.path(), false, Some(&wanted)).unwrap();
        chats(dir.path(), &[source("train.jsonl")], &filter).unwrap()
    };
    assert_eq!(left(&["chat.jsonl"], None).0, ["holds", "reply", "clean"]);
    assert_eq!(left(&["pairs.jsonl"], None).0, ["part", "clean"]);
    let (ids, report) = left(&["chat.jsonl", "pairs.jsonl"], Some(4));
    assert_eq!(
        ids,
        ["part", "clean"],
        "only the text of six words is looked for"
    );
    let filtered = report.filtered.unwrap();
    assert_eq!((filtered.texts, filtered.short_texts), (5, 4));
}

#[test]
fn a_repeat_is_no_contaminated_row_and_nothing_left_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "train.jsonl", &[ONE, ONE, TWO]);
    write(dir.path(), "eval.jsonl", &[r#"{"text": "hi"}"#]);
    let wanted = recipe(&["eval.jsonl"], None, None);
    let filter = RowFilter::new(dir.path(), true, Some(&wanted)).unwrap();
    let error = chats(dir.path(), &[source("train.jsonl")], &filter).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no row is left of 3: all hold texts of the evaluation"
    );
    write(
        dir.path(),
        "more.jsonl",
        &[r#"{"prompt": "Who?", "response": "I."}"#],
    );
    let sources = ["train.jsonl", "more.jsonl"].map(source);
    let (_, report) = chats(dir.path(), &sources, &filter).unwrap();
    let filtered = report.filtered.unwrap();
    assert_eq!(
        (filtered.duplicates, filtered.contaminated),
        (Some(1), Some(2))
    );
}

#[test]
fn files_of_an_evaluation_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "a.jsonl",
        &[r#"{"text": "a"}"#, r#"{"text": 3}"#, "{}"],
    );
    write(dir.path(), "b.jsonl", &[r#"{"question": "a"}"#]);
    let refused = |file: &str| {
        let wanted = recipe(&[file], None, None);
        RowFilter::new(dir.path(), false, Some(&wanted))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("a.jsonl"),
        "2 bad rows in `a.jsonl`: a.jsonl:2: `text` must be a string, not a number; \
         a.jsonl:3: `text` is missing"
    );
    assert!(
        refused("b.jsonl").starts_with("`b.jsonl` is no evaluation data"),
        "{}",
        refused("b.jsonl")
    );
}
