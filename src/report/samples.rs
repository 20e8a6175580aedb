//! Replies of evaluations side by side, rows on which they differ most first.

use crate::base::PathError;
use crate::base::fs::is_gone;
use crate::metrics::{Better, metric_spec};
use crate::plan::{RunId, SAMPLES_ARTIFACT};
use crate::report::select::{ReportError, RowValue, read_lines};
use crate::rundir::RunDir;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What a judge said of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JudgeWords {
    /// Which turn or game.
    pub about: String,
    /// The rating or label that was read from it; empty if there was none.
    pub verdict: String,
    /// All of it.
    pub text: String,
}

/// What one model replied to a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reply {
    /// The text; turns of a conversation are parted by an empty line.
    pub text: String,
    /// Tokens drawn, if they were counted.
    pub tokens: Option<u64>,
    /// Whether it ended by itself, if that is known.
    pub finished: Option<bool>,
    /// Scores: of this sample, else of its row.
    pub scores: BTreeMap<String, f64>,
    /// What a judge said of it.
    pub judge: Vec<JudgeWords>,
}

/// A row and what each model replied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleRow {
    /// The evaluated set.
    pub set: String,
    /// The row.
    pub row: String,
    /// Which sample of it, from 0.
    pub sample: u64,
    /// The last thing that was said to the model; empty where files do not hold it.
    pub prompt: String,
    /// In the order of the runs.
    pub replies: Vec<Option<Reply>>,
    /// The highest score less the lowest, in the metric's unit; none where a reply or a score is missing.
    pub apart: Option<f64>,
}

