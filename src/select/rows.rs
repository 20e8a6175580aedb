//! The rows that are chosen from, of either kind.

use super::error::SelectError;
use crate::config::select::SelectTarget;
use crate::config::spec::PairLimits;
use crate::data::{ChatRow, Message, PairRow, TokenizedExample, TokenizedPair};
use serde_json::Value;
use std::borrow::Cow;

/// Rows with their tokens, in the same order.
#[derive(Clone, Copy, Debug)]
pub enum RowsRef<'a> {
    /// Conversations.
    Chat {
        /// As loaded.
        rows: &'a [ChatRow],
        /// Tokens of each row.
        tokens: &'a [TokenizedExample],
        /// Models see the first so many tokens of a conversation.
        max_seq_len: usize,
    },
    /// Preference pairs.
    Pairs {
        /// Those that the limits keep; see [`align_pairs`].
        rows: &'a [PairRow],
        /// Tokens of each row.
        tokens: &'a [TokenizedPair],
        /// The limits of the tokens.
        limits: &'a PairLimits,
    },
}

/// The rows that `tokens`, made by [`crate::data::TextFormat::encode_pairs`] of these rows, holds, in
/// its order, and the place of each among all.
pub fn align_pairs(rows: Vec<PairRow>, tokens: &[TokenizedPair]) -> (Vec<PairRow>, Vec<usize>) {
    // Rows of equal ids are repeats of one row, so that all of them are kept or none.
    let mut left = tokens.iter().peekable();
    let kept = rows.into_iter().enumerate().filter_map(|(place, row)| {
        left.next_if(|pair| pair.id == row.id)?;
        Some((row, place))
    });
    kept.unzip()
}

impl<'a> RowsRef<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Chat { rows, .. } => rows.len(),
            Self::Pairs { rows, .. } => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their kind.
    pub fn target(&self) -> SelectTarget {
        match self {
            Self::Chat { .. } => SelectTarget::Chat,
            Self::Pairs { .. } => SelectTarget::Pairs,
        }
    }

    /// Id of a row.
    pub fn id(&self, index: usize) -> &'a str {
        match self {
            Self::Chat { rows, .. } => &rows[index].id,
            Self::Pairs { rows, .. } => &rows[index].id,
        }
    }

    /// The keys of a row that its form does not name.
    pub(super) fn extra(&self, index: usize) -> &'a Value {
        match self {
            Self::Chat { rows, .. } => &rows[index].extra,
            Self::Pairs { rows, .. } => &rows[index].extra,
        }
    }

    /// Refuses tokens of other rows.
    pub(super) fn check(&self) -> Result<(), SelectError> {
        let ids: Vec<&str> = match self {
            Self::Chat { tokens, .. } => tokens.iter().map(|t| t.id.as_str()).collect(),
            Self::Pairs { tokens, .. } => tokens.iter().map(|t| t.id.as_str()).collect(),
        };
        for index in 0..self.len().max(ids.len()) {
            let row = if index < self.len() {
                self.id(index)
            } else {
                "missing"
            };
            let tokens = ids.get(index).copied().unwrap_or("missing");
            if row != tokens || index >= self.len() {
                return Err(SelectError::Tokens {
                    index: index + 1,
                    row: row.to_owned(),
                    tokens: tokens.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The conversation of every row as a document to score: of a pair the prompt with the preferred
    /// reply; and the length that documents are cut to.
    pub(super) fn documents(&self) -> (Cow<'a, [TokenizedExample]>, usize) {
        match self {
            Self::Chat {
                tokens,
                max_seq_len,
                ..
            } => (Cow::Borrowed(*tokens), *max_seq_len),
            Self::Pairs { tokens, .. } => {
                let documents = tokens.iter().map(|pair| TokenizedExample {
                    id: pair.id.clone(),
                    tokens: [pair.prompt.as_slice(), &pair.chosen].concat(),
                    loss_mask: [
                        vec![false; pair.prompt.len()],
                        vec![true; pair.chosen.len()],
                    ]
                    .concat(),
                    source: String::new(),
                });
                (Cow::Owned(documents.collect()), usize::MAX)
            }
        }
    }

    /// The messages of a row; of a pair with the preferred reply.
    pub(super) fn conversation(&self, index: usize) -> Vec<Message> {
        match self {
            Self::Chat { rows, .. } => rows[index].messages.clone(),
            Self::Pairs { rows, .. } => {
                [rows[index].prompt.as_slice(), &rows[index].chosen].concat()
            }
        }
    }

    /// The row as a conversation that another model's format can encode.
    pub(super) fn as_chat(&self, index: usize) -> ChatRow {
        let origin = match self {
            Self::Chat { rows, .. } => rows[index].origin.clone(),
            Self::Pairs { rows, .. } => rows[index].origin.clone(),
        };
        ChatRow {
            id: self.id(index).to_owned(),
            messages: self.conversation(index),
            extra: Value::Null,
            origin,
        }
    }
}
