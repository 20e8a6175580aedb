//! Options of the training stages that are off when absent, and what a value of them means.

use crate::config::data_source::DataSource;
use crate::config::range::Share;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;

/// Drops training rows that hold texts of an evaluation.
///
/// Both sides are compared in lower case with every run of white space as one blank. A row is
/// dropped if one of its turns (of a pair: of either reply, too) contains a text of `data` whole, or
/// shares `ngram` successive words with one. The texts of `data` are the user and assistant turns of
/// chat rows, prompt and replies of pairs, or `text` where rows have that key; system turns are left
/// aside. The released code does the first with the docstrings of HumanEval and preferred replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Decontamination {
    /// The evaluation's files, taken whole.
    pub data: Vec<DataSource>,
    /// A row that shares so many successive words with a text is dropped, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ngram: Option<NonZeroUsize>,
    /// Texts of fewer words are not looked for as a whole, counted; absent: every text is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_words: Option<NonZeroUsize>,
}

/// Which rows of the embedding learn; the others keep their bits. A tied output head is the
/// embedding; one of its own learns whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum TrainableEmbeddings {
    /// Token ids from this one on (the released LLaMA recipe: 128000, the added tokens).
    From(NonZeroUsize),
    /// Token ids below this one (the released Gemma recipe: 110).
    Below(NonZeroUsize),
}

impl TrainableEmbeddings {
    /// The rows that learn among `vocab_size`; empty if there are none.
    pub fn rows(self, vocab_size: usize) -> Range<usize> {
        match self {
            Self::From(first) => first.get().min(vocab_size)..vocab_size,
            Self::Below(end) => 0..end.get().min(vocab_size),
        }
    }
}

/// A reference that follows the policy: Gorbatovski et al. 2024 (TR-DPO), equations 5 and 6.
///
/// After every `every-steps` optimiser steps `θ_ref ← mix · θ + (1 - mix) · θ_ref`; from then on the
/// reference log-probabilities of a step's pairs are computed when the step is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReferenceUpdate {
    /// Optimiser steps between two updates (τ of the paper).
    pub every_steps: NonZeroU64,
    /// The policy's share (α of the paper); 1 replaces the reference.
    pub mix: Share,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_that_learn_stay_within_the_vocabulary() {
        let rows = |make: fn(NonZeroUsize) -> TrainableEmbeddings, at: usize| {
            make(NonZeroUsize::new(at).unwrap()).rows(8)
        };
        assert_eq!(rows(TrainableEmbeddings::From, 3), 3..8);
        assert_eq!(rows(TrainableEmbeddings::Below, 3), 0..3);
        assert_eq!(rows(TrainableEmbeddings::Below, 30), 0..8);
        assert!(rows(TrainableEmbeddings::From, 8).is_empty());
        assert!(rows(TrainableEmbeddings::From, 9).is_empty());
    }
}
