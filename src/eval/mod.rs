//! Scores a checkpoint.

mod rules;

pub use rules::{MAX_WORDS, MIN_WORDS, NGRAM, StoryConstraints, StoryVerdict, judge_story};
