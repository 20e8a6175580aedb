//! What is asked of a model about whole sequences, beside the likelihood of their tokens.
//!
//! Each call is one pass; [`in_passes`] cuts what is too much for one. Sequences do not see each other.

use crate::arch::DecoderConfig;
use crate::config::select::Pooling;
use crate::config::spec::Precision;
use crate::model::error::ModelError;
use std::path::Path;

/// A language model that reads S sequences, none of them empty.
pub trait SequenceReader {
    /// The hidden states after the final norm of each sequence as one vector, (S, D).
    ///
    /// # Errors
    /// A sequence is empty, a token lies outside the vocabulary, or the device refuses.
    fn embed(
        &mut self,
        sequences: &[Vec<u32>],
        pooling: Pooling,
    ) -> Result<Vec<Vec<f64>>, ModelError>;

    /// The logits of `tokens` behind the last token of each sequence, (S, `tokens`).
    ///
    /// # Errors
    /// As [`Self::embed`].
    fn next_logits(
        &mut self,
        sequences: &[Vec<u32>],
        tokens: &[u32],
    ) -> Result<Vec<Vec<f64>>, ModelError>;
}

/// A reward model: it gives each of S sequences, none of them empty, one number.
pub trait SequenceScorer {
    /// The scores, (S,).
    ///
    /// # Errors
    /// A sequence is empty, a token lies outside the vocabulary, or the device refuses.
    fn score(&mut self, sequences: &[Vec<u32>]) -> Result<Vec<f64>, ModelError>;
}

/// Opens models beside the pipeline's, where a device has been chosen.
pub trait ModelOpener {
    /// The language model of a folder.
    ///
    /// # Errors
    /// As [`crate::model::FrozenParams::load`].
    fn reader(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn SequenceReader>, ModelError>;

    /// The reward model of a folder.
    ///
    /// # Errors
    /// As [`crate::model::RewardModel::load`].
    fn scorer(
        &self,
        dir: &Path,
        config: &DecoderConfig,
        precision: Precision,
    ) -> Result<Box<dyn SequenceScorer>, ModelError>;
}

/// Cuts sequences in order into passes of at most `max_positions` positions, or one sequence.
pub fn in_passes(mut rest: &[Vec<u32>], max_positions: usize) -> impl Iterator<Item = &[Vec<u32>]> {
    std::iter::from_fn(move || {
        let mut filled = 0;
        let fits = rest.iter().take_while(|sequence| {
            filled += sequence.len();
            filled <= max_positions
        });
        let count = fits.count().clamp(rest.len().min(1), rest.len());
        let (pass, behind) = rest.split_at(count);
        rest = behind;
        (count > 0).then_some(pass)
    })
}

/// Scores sequences in order, in passes of at most `max_positions` positions.
///
/// # Errors
/// As [`SequenceScorer::score`].
pub fn score_sequences(
    model: &mut dyn SequenceScorer,
    sequences: &[Vec<u32>],
    max_positions: usize,
) -> Result<Vec<f64>, ModelError> {
    let mut scores = Vec::with_capacity(sequences.len());
    for pass in in_passes(sequences, max_positions) {
        scores.extend(model.score(pass)?);
    }
    Ok(scores)
}

/// Sequences one after the other, as a decoder takes them.
pub(super) struct Packed {
    /// (T,)
    pub(super) tokens: Vec<u32>,
    /// (T,)
    pub(super) positions: Vec<u32>,
    /// (S + 1,)
    pub(super) cu_seqlens: Vec<u32>,
}

impl Packed {
    /// Refuses an empty sequence.
    pub(super) fn new(sequences: &[Vec<u32>]) -> Result<Self, ModelError> {
        if let Some(empty) = sequences.iter().position(Vec::is_empty) {
            return Err(ModelError::EmptySequence {
                index: empty + 1,
                count: sequences.len(),
            });
        }
        let ends = sequences.iter().scan(0, |end, sequence| {
            *end += sequence.len() as u32;
            Some(*end)
        });
        Ok(Self {
            tokens: sequences.concat(),
            positions: sequences.iter().flat_map(|s| 0..s.len() as u32).collect(),
            cu_seqlens: std::iter::once(0).chain(ends).collect(),
        })
    }

    /// The last position of each sequence, (S,).
    pub(super) fn last(&self) -> Vec<u32> {
        self.cu_seqlens[1..].iter().map(|end| end - 1).collect()
    }

    /// That no sequence continues another, (S,).
    pub(super) fn itself(&self) -> Vec<u32> {
        (0..self.cu_seqlens.len() as u32 - 1).collect()
    }

    /// The sequence of each position, (T,).
    pub(super) fn owners(&self) -> Vec<u32> {
        let spans = self.cu_seqlens.windows(2).zip(0u32..);
        spans
            .flat_map(|(span, s)| (span[0]..span[1]).map(move |_| s))
            .collect()
    }

    /// Positions of each sequence, (S,).
    pub(super) fn lengths(&self) -> Vec<u32> {
        self.cu_seqlens.windows(2).map(|s| s[1] - s[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_fill_passes_in_order() {
        let sequences = [vec![1, 2], vec![3], vec![4, 5, 6, 7], vec![8]];
        let passes: Vec<Packed> = in_passes(&sequences, 3)
            .map(|pass| Packed::new(pass).unwrap())
            .collect();
        let tokens: Vec<&[u32]> = passes.iter().map(|pass| &*pass.tokens).collect();
        assert_eq!(tokens, [&[1, 2, 3][..], &[4, 5, 6, 7], &[8]]);
        assert_eq!(passes[0].positions, [0, 1, 0]);
        assert_eq!(passes[0].cu_seqlens, [0, 2, 3]);
        assert_eq!(passes[0].last(), [1, 2]);
        assert_eq!(passes[0].owners(), [0, 0, 1]);
        assert_eq!(passes[0].lengths(), [2, 1]);
        assert_eq!(in_passes(&[], 3).count(), 0);
    }
}
