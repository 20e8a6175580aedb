//! Logits along a text that is given.

use crate::generate::error::GenerateError;
use crate::gpu::Stored;
use crate::gpu::decoder::Batch;
use crate::model::{Decoder, DeviceModel, Segments};
use candle_core::{DType, Tensor};
use std::ops::Range;

/// A model that is asked what it holds likely along a text.
pub trait LogitReader {
    /// Logits after the positions `rows` of `tokens`, row after row, (R, V), as tokens are drawn from them.
    ///
    /// # Errors
    /// A token lies outside the vocabulary, a row outside the text, or the device refuses.
    fn logits_at(&mut self, tokens: &[u32], rows: Range<usize>) -> Result<Vec<f32>, GenerateError>;
}

impl LogitReader for Decoder {
    fn logits_at(&mut self, tokens: &[u32], rows: Range<usize>) -> Result<Vec<f32>, GenerateError> {
        let len = tokens.len() as u32;
        let positions: Vec<u32> = (0..len).collect();
        let segments = Segments::new(&[0, len]);
        let hidden: Tensor = self.hidden_in(tokens, &positions, &segments)?; // (T, D)
        let hidden = hidden.narrow(0, rows.start, rows.len())?; // (R, D)
        let logits = self.logits(&hidden.contiguous()?)?; // (R, V)
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

impl<T: Stored> LogitReader for DeviceModel<T> {
    fn logits_at(&mut self, tokens: &[u32], rows: Range<usize>) -> Result<Vec<f32>, GenerateError> {
        let len = tokens.len() as u32;
        let positions: Vec<u32> = (0..len).collect();
        let wanted: Vec<u32> = rows.map(|row| row as u32).collect();
        let batch = Batch {
            tokens,
            positions: &positions,
            bounds: &[0, len],
            trunks: &[0],
            target_rows: &wanted,
            // Of logits nothing is asked; a token is a target as good as any.
            targets: &vec![0; wanted.len()],
        };
        Ok(self.passes.logits(&mut *self.gpu, &self.parts, &batch)?)
    }
}
