//! Models beside the pipeline's, opened from their folders.

use super::context::SelectContext;
use super::error::SelectError;
use crate::arch::DecoderConfig;
use crate::config::select::{ModelSource, SelectRecipe};
use crate::config::spec::Precision;
use crate::model::{Decoder, FrozenParams, ModelError};
use candle_core::{DType, Tensor};
use std::path::PathBuf;

/// Number format of a method's own models.
pub(super) fn dtype(recipe: &SelectRecipe) -> DType {
    match recipe.precision {
        Some(Precision::Bf16) => DType::BF16,
        Some(Precision::F32) | None => DType::F32,
    }
}

pub(super) fn folder(source: &ModelSource, context: &SelectContext<'_>) -> PathBuf {
    context.root.join(&source.model_path)
}

pub(super) fn open(
    source: &ModelSource,
    recipe: &SelectRecipe,
    context: &SelectContext<'_>,
) -> Result<Decoder, SelectError> {
    let dir = folder(source, context);
    let config = DecoderConfig::from_file(&dir).map_err(ModelError::from)?;
    let params = FrozenParams::load(&dir, &config, context.device, dtype(recipe))?;
    Ok(Decoder::frozen(&config, &params)?)
}

/// Sequences packed for one pass.
pub(super) struct Pass {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    pub(super) cu_seqlens: Vec<u32>,
}

impl Pass {
    /// Hidden states `(T, D)` of all positions.
    pub(super) fn hidden(&self, model: &Decoder) -> Result<Tensor, SelectError> {
        Ok(model.hidden(&self.tokens, &self.positions, &self.cu_seqlens)?)
    }

    /// The last position of each sequence, `(S,)`.
    pub(super) fn last(&self) -> Vec<u32> {
        self.cu_seqlens[1..].iter().map(|end| end - 1).collect()
    }

    /// The sequence of each position, `(T,)`.
    pub(super) fn owners(&self) -> Vec<u32> {
        let spans = self.cu_seqlens.windows(2).enumerate();
        spans
            .flat_map(|(s, span)| (span[0]..span[1]).map(move |_| s as u32))
            .collect()
    }

    /// Positions of each sequence, `(S,)`.
    pub(super) fn lengths(&self) -> Vec<u32> {
        self.cu_seqlens.windows(2).map(|s| s[1] - s[0]).collect()
    }
}

/// Packs sequences, none of them empty, in order into passes of at most `max_positions` (or one
/// sequence).
pub(super) fn passes(sequences: &[Vec<u32>], max_positions: usize) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    for sequence in sequences {
        let fits = |pass: &Pass| pass.tokens.len() + sequence.len() <= max_positions;
        if !passes.last().is_some_and(fits) {
            passes.push(Pass {
                tokens: Vec::new(),
                positions: Vec::new(),
                cu_seqlens: vec![0],
            });
        }
        let Some(pass) = passes.last_mut() else {
            continue;
        };
        pass.tokens.extend_from_slice(sequence);
        pass.positions.extend(0..sequence.len() as u32);
        pass.cu_seqlens.push(pass.tokens.len() as u32);
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_fill_passes_in_order() {
        let sequences = [vec![1, 2], vec![3], vec![4, 5, 6, 7], vec![8]];
        let passes = passes(&sequences, 3);
        let tokens: Vec<&[u32]> = passes.iter().map(|pass| &*pass.tokens).collect();
        assert_eq!(tokens, [&[1, 2, 3][..], &[4, 5, 6, 7], &[8]]);
        assert_eq!(passes[0].positions, [0, 1, 0]);
        assert_eq!(passes[0].cu_seqlens, [0, 2, 3]);
        assert_eq!(passes[0].last(), [1, 2]);
        assert_eq!(passes[0].owners(), [0, 0, 1]);
        assert_eq!(passes[0].lengths(), [2, 1]);
    }
}
