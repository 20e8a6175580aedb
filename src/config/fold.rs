//! Cross-validation: which part of a split a data entry takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// One side of a split of rows in parts by their prompts.
///
/// A row's part follows from the text of its prompt alone: rows of one prompt are in one part, in whichever
/// file they stand, and stay there when a file grows. Parts are equal up to chance.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fold {
    /// Parts, 2 to 10000.
    #[schemars(range(min = 2, max = 10_000))]
    pub of: NonZeroU64,
    /// Which side.
    pub part: FoldPart,
    /// The part that is held out, from 0. Absent: what the trial's seed leaves when it is divided by `of`, so
    /// that successive seeds hold out one part after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

/// A side of a split.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FoldPart {
    /// All parts but the one that is held out.
    Train,
    /// The part that is held out.
    HeldOut,
}

impl FoldPart {
    /// As in a sweep file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held-out",
        }
    }
}

impl Fold {
    /// Whether rows of this part (from 0) are on this side while part `held_out` is held out.
    pub fn takes(&self, part: u64, held_out: u64) -> bool {
        match self.part {
            FoldPart::Train => part != held_out,
            FoldPart::HeldOut => part == held_out,
        }
    }

    /// The share of all rows on this side, up to chance.
    pub fn share(&self) -> f64 {
        let held_out = 1.0 / self.of.get() as f64;
        match self.part {
            FoldPart::Train => 1.0 - held_out,
            FoldPart::HeldOut => held_out,
        }
    }
}
