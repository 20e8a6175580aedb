//! Preference pairs as token lists within length limits.

use super::error::DataError;
use crate::base::digest_bytes;
use crate::config::spec::{PairLimits, Truncation};
use serde::{Deserialize, Serialize};

/// A preference pair ready for the model: the two sequences are prompt + chosen and prompt +
/// rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedPair {
    /// The row's id.
    pub id: String,
    /// Digest of the three token lists: the key of this pair's reference log-probabilities.
    pub key: String,
    /// Tokens up to where the reply begins.
    pub prompt: Vec<u32>,
    /// The preferred reply with its end token, unless that was cut.
    pub chosen: Vec<u32>,
    /// The other reply.
    pub rejected: Vec<u32>,
    /// What the limits took away.
    pub cut: PairCut,
}

impl TokenizedPair {
    /// Positions that a pass over the pair computes: the prompt is shared.
    pub fn positions(&self) -> usize {
        self.prompt.len() + self.chosen.len() + self.rejected.len()
    }

    /// Tokens of both sequences.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.positions()
    }
}

/// Tokens that the length limits took from a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCut {
    /// From the prompt.
    pub prompt: usize,
    /// From the end of the preferred reply, its end token first.
    pub chosen: usize,
    /// From the end of the other reply.
    pub rejected: usize,
}

/// A pair within the limits, or why it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairEncoding {
    /// To be used.
    Kept(TokenizedPair),
    /// Left out.
    Dropped(DropReason),
}

/// Why a pair is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// Longer than the limit, and `truncation` is `drop`.
    TooLong,
    /// The replies differ only behind the cut, so that the pair says nothing.
    EqualAfterTruncation,
}

/// What became of a list of pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairReport {
    /// Pairs to be used.
    pub kept: usize,
    /// Pairs left out for their length.
    pub dropped_too_long: usize,
    /// Pairs left out because the cut made their replies equal.
    pub dropped_equal: usize,
    /// Kept pairs whose prompt was cut.
    pub prompts_cut: usize,
    /// Replies of kept pairs (two a pair) that were cut and so lost their end token.
    pub replies_cut: usize,
    /// Tokens of kept pairs, both sequences.
    pub tokens: usize,
    /// Tokens that the cuts took; a prompt's are counted once.
    pub tokens_cut: usize,
}

impl PairReport {
    /// Counts one pair.
    pub(super) fn count(&mut self, encoding: &PairEncoding) {
        match encoding {
            PairEncoding::Dropped(DropReason::TooLong) => self.dropped_too_long += 1,
            PairEncoding::Dropped(DropReason::EqualAfterTruncation) => self.dropped_equal += 1,
            PairEncoding::Kept(pair) => {
                self.kept += 1;
                self.prompts_cut += usize::from(pair.cut.prompt > 0);
                self.replies_cut += usize::from(pair.cut.chosen > 0);
                self.replies_cut += usize::from(pair.cut.rejected > 0);
                self.tokens += pair.tokens();
                self.tokens_cut += pair.cut.prompt + pair.cut.chosen + pair.cut.rejected;
            }
        }
    }
}

/// Refuses limits that leave no room for a reply.
pub(super) fn check_limits(limits: &PairLimits) -> Result<(), DataError> {
    if limits.max_prompt_len == 0 || limits.max_prompt_len >= limits.max_seq_len {
        return Err(DataError::Limits(format!(
            "`max-prompt-len` is {}, expected from 1 to below `max-seq-len` {}",
            limits.max_prompt_len, limits.max_seq_len
        )));
    }
    Ok(())
}

/// Applies the limits to a pair.
///
/// The prompt stays whole unless prompt and longer reply exceed `max-seq-len`; then it is cut to
/// `max-prompt-len`. If that is not enough each reply is cut at its end. `bos` is kept by `keep-end`.
pub(super) fn limit_pair(
    id: &str,
    mut prompt: Vec<u32>,
    mut chosen: Vec<u32>,
    mut rejected: Vec<u32>,
    limits: &PairLimits,
    bos: Option<u32>,
) -> PairEncoding {
    let mut cut = PairCut::default();
    if prompt.len() + chosen.len().max(rejected.len()) > limits.max_seq_len {
        if limits.truncation == Truncation::Drop {
            return PairEncoding::Dropped(DropReason::TooLong);
        }
        cut.prompt = prompt.len().saturating_sub(limits.max_prompt_len);
        prompt = cut_prompt(prompt, limits, bos);
        let room = limits.max_seq_len - prompt.len();
        cut.chosen = chosen.len().saturating_sub(room);
        cut.rejected = rejected.len().saturating_sub(room);
        chosen.truncate(room);
        rejected.truncate(room);
    }
    if chosen == rejected {
        return PairEncoding::Dropped(DropReason::EqualAfterTruncation);
    }
    PairEncoding::Kept(TokenizedPair {
        id: id.to_owned(),
        key: pair_key(&prompt, &chosen, &rejected),
        prompt,
        chosen,
        rejected,
        cut,
    })
}

