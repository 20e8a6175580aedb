//! What a scorer is.

use crate::eval::task::document::Document;
use std::collections::BTreeMap;

/// How likely a continuation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// Log-probability of its tokens, nats.
    pub logp: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Whether a greedy reply would be this one.
    pub greedy: bool,
}

/// What a model answers to a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// How likely each choice is.
    Choices(Vec<Likelihood>),
    /// A text, and whether it ended by itself.
    Text {
        /// The text, cut where the task says.
        text: String,
        /// Tokens drawn.
        tokens: usize,
        /// Whether it ended before the budget.
        finished: bool,
    },
}

impl Answer {
    /// Log-likelihoods of the choices.
    ///
    /// # Errors
    /// It is a text.
    pub(super) fn logps(&self) -> Result<Vec<f64>, String> {
        match self {
            Self::Choices(all) => Ok(all.iter().map(|one| one.logp).collect()),
            Self::Text { .. } => Err("it scores choices, and the task asks for a text".to_owned()),
        }
    }

    /// The text.
    ///
    /// # Errors
    /// It is a choice.
    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text { text, .. } => Ok(text),
            Self::Choices(_) => Err("it scores a text, and the task asks for choices".to_owned()),
        }
    }
}

/// The scores of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowScore {
    /// Values by key, without the task's name and the scorer's.
    pub values: BTreeMap<&'static str, f64>,
    /// Values of what is measured within a row and counts by itself, such as its instructions.
    pub items: Vec<BTreeMap<&'static str, f64>>,
    /// The part of the answer that was scored, where it is not the whole.
    pub extracted: Option<String>,
}

/// A way to score answers.
pub trait RowScorer: Send + Sync {
    /// Stands in metric keys before the scorer's own.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Whether a row is what it scores, before anything is asked.
    ///
    /// # Errors
    /// The row is not of its kind; the text says why.
    fn look(&self, _: &Document) -> Result<(), String> {
        Ok(())
    }

    /// Scores the answer to a row.
    ///
    /// # Errors
    /// The row or the answer is not of its kind; the text says why.
    fn score(&self, document: &Document, answer: &Answer) -> Result<RowScore, String>;
}
