//! What an evaluation of one set gives: metrics, and a record for each row.

use crate::eval::stats::mean;
use crate::rundir::MetricValue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Measures of one evaluated row: a line of `rows.jsonl`. Rows have the same ids in every run, so
/// that runs can be compared row by row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowRecord {
    /// Name of the set.
    pub set: String,
    /// Id of the row.
    pub row: String,
    /// What it has in common with other rows, which are then not independent: the digest of the prompt, or a
    /// value of the data. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Values by metric key without the set.
    pub metrics: BTreeMap<String, f64>,
}

/// One sampled text: a line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Name of the set.
    pub set: String,
    /// Id of the prompt's row.
    pub row: String,
    /// Which sample of the prompt, from 0.
    pub sample: usize,
    /// The last user turn.
    pub prompt: String,
    /// The text.
    pub text: String,
    /// Tokens drawn, without the end token.
    pub tokens: usize,
    /// Whether it ended by itself.
    pub finished: bool,
    /// Value by rule.
    pub metrics: BTreeMap<String, f64>,
}

/// Result of one set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetResult {
    /// Values by whole metric key, `<set>/…`.
    pub metrics: BTreeMap<String, MetricValue>,
    /// One record a row, in the order of the data.
    pub rows: Vec<RowRecord>,
    /// Sampled texts.
    pub samples: Vec<SampleRecord>,
}

impl SetResult {
    /// Adds a metric of `set`.
    pub(crate) fn put(&mut self, set: &str, key: &str, value: MetricValue) {
        self.metrics.insert(format!("{set}/{key}"), value);
    }

    /// Adds the mean of each metric over the rows that have it.
    pub(crate) fn put_means(&mut self, set: &str) {
        let mut by_key: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (key, value) in self.rows.iter().flat_map(|row| &row.metrics) {
            by_key.entry(key.clone()).or_default().push(*value);
        }
        for (key, values) in by_key {
            self.put(set, &key, mean(&values));
        }
    }
}