fn cut_prompt(mut prompt: Vec<u32>, limits: &PairLimits, bos: Option<u32>) -> Vec<u32> {
    let limit = limits.max_prompt_len;
    if prompt.len() <= limit {
        return prompt;
    }
    if limits.truncation == Truncation::KeepStart {
        prompt.truncate(limit);
        return prompt;
    }
    let first = prompt.first().copied().filter(|t| Some(*t) == bos);
    let mut tail = prompt.split_off(prompt.len() - limit);
    if let (Some(bos), Some(slot)) = (first, tail.first_mut()) {
        *slot = bos;
    }
    tail
}

/// Digest of the three lists, each led by its length so that no two pairs share their bytes.
fn pair_key(prompt: &[u32], chosen: &[u32], rejected: &[u32]) -> String {
    let mut bytes = Vec::new();
    for ids in [prompt, chosen, rejected] {
        bytes.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    digest_bytes(&bytes).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_seq_len: usize, max_prompt_len: usize, truncation: Truncation) -> PairLimits {
        PairLimits {
            max_seq_len,
            max_prompt_len,
            truncation,
        }
    }

    fn encode(limits: PairLimits) -> PairEncoding {
        // Prompt of 6 with BOS 1, replies of 4 and 3.
        let prompt = vec![1, 10, 11, 12, 13, 14];
        limit_pair(
            "x",
            prompt,
            vec![20, 21, 22, 2],
            vec![20, 21, 2],
            &limits,
            Some(1),
        )
    }

    fn kept(limits: PairLimits) -> TokenizedPair {
        match encode(limits) {
            PairEncoding::Kept(pair) => pair,
            PairEncoding::Dropped(reason) => panic!("dropped: {reason:?}"),
        }
    }

    // 6 + max(4, 3) = 10 fits exactly, although the prompt is longer than its own limit.
    #[test]
    fn a_prompt_stays_whole_while_the_pair_fits() {
        let pair = kept(limits(10, 3, Truncation::KeepEnd));
        assert_eq!(pair.prompt.len(), 6);
        assert_eq!(pair.cut, PairCut::default());
        assert_eq!(pair.tokens(), 19);
        assert_eq!(pair.positions(), 13);
    }

    #[test]
    fn a_prompt_that_is_too_long_keeps_its_end_and_its_first_token() {
        let pair = kept(limits(9, 3, Truncation::KeepEnd));
        assert_eq!(pair.prompt, [1, 13, 14]);
        assert_eq!(pair.chosen, [20, 21, 22, 2]);
        assert_eq!(pair.cut.prompt, 3);
        let pair = kept(limits(9, 3, Truncation::KeepStart));
        assert_eq!(pair.prompt, [1, 10, 11]);
    }

    #[test]
    fn replies_are_cut_last_and_lose_their_end_token() {
        let pair = kept(limits(6, 3, Truncation::KeepEnd));
        assert_eq!(pair.chosen, [20, 21, 22]);
        assert_eq!(pair.rejected, [20, 21, 2]);
        let cut = PairCut {
            prompt: 3,
            chosen: 1,
            rejected: 0,
        };
        assert_eq!(pair.cut, cut);
    }

    #[test]
    fn pairs_are_dropped_for_length_and_for_equal_rests() {
        let drop = limits(9, 3, Truncation::Drop);
        assert_eq!(encode(drop), PairEncoding::Dropped(DropReason::TooLong));
        let equal = limits(5, 3, Truncation::KeepEnd);
        assert_eq!(
            encode(equal),
            PairEncoding::Dropped(DropReason::EqualAfterTruncation)
        );
    }

    #[test]
    fn the_key_tells_where_one_list_ends() {
        assert_ne!(pair_key(&[1], &[2, 3], &[4]), pair_key(&[1, 2], &[3], &[4]));
        assert_eq!(pair_key(&[1], &[2], &[3]), pair_key(&[1], &[2], &[3]));
    }

    #[test]
    fn limits_without_room_are_refused() {
        assert!(check_limits(&limits(8, 8, Truncation::KeepEnd)).is_err());
        assert!(check_limits(&limits(8, 7, Truncation::KeepEnd)).is_ok());
    }
}
