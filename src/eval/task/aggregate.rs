//! Scores of rows to the metrics of a task, its groups and its parts.

use super::document::Document;
use super::score::{Answer, RowScore};
use crate::config::spec::{PartsTotal, TaskRecipe};
use crate::eval::record::{RowRecord, SampleRecord, SetResult};
use crate::eval::stats::mean;
use crate::rundir::MetricValue;
use std::collections::BTreeMap;

/// The scores of one row: one for each scorer, with the scorer's name.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRow {
    /// By the task's scorers, in their order.
    pub scores: Vec<(Option<String>, RowScore)>,
}

/// Values of one metric on one part.
type Values = Vec<f64>;

/// Name of the scorer, if it has one, and key.
type Measure<'a> = (Option<&'a str>, &'a str);

/// The metrics of a task and the records of its rows.
///
/// A mean has the standard error `sqrt(Σ(x − m)² / (n − 1) / n)`. Over parts whose rows count the same it is pooled, as
/// in `api/metrics.py` of `lm_eval` 0.4.13: `sqrt(Σ (nᵢ − 1) nᵢ seᵢ² / (Σ nᵢ − K) / Σ nᵢ)` of K parts; over parts that
/// count the same, `sqrt(Σ seᵢ²) / K`.
pub(super) fn task_result(
    name: &str,
    recipe: &TaskRecipe,
    documents: &[Document],
    answers: &[Answer],
    scored: &[ScoredRow],
) -> SetResult {
    let mut result = SetResult::default();
    // By scorer and key, then by part in the order of the names.
    let mut rows: BTreeMap<Measure<'_>, BTreeMap<Option<&str>, Values>> = BTreeMap::new();
    let mut items: BTreeMap<Measure<'_>, Values> = BTreeMap::new();
    for (document, row) in documents.iter().zip(scored) {
        for (scorer, score) in &row.scores {
            for (key, value) in &score.values {
                let parts = rows.entry((scorer.as_deref(), key)).or_default();
                let own = parts.entry(document.part.as_deref()).or_default();
                own.push(*value);
            }
            for (key, value) in score.items.iter().flatten() {
                items
                    .entry((scorer.as_deref(), key))
                    .or_default()
                    .push(*value);
            }
        }
    }
    for ((scorer, key), parts) in &rows {
        let mut put = |place: Option<&str>, value: MetricValue| {
            result.put(&set_name(name, place, *scorer), key, value);
        };
        let means: BTreeMap<Option<&str>, MetricValue> = parts
            .iter()
            .map(|(part, values)| (*part, mean(values)))
            .collect();
        let Some(of_parts) = &recipe.parts else {
            means.into_values().for_each(|value| put(None, value));
            continue;
        };
        for (part, value) in &means {
            put(*part, *value);
        }
        for (group, names) in &of_parts.groups {
            let own = names
                .iter()
                .filter_map(|name| means.get(&Some(name.as_str())));
            let own: Vec<MetricValue> = own.copied().collect();
            if !own.is_empty() {
                put(Some(group), total(&own, of_parts.total));
            }
        }
        let all: Vec<MetricValue> = means.into_values().collect();
        put(None, total(&all, of_parts.total));
    }
    for ((scorer, key), values) in &items {
        let value = MetricValue {
            stderr: None,
            ..mean(values)
        };
        result.put(&set_name(name, None, *scorer), key, value);
    }
    for ((document, answer), row) in documents.iter().zip(answers).zip(scored) {
        result.rows.extend(records(name, recipe, document, row));
        result.samples.extend(sample(name, document, answer, row));
    }
    result
}

/// What the keys of metrics begin with.
fn set_name(task: &str, place: Option<&str>, scorer: Option<&str>) -> String {
    let parts = [Some(task), place, scorer].into_iter().flatten();
    parts.collect::<Vec<_>>().join("/")
}

/// The records of a row, one for each scorer's name.
fn records(
    name: &str,
    recipe: &TaskRecipe,
    document: &Document,
    row: &ScoredRow,
) -> Vec<RowRecord> {
    // Where parts count the same, the mean over all rows is no metric.
    let apart = recipe
        .parts
        .as_ref()
        .filter(|p| p.total == PartsTotal::ByParts);
    let place = apart.and(document.part.as_deref());
    let mut records: Vec<RowRecord> = Vec::new();
    for (scorer, score) in &row.scores {
        let set = set_name(name, place, scorer.as_deref());
        let values = score
            .values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), *value));
        match records.iter_mut().find(|record| record.set == set) {
            Some(record) => record.metrics.extend(values),
            None => records.push(RowRecord {
                set,
                row: document.id(),
                cluster: None,
                metrics: values.collect(),
            }),
        }
    }
    records
}