/// A line of `samples.jsonl`.
#[derive(Deserialize)]
struct SampleLine {
    set: String,
    row: String,
    sample: u64,
    #[serde(default)]
    prompt: String,
    text: String,
    tokens: u64,
    finished: bool,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

/// Set, row and sample.
type Place = (String, String, u64);

/// The replies of the evaluations `runs` to the same rows, of one `set` if it is named; `rows` are what each of them
/// measured by row, in the same order. Rows that differ most in `metric` (a key without its set; absent: the first
/// score that has a better side) come first, those of equal distance in their own order.
///
/// # Errors
/// A file is there and cannot be read.
pub fn side_by_side(
    root: &Path,
    runs: &[RunId],
    rows: &[Vec<RowValue>],
    (set, metric): (Option<&str>, Option<&str>),
) -> Result<Vec<SampleRow>, ReportError> {
    let mut found: BTreeMap<Place, SampleRow> = BTreeMap::new();
    for (at, run) in runs.iter().enumerate() {
        let mut own: BTreeMap<Place, (String, Reply)> = BTreeMap::new();
        let dir = RunDir::new(root, run).artifacts();
        add_samples(&dir.join(SAMPLES_ARTIFACT), &mut own)?;
        add_judged(&dir, &mut own)?;
        add_row_scores(rows.get(at).map_or(&[], Vec::as_slice), &mut own);
        for ((of, row, sample), (prompt, reply)) in own {
            if set.is_some_and(|set| set != of) {
                continue;
            }
            let entry = found
                .entry((of.clone(), row.clone(), sample))
                .or_insert_with(|| SampleRow {
                    set: of,
                    row,
                    sample,
                    prompt: String::new(),
                    replies: vec![None; runs.len()],
                    apart: None,
                });
            if entry.prompt.is_empty() {
                entry.prompt = prompt;
            }
            entry.replies[at] = Some(reply);
        }
    }
    let mut all: Vec<SampleRow> = found.into_values().collect();
    for row in &mut all {
        row.apart = apart(row, metric);
    }
    let size = |row: &SampleRow| row.apart.unwrap_or(-1.0);
    all.sort_by(|a, b| size(b).total_cmp(&size(a)));
    Ok(all)
}

/// How far the replies to a row are apart in a score.
fn apart(row: &SampleRow, metric: Option<&str>) -> Option<f64> {
    let replies = row.replies.iter().map(Option::as_ref);
    let replies: Vec<&Reply> = replies.collect::<Option<_>>()?;
    let first = replies.first()?;
    let judged =
        |key: &&String| metric_spec(&format!("{}/{key}", row.set)).better != Better::Neither;
    let key = match metric {
        Some(metric) => metric,
        None => first.scores.keys().find(judged)?,
    };
    let values = replies.iter().map(|reply| reply.scores.get(key).copied());
    let values = values.collect::<Option<Vec<f64>>>()?;
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    Some(most - least)
}

fn add_samples(path: &Path, own: &mut BTreeMap<Place, (String, Reply)>) -> Result<(), ReportError> {
    for value in lines(path)? {
        let Ok(line) = serde_json::from_value::<SampleLine>(value) else {
            continue; // the samples of a round of online DPO have another form
        };
        let reply = Reply {
            text: line.text,
            tokens: Some(line.tokens),
            finished: Some(line.finished),
            scores: line.metrics,
            judge: Vec::new(),
        };
        own.insert((line.set, line.row, line.sample), (line.prompt, reply));
    }
    Ok(())
}

/// Scores of a row go to the samples that have none of that name, of the sets that its scorers' names stand behind.
fn add_row_scores(rows: &[RowValue], own: &mut BTreeMap<Place, (String, Reply)>) {
    for row in rows {
        let sets = [row.set.as_str()]
            .into_iter()
            .chain(row.set.rsplit_once('/').map(|(set, _)| set));
        for (index, set) in sets.enumerate() {
            let prefix = row.set[set.len()..].trim_start_matches('/');
            let place = (set.to_owned(), row.row.clone(), 0);
            let Some((_, reply)) = own.get_mut(&place) else {
                continue;
            };
            for (key, value) in &row.metrics {
                let key = if index == 0 {
                    key.clone()
                } else {
                    format!("{prefix}/{key}")
                };
                reply.scores.entry(key).or_insert(*value);
            }
        }
    }
}

/// Replies and judgments of chat benchmarks, which lie in the forms of their own tools.
fn add_judged(dir: &Path, own: &mut BTreeMap<Place, (String, Reply)>) -> Result<(), ReportError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(PathError::new("read", dir, error).into()),
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    for name in &names {
        let path = dir.join(name);
        if let Some(set) = name.strip_suffix(".answers.jsonl") {
            for answer in lines(&path)? {
                let turns = answer["choices"][0]["turns"]
                    .as_array()
                    .into_iter()
                    .flatten();
                let texts = turns.map(|turn| {
                    turn.as_str()
                        .or(turn["content"].as_str())
                        .unwrap_or_default()
                });
                let reply = Reply {
                    text: texts.collect::<Vec<_>>().join("\n\n"),
                    ..Reply::default()
                };
                own.insert(
                    (set.to_owned(), text(&answer["question_id"]), 0),
                    (String::new(), reply),
                );
            }
        } else if let Some(set) = name.strip_suffix(".annotations.json") {
            let all = lines(&path)?
                .into_iter()
                .flat_map(|list| list.as_array().cloned().unwrap_or_default());
            for (at, row) in all.enumerate() {
                let reply = Reply {
                    text: text(&row["output_2"]),
                    judge: vec![JudgeWords {
                        about: "preference".to_owned(),
                        verdict: text(&row["preference"]),
                        text: text(&row["raw_completion"]),
                    }],
                    ..Reply::default()
                };
                own.insert(
                    (set.to_owned(), at.to_string(), 0),
                    (text(&row["instruction"]), reply),
                );
            }
        }
    }
    for name in &names {
        let Some(set) = name.strip_suffix(".judgments.jsonl") else {
            continue;
        };
        for judgment in lines(&dir.join(name))? {
            let place = (set.to_owned(), text(&judgment["question_id"]), 0);
            if let Some((_, reply)) = own.get_mut(&place) {
                reply.judge.extend(words(&judgment));
            }
        }
    }
    Ok(())
}

