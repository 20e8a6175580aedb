//! Judges of sampled replies: scores that make preference pairs of a policy's own samples.
//!
//! A judge scores every reply of an item; scores compare within an item only. [`best_and_worst`]
//! makes a pair of them. There are five, by [`JudgeRecipe`]: verifiable rules ([`RuleJudge`]), a local
//! reward model ([`RewardJudge`]), a local PairRM ([`PairrmJudgment`]), a local language model
//! ([`LocalModelJudgment`]) and a model behind an endpoint ([`OpenaiJudgment`]); [`open_judge`] opens the one that a recipe names. An
//! [`Asker`] puts questions of any kind to an endpoint.

mod answers;
mod asker;
mod candidates;
mod chat;
mod endpoint;
mod error;
mod local;
mod open;
mod openai;
#[cfg(test)]
mod openai_tests;
mod pairrm;
#[cfg(test)]
mod pairrm_tests;
mod places;
mod post;
mod reward;
mod rules;
mod story;
mod traits;
mod verdict;

pub use asker::{Asker, Question};
pub use candidates::{Candidates, Reply, best_and_worst, replies_differ};
pub use chat::{ChatReply, ChatSampling, chat_reply, chat_request};
pub use error::JudgeError;
pub use local::LocalModelJudgment;
pub use open::{JudgePlace, open_judge};
pub use openai::OpenaiJudgment;
pub use pairrm::{PairRm, PairrmJudgment};
pub use post::{check_address, post_json};
pub use reward::RewardJudge;
pub use rules::RuleJudge;
pub use story::{StoryConstraints, judge_story};
pub use traits::Judge;
