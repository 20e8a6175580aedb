//! `[inputs]`: what a base file says of models and data that may not be there yet.
//!
//! For estimates and messages only: an input that is there speaks for itself, and nothing of this
//! is part of an identity.

use crate::arch::{MOST_COUNT, MOST_WIDTH};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// Whether data files and the model folder must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inputs {
    /// For `check` and `run`.
    Required,
    /// For planning ahead of the data, for example a study on weights that another machine has.
    Optional,
}

/// By path, as recipes name it.
pub type ExpectedInputs = BTreeMap<String, ExpectedInput>;

/// What is known of an input beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExpectedInput {
    /// Where to get it, one line: a data set with its split, a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Rows of a data file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<NonZeroU64>,
    /// Mean tokens of a row: a whole conversation; of a pair the prompt and both replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_row: Option<NonZeroU64>,
    /// Sizes of a model, as its `config.json` gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<ModelSizes>,
}

/// The sizes of a decoder with gated feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelSizes {
    /// Pieces of the vocabulary.
    pub vocab_size: NonZeroU64,
    /// Width of the residual stream.
    pub hidden_size: NonZeroU64,
    /// Layers.
    pub layers: NonZeroU64,
    /// Query heads.
    pub heads: NonZeroU64,
    /// Key and value heads.
    pub kv_heads: NonZeroU64,
    /// Width of a head.
    pub head_size: NonZeroU64,
    /// Width of the feed-forward layer.
    pub intermediate_size: NonZeroU64,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

impl ModelSizes {
    /// The sizes that no model has: the key of each with its value and the most that it may be.
    pub(crate) fn too_large(&self) -> Vec<(&'static str, NonZeroU64, u64)> {
        let (width, count) = (MOST_WIDTH as u64, MOST_COUNT as u64);
        let mut sizes = vec![
            ("vocab-size", self.vocab_size, width),
            ("hidden-size", self.hidden_size, width),
            ("layers", self.layers, count),
            ("heads", self.heads, count),
            ("kv-heads", self.kv_heads, count),
            ("head-size", self.head_size, count),
            ("intermediate-size", self.intermediate_size, width),
        ];
        sizes.retain(|(_, value, most)| value.get() > *most);
        sizes
    }
}
