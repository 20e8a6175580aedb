//! Reference log-probabilities: computed once, found again by the key of a pair.

use crate::base::{PathError, write_atomic};
use crate::data::TokenizedPair;
use crate::train::error::TrainError;
use crate::train::score::PairScore;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Summed log-probabilities of both replies under the reference, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferencePair {
    /// Of the preferred reply.
    pub chosen: f64,
    /// Of the other.
    pub rejected: f64,
}

/// One line of the artifact.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    chosen: f64,
    rejected: f64,
}

/// Reference log-probabilities by pair key.
#[derive(Clone, Debug, Default)]
pub struct ReferenceLogps(BTreeMap<String, ReferencePair>);

impl ReferenceLogps {
    /// Reads the artifact of a `ref-logps` run: one JSON object a line.
    ///
    /// # Errors
    /// The file is missing or a line is not of that form.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = std::fs::read(path).map_err(|e| PathError::new("read", path, e))?;
        let mut pairs = BTreeMap::new();
        for line in serde_json::Deserializer::from_slice(&bytes).into_iter::<Line>() {
            let line = line.map_err(|e| TrainError::State {
                path: path.to_owned(),
                why: e.to_string(),
            })?;
            let pair = ReferencePair {
                chosen: line.chosen,
                rejected: line.rejected,
            };
            pairs.insert(line.key, pair);
        }
        Ok(Self(pairs))
    }

    /// From keys and scores.
    pub fn from_scores<'a>(scored: impl IntoIterator<Item = (&'a str, &'a PairScore)>) -> Self {
        let pair = |score: &PairScore| ReferencePair {
            chosen: score.chosen.logp,
            rejected: score.rejected.logp,
        };
        let scored = scored.into_iter();
        Self(
            scored
                .map(|(key, score)| (key.to_owned(), pair(score)))
                .collect(),
        )
    }

    /// What is stored for a pair.
    ///
    /// # Errors
    /// [`TrainError::NoReference`], which names the pair.
    pub fn of(&self, pair: &TokenizedPair) -> Result<ReferencePair, TrainError> {
        let found = self.0.get(&pair.key).copied();
        found.ok_or_else(|| TrainError::NoReference {
            id: pair.id.clone(),
            key: pair.key.clone(),
        })
    }
}

/// Writes the artifact: one line a pair, in the given order. Numbers are written so that reading
/// gives the same bits.
pub fn write_reference_logps<'a>(
    path: &Path,
    scored: impl IntoIterator<Item = (&'a str, &'a PairScore)>,
) -> Result<(), TrainError> {
    let mut text = String::new();
    for (key, score) in scored {
        let line = serde_json::to_string(&Line {
            key: key.to_owned(),
            chosen: score.chosen.logp,
            rejected: score.rejected.logp,
        });
        text.push_str(&line.map_err(|e| TrainError::State {
            path: path.to_owned(),
            why: e.to_string(),
        })?);
        text.push('\n');
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::score::ReplyScore;

    #[test]
    fn written_numbers_come_back_with_the_same_bits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ref_logps.jsonl");
        let reply = |logp| ReplyScore {
            logp,
            tokens: 3,
            likeliest: 0,
        };
        let score = PairScore {
            chosen: reply(-0.1 - 0.2),
            rejected: reply(-123.456_789_012_345_67),
        };
        write_reference_logps(&path, [("k", &score)]).unwrap();
        let found = ReferenceLogps::read(&path).unwrap().0["k"];
        assert_eq!(found.chosen.to_bits(), score.chosen.logp.to_bits());
        assert_eq!(found.rejected.to_bits(), score.rejected.logp.to_bits());
    }
}