/// The record of a generated answer.
fn sample(
    name: &str,
    document: &Document,
    answer: &Answer,
    row: &ScoredRow,
) -> Option<SampleRecord> {
    let Answer::Text {
        text,
        tokens,
        finished,
    } = answer
    else {
        return None;
    };
    let mut metrics = BTreeMap::new();
    for (scorer, score) in &row.scores {
        let key = |key: &str| match scorer {
            Some(scorer) => format!("{scorer}/{key}"),
            None => key.to_owned(),
        };
        metrics.extend(score.values.iter().map(|(own, value)| (key(own), *value)));
    }
    Some(SampleRecord {
        set: name.to_owned(),
        row: document.id(),
        sample: 0,
        prompt: document.questions[0].context.clone(),
        text: text.clone(),
        tokens: *tokens,
        finished: *finished,
        metrics,
    })
}

/// The metric of several parts together.
fn total(parts: &[MetricValue], total: PartsTotal) -> MetricValue {
    let rows: u64 = parts.iter().map(|part| part.n).sum();
    let (n, count) = (rows as f64, parts.len() as f64);
    let errors: Option<Vec<f64>> = parts.iter().map(|part| part.stderr).collect();
    let (value, stderr) = match total {
        PartsTotal::ByRows => {
            let value = parts
                .iter()
                .map(|part| part.value * part.n as f64)
                .sum::<f64>()
                / n;
            let squares = |errors: Vec<f64>| {
                let parts = parts.iter().zip(errors);
                let of_part = |(part, error): (&MetricValue, f64)| {
                    let n = part.n as f64;
                    (n - 1.0) * n * error * error
                };
                parts.map(of_part).sum::<f64>()
            };
            (value, errors.map(|e| (squares(e) / (n - count) / n).sqrt()))
        }
        PartsTotal::ByParts => {
            let value = parts.iter().map(|part| part.value).sum::<f64>() / count;
            let root = |errors: Vec<f64>| errors.iter().map(|e| e * e).sum::<f64>().sqrt();
            (value, errors.map(|e| root(e) / count))
        }
    };
    MetricValue {
        value,
        stderr,
        n: rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden(key: &str) -> Vec<Value> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let all = ["scoring.json", "scoring_odd.json"].map(|file| -> Value {
            let path = path.join("tests/golden/eval").join(file);
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        });
        let lists = all.iter().map(|all| all[key].as_array().unwrap());
        lists.flatten().cloned().collect()
    }

    fn list(value: &Value) -> Vec<f64> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn groups_weigh_their_parts_as_the_harness_does() {
        for case in golden("groups") {
            let parts = list(&case["values"])
                .into_iter()
                .zip(list(&case["stderrs"]));
            let parts = parts.zip(list(&case["sizes"]));
            let parts: Vec<MetricValue> = parts
                .map(|((value, stderr), n)| MetricValue {
                    value,
                    stderr: Some(stderr),
                    n: n as u64,
                })
                .collect();
            for (how, value, stderr) in [
                (PartsTotal::ByRows, "weighted", "pooled_stderr"),
                (PartsTotal::ByParts, "unweighted", "unweighted_stderr"),
            ] {
                let got = total(&parts, how);
                assert!(
                    (got.value - case[value].as_f64().unwrap()).abs() < 1e-12,
                    "{case}"
                );
                let want = case[stderr].as_f64().unwrap();
                assert!((got.stderr.unwrap() - want).abs() < 1e-12, "{case}");
            }
        }
    }

    #[test]
    fn standard_errors_of_means_are_those_of_the_harness() {
        for case in golden("stderr") {
            let got = mean(&list(&case["values"]));
            assert!(
                (got.value - case["mean"].as_f64().unwrap()).abs() < 1e-12,
                "{case}"
            );
            let want = case["stderr"].as_f64().unwrap();
            assert!((got.stderr.unwrap() - want).abs() < 1e-12, "{case}");
        }
    }
}
