//! The metrics, one file for each kind of item that is measured. A file holds what is known of such an
//! item, and its metrics with their formulas: whoever measures fills in the item, and every metric of
//! the file is computed, stored, checked for in sweep files, tabulated and listed.

mod benchmarks;
mod documents;
mod judged;
mod pairs;
mod sampled;
mod steps;
mod stories;
mod tasks;
mod training;

pub use benchmarks::{EQUALLY_LONG, FOUGHT, Fought, PREFERRED, Preferred, RATED, Rated};
pub use documents::{DOCUMENT, ReplyTotals};
pub use judged::JUDGED;
pub use pairs::{EVALUATED_REWARDS, HELD_OUT_PAIR, PAIR, PairMeasures, ReplyMeasures};
pub use sampled::{Completed, SAMPLED};
pub use steps::{HELD_OUT_LOSS, SFT_STEP, STEP, StepMeasures, TargetHits};
pub use stories::{STORY, StoryVerdict};
pub use tasks::{
    CHOSEN, ChosenAmong, FOLLOWED, FOUND, Followed, INSTRUCTION, MATCHED, SPREAD, SpreadOver,
};
pub use training::{TRAINING, TrainingCost};
