//! From a recipe to the judge that it names.

use crate::config::spec::{JudgeRecipe, JudgeRuntime};
use crate::judge::error::JudgeError;
use crate::judge::local::LocalModelJudgment;
use crate::judge::openai::OpenaiJudgment;
use crate::judge::pairrm::PairrmJudgment;
use crate::judge::reward::RewardJudge;
use crate::judge::rules::RuleJudge;
use crate::judge::traits::Judge;
use crate::model::ModelOpener;
use candle_core::Device;
use std::path::Path;

/// What a judge is opened with.
#[derive(Clone, Copy)]
pub struct JudgePlace<'a> {
    /// The project's root, which model folders are relative to.
    pub root: &'a Path,
    /// Opens a reward model or a language model.
    pub opener: &'a dyn ModelOpener,
    /// Where PairRM is computed, whose encoder is candle's.
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
        JudgeRecipe::Rules => Box::new(RuleJudge::default()),
        JudgeRecipe::SomeRules(judge) => Box::new(RuleJudge::of(&judge.rules)),
        JudgeRecipe::RewardModel(judge) => {
            Box::new(RewardJudge::open(judge, place.root, place.opener)?)
        }
        JudgeRecipe::Pairrm(judge) => {
            Box::new(PairrmJudgment::open(judge, place.root, place.device)?)
        }
        JudgeRecipe::LocalModel(judge) => {
            Box::new(LocalModelJudgment::open(judge, place.root, place.opener)?)
        }
        JudgeRecipe::Openai(judge) => Box::new(OpenaiJudgment::open(
            judge,
            runtime,
            place.answers,
            place.key,
        )?),
    })
}
