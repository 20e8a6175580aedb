//! Scores of choices by their likelihood: `acc`, `acc_norm`, `acc_bytes` and `mc2`.

use super::scorer::{Answer, RowScore, RowScorer};
use crate::eval::task::document::{Document, Target};
use crate::metrics::families::{CHOSEN, ChosenAmong, SPREAD, SpreadOver};
use crate::metrics::values;

/// Whether the likeliest choice is right: the metric of this key.
pub(super) struct Chosen(pub(super) &'static str);

impl RowScorer for Chosen {
    fn score(&self, document: &Document, answer: &Answer) -> Result<RowScore, String> {
        let Target::Choice(right) = document.target else {
            return Err("`target` is not the number of a choice".to_owned());
        };
        let row = ChosenAmong {
            logps: answer.logps()?,
            texts: document.choices.clone(),
            right,
        };
        let own = values(CHOSEN, &row).filter(|(key, _)| *key == self.0);
        Ok(RowScore {
            values: own.collect(),
            ..RowScore::default()
        })
    }
}

/// The share of probability on right choices.
pub(super) struct Spread;

impl RowScorer for Spread {
    fn score(&self, document: &Document, answer: &Answer) -> Result<RowScore, String> {
        let Target::Choices(right) = &document.target else {
            return Err("`target` is not a list of truth values".to_owned());
        };
        let row = SpreadOver {
            logps: answer.logps()?,
            right: right.clone(),
        };
        Ok(RowScore {
            values: values(SPREAD, &row).collect(),
            ..RowScore::default()
        })
    }
}
