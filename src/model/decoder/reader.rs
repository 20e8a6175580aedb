//! The decoder asked about whole sequences.

use crate::config::select::Pooling;
use crate::model::decoder::model::Decoder;
use crate::model::error::ModelError;
use crate::model::sequences::{Packed, SequenceReader};
use candle_core::{DType, Result, Tensor};

impl SequenceReader for Decoder {
    fn embed(
        &mut self,
        sequences: &[Vec<u32>],
        pooling: Pooling,
    ) -> std::result::Result<Vec<Vec<f64>>, ModelError> {
        let pass = Packed::new(sequences)?;
        let hidden = self.hidden(&pass.tokens, &pass.positions, &pass.cu_seqlens)?;
        let hidden = hidden.detach(); // (T, D)
        let pooled = match pooling {
            Pooling::Last => {
                hidden.index_select(&Tensor::new(pass.last(), hidden.device())?, 0)? // (S, D)
            }
            Pooling::Mean => mean_by_sequence(&hidden, &pass.owners(), &pass.lengths())?, // (S, D)
        };
        Ok(pooled.to_dtype(DType::F64)?.to_vec2()?)
    }

    fn next_logits(
        &mut self,
        sequences: &[Vec<u32>],
        tokens: &[u32],
    ) -> std::result::Result<Vec<Vec<f64>>, ModelError> {
        let pass = Packed::new(sequences)?;
        let hidden = self.hidden(&pass.tokens, &pass.positions, &pass.cu_seqlens)?; // (T, D)
        let last = Tensor::new(pass.last(), hidden.device())?; // (S,)
        let tokens = Tensor::new(tokens, hidden.device())?;
        let logits = self.logits(&hidden.index_select(&last, 0)?)?; // (S, V)
        let logits = logits.index_select(&tokens, 1)?; // (S, tokens)
        Ok(logits.to_dtype(DType::F64)?.to_vec2()?)
    }
}

/// `(S, D)` means of the `(T, D)` states of each sequence.
fn mean_by_sequence(hidden: &Tensor, owners: &[u32], lengths: &[u32]) -> Result<Tensor> {
    let hidden = hidden.to_dtype(DType::F32)?; // (T, D)
    let owners = Tensor::new(owners, hidden.device())?; // (T,)
    let zeros = Tensor::zeros((lengths.len(), hidden.dim(1)?), DType::F32, hidden.device())?;
    let sums = zeros.index_add(&owners, &hidden, 0)?; // (S, D)
    let lengths: Vec<f32> = lengths.iter().map(|n| *n as f32).collect();
    let lengths = Tensor::new(lengths, hidden.device())?.unsqueeze(1)?; // (S, 1)
    sums.broadcast_div(&lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::FrozenParams;

    #[test]
    fn pooling_means_each_sequence_alone() {
        let device = &candle_core::Device::Cpu;
        let hidden = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0], [5.0, 7.0]], device).unwrap();
        let means = mean_by_sequence(&hidden, &[0, 0, 1], &[2, 1]).unwrap();
        assert_eq!(
            means.to_vec2::<f32>().unwrap(),
            [vec![2.0, 3.0], vec![5.0, 7.0]]
        );
    }

    #[test]
    fn sequences_are_read_at_their_ends_whatever_they_are_read_with() {
        let dir = std::path::Path::new("models/stories260k");
        let config = crate::arch::DecoderConfig::from_file(dir).unwrap();
        let device = candle_core::Device::Cpu;
        let params = FrozenParams::load(dir, &config, &device, DType::F32).unwrap();
        let mut decoder = Decoder::frozen(&config, &params).unwrap();
        let sequences = [vec![1, 403, 407], vec![1], vec![1, 261, 378, 432]];
        let together = decoder.next_logits(&sequences, &[5, 300, 511]).unwrap();
        let embedded = decoder.embed(&sequences, Pooling::Last).unwrap();
        for ((sequence, logits), embedding) in sequences.iter().zip(together).zip(embedded) {
            let n = sequence.len() as u32;
            let positions: Vec<u32> = (0..n).collect();
            let hidden = decoder.hidden(sequence, &positions, &[0, n]).unwrap();
            let last = hidden.narrow(0, sequence.len() - 1, 1).unwrap();
            let wide = |t: Tensor| t.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
            let all = wide(decoder.logits(&last).unwrap()).remove(0);
            assert_eq!(logits, [all[5], all[300], all[511]]);
            assert_eq!(embedding, wide(last).remove(0));
        }
        let empty = decoder.embed(&[vec![1], vec![]], Pooling::Mean);
        let message = "sequence 2 of 2 is empty";
        assert_eq!(empty.unwrap_err().to_string(), message);
    }
}
