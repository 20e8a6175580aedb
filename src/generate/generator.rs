//! What sampling asks of a device: prompts, and one token after another behind them.
//!
//! Tokens are drawn where the logits are; logits come to the host where somebody wants to see them. They are given as the
//! engine's own buffer, so that nothing is allocated for a token.

use crate::config::spec::SamplingRecipe;
use crate::generate::draw::draw_token;
use crate::generate::error::GenerateError;

/// How much room samples take, so that a device can ask for it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Rows that are wanted at once.
    pub rows: usize,
    /// Tokens of the longest prompt.
    pub prompt: usize,
    /// Tokens that the longest row comes to, its prompt included.
    pub positions: usize,
}

/// A model that continues texts.
pub trait Generator {
    /// Positions that a row may hold.
    fn max_positions(&self) -> usize;

    /// A cache without rows, for the weights as they are now. It has memory for the room asked for, or,
    /// on a device that has less, for fewer rows and at least one.
    ///
    /// # Errors
    /// The device refuses the memory.
    fn rows(&mut self, room: Room) -> Result<Box<dyn Rows + '_>, GenerateError>;
}

/// Texts in flight, each with its keys and values: B rows.
///
/// A row's logits depend on its own tokens alone: not on the rows beside it, not on its place, not on
/// B, and not on what else is read with its prompt. On a CPU that holds to the bit.
pub trait Rows {
    /// Most rows at a time.
    fn most(&self) -> usize;

    /// Reads prompts, P of them and at most [`Self::most`], in one pass or several, and forgets those
    /// that were read before; logits (P, V) after their last tokens. Rows stay as they are.
    ///
    /// # Errors
    /// A prompt is empty or holds a token outside the vocabulary, or the device refuses.
    fn prefill(&mut self, prompts: &[&[u32]]) -> Result<&[f32], GenerateError>;

    /// Appends a row for each of these, numbers of prompts that were read last. Rows of one prompt may
    /// share what is cached of it.
    ///
    /// # Errors
    /// No such prompt was read, there would be more rows than [`Self::most`], or the device refuses.
    fn start(&mut self, prompts: &[usize]) -> Result<(), GenerateError>;

    /// Feeds one token to each row, (B,); logits (B, V) after it.
    ///
    /// # Errors
    /// Not one token a row, a token outside the vocabulary, or the device refuses.
    fn decode(&mut self, tokens: &[u32]) -> Result<&[f32], GenerateError>;

    /// Feeds one token to each row, (B,), and draws the next one of each, by its number of `uniforms`: the token that
    /// [`draw_token`] draws from the logits, up to the rounding of sums in f64. `None` for a row whose logits are not finite.
    ///
    /// # Errors
    /// As [`Rows::decode`].
    fn decode_drawn(
        &mut self,
        tokens: &[u32],
        recipe: &SamplingRecipe,
        uniforms: &[f64],
    ) -> Result<Vec<Option<u32>>, GenerateError> {
        let logits = self.decode(tokens)?;
        let width = (logits.len() / tokens.len().max(1)).max(1);
        let rows = logits.chunks_exact(width).zip(uniforms);
        Ok(rows
            .map(|(row, &uniform)| draw_token(row, recipe, uniform))
            .collect())
    }

    /// Keeps these rows, in rising order, and frees the room of the others.
    ///
    /// # Errors
    /// There is no such row, or the device refuses.
    fn keep(&mut self, rows: &[usize]) -> Result<(), GenerateError>;
}
