//! A source of data in a mixture.

use crate::config::fold::Fold;
use crate::config::paths::DataFile;
use crate::config::range::Positive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// One source of a data mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSource {
    /// A file of JSON lines, a JSON list (both perhaps compressed) or a Parquet file, relative to the
    /// project root.
    pub path: DataFile,
    /// Use this share of the rows: the integer part repeats the set, the rest is a seeded sample.
    /// Not together with `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Positive>,
    /// Use this many rows, sampled without replacement by seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroUsize>,
    /// The file's names of columns, by the names that they have here: `{ prompt = "question" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Of rows that are split in parts by prompt, for cross-validation, those to train on or those held
    /// out: `{ of = 5, part = "train" }`. Whatever else is asked of the rows comes behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

/// The names that a column of a data file may have for us.
pub const COLUMNS: [&str; 12] = [
    "id",
    "messages",
    "conversations",
    "system",
    "prompt",
    "completion",
    "response",
    "chosen",
    "rejected",
    "instruction",
    "input",
    "output",
];