/// What the judge says in a line of judgments.
fn words(judgment: &Value) -> Vec<JudgeWords> {
    let said = |about: String, of: &Value| JudgeWords {
        about,
        verdict: text(&of["score"]),
        text: text(&of["judgment"]),
    };
    match judgment["games"].as_array() {
        Some(games) => (1..)
            .zip(games)
            .map(|(n, game)| said(format!("game {n}"), game))
            .collect(),
        None => vec![said(format!("turn {}", text(&judgment["turn"])), judgment)],
    }
}

/// A string as it is, nothing as nothing, and anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The values of a file of JSON lines, which may be absent and hold empty ones.
fn lines(path: &Path) -> Result<Vec<Value>, ReportError> {
    read_lines(path, |line| match line {
        "" => Ok(None),
        line => serde_json::from_str(line).map(Some),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;

    fn folder(root: &Path, id: &str, files: &[(&str, &str)]) -> RunId {
        let run = RunId(id.repeat(64));
        let dir = RunDir::new(root, &run).artifacts();
        for (name, text) in files {
            write_atomic(&dir.join(name), text.as_bytes()).unwrap();
        }
        run
    }

    fn value(row: &str, score: f64) -> RowValue {
        RowValue {
            set: "mt".to_owned(),
            row: row.to_owned(),
            metrics: BTreeMap::from([("rating".to_owned(), score)]),
            cluster: None,
        }
    }

    #[test]
    fn rows_that_differ_most_come_first_and_judges_keep_their_words() {
        let root = tempfile::tempdir().unwrap();
        let answer = |id: u8, text: &str| {
            format!(
                "{{\"question_id\":{id},\"choices\":[{{\"index\":0,\"turns\":[\"{text}\",\"more\"]}}]}}\n"
            )
        };
        let judged = "{\"question_id\":81,\"judgment\":\"Good. [[8]]\",\"score\":8,\"turn\":1}\n";
        let answers = [answer(81, "a"), answer(82, "b")].concat();
        let first = folder(
            root.path(),
            "a",
            &[
                ("mt.answers.jsonl", &answers),
                ("mt.judgments.jsonl", judged),
            ],
        );
        let second = folder(root.path(), "b", &[("mt.answers.jsonl", &answers)]);
        let rows = [
            vec![value("81", 8.0), value("82", 5.0)],
            vec![value("81", 7.0), value("82", 1.0)],
        ];
        let runs = [first, second];
        let found = side_by_side(root.path(), &runs, &rows, (None, None)).unwrap();
        let ids: Vec<_> = found
            .iter()
            .map(|row| (row.row.as_str(), row.apart))
            .collect();
        assert_eq!(ids, [("82", Some(4.0)), ("81", Some(1.0))]);
        let reply = found[1].replies[0].as_ref().unwrap();
        assert_eq!(reply.text, "a\n\nmore");
        assert_eq!(reply.judge[0].verdict, "8");
        assert_eq!(
            (reply.judge[0].about.as_str(), reply.judge[0].text.as_str()),
            ("turn 1", "Good. [[8]]")
        );
        let none = side_by_side(root.path(), &runs, &rows, (Some("other"), None)).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn samples_of_a_story_are_told_apart_and_a_broken_line_is_named() {
        let root = tempfile::tempdir().unwrap();
        let sample = |n: u8| {
            format!(
                "{{\"set\":\"s\",\"row\":\"r\",\"sample\":{n},\"prompt\":\"p\",\"text\":\"t{n}\",\"tokens\":3,\"finished\":true,\"metrics\":{{\"rule_score\":0.5}}}}\n"
            )
        };
        let run = folder(
            root.path(),
            "c",
            &[("samples.jsonl", &[sample(0), sample(1)].concat())],
        );
        let found = side_by_side(root.path(), &[run], &[Vec::new()], (None, None)).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].prompt, "p");
        let broken = folder(root.path(), "d", &[("samples.jsonl", "{\n{}\n")]);
        let error = side_by_side(root.path(), &[broken], &[Vec::new()], (None, None)).unwrap_err();
        assert!(error.to_string().starts_with("line 1 of"), "{error}");
    }
}
