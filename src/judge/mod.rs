//! Judges of sampled replies: scores that make preference pairs of a policy's own samples.
//!
//! A judge scores every reply of an item; scores compare within an item only. [`best_and_worst`]
//! makes a pair of them. There are four, by [`JudgeRecipe`]: verifiable rules ([`RuleJudge`]), a local
//! reward model ([`RewardJudge`]), a local PairRM ([`PairrmJudgment`]) and a model behind an endpoint
//! ([`OpenaiJudgment`]); [`open_judge`] opens the one that a recipe names.

mod answers;
mod candidates;
mod endpoint;
mod error;
mod openai;
mod pairrm;
mod reward;
mod rules;
mod verdict;

pub use candidates::{Candidates, Reply, best_and_worst, replies_differ};
pub use error::JudgeError;
pub use openai::OpenaiJudgment;
pub use pairrm::{PairRm, PairrmJudgment};
pub use reward::RewardJudge;
pub use rules::{MAX_WORDS, MIN_WORDS, NGRAM, RuleJudge, StoryConstraints, judge_story};
pub use verdict::{PAIRWISE_TEMPLATE, SCORE_TEMPLATE};

use crate::config::spec::{JudgeRecipe, JudgeRuntime};
use candle_core::Device;
use std::path::Path;

/// Scores replies.
pub trait Judge {
    /// A score for each reply of each item, in their order; higher is better. Scores are finite and
    /// comparable within an item only.
    ///
    /// `progress` is told how many items are done, also while none gets done; `false` asks to stop.
    ///
    /// # Errors
    /// An item cannot be judged, or `progress` asked to stop.
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError>;
}

/// What a judge is opened with.
#[derive(Clone, Copy)]
pub struct JudgePlace<'a> {
    /// The project's root, which model folders are relative to.
    pub root: &'a Path,
    /// Where local models are computed.
    pub device: &'a Device,
    /// The file of raw answers of an endpoint; questions answered there are not asked again.
    pub answers: &'a Path,
    /// The endpoint's key.
    pub key: Option<&'a str>,
}

/// Opens the judge of `recipe`.
///
/// # Errors
/// A model folder or the file of answers cannot be used.
pub fn open_judge(
    recipe: &JudgeRecipe,
    runtime: &JudgeRuntime,
    place: JudgePlace<'_>,
) -> Result<Box<dyn Judge>, JudgeError> {
    Ok(match recipe {
        JudgeRecipe::Rules => Box::new(RuleJudge),
        JudgeRecipe::RewardModel(judge) => {
            Box::new(RewardJudge::open(judge, place.root, place.device)?)
        }
        JudgeRecipe::Pairrm(judge) => {
            Box::new(PairrmJudgment::open(judge, place.root, place.device)?)
        }
        JudgeRecipe::Openai(judge) => Box::new(OpenaiJudgment::open(
            judge,
            runtime,
            place.answers,
            place.key,
        )?),
    })
}

#[cfg(test)]
mod openai_tests;
#[cfg(test)]
mod pairrm_tests;
