//! Rows on the CPU.

use crate::generate::error::GenerateError;
use crate::generate::generator::{Generator, Room, Rows};
use crate::model::{CachedPrompt, Decoder, KvCache};
use candle_core::{DType, Tensor};

/// Most rows of a decoding pass: enough that a weight, once read, serves many tokens (decoding is bound
/// by reading weights), few enough that the cache of long samples stays small.
const LANES: usize = 32;

impl Generator for Decoder {
    fn max_positions(&self) -> usize {
        self.config().max_positions
    }

    // Pages are taken as rows grow: nothing has to be set aside.
    fn rows(&mut self, room: Room) -> Result<Box<dyn Rows + '_>, GenerateError> {
        Ok(Box::new(HostRows {
            cache: KvCache::new(self)?,
            decoder: self,
            most: room.rows.clamp(1, LANES),
            prompts: Vec::new(),
            logits: Vec::new(),
        }))
    }
}

struct HostRows<'a> {
    decoder: &'a Decoder,
    cache: KvCache,
    most: usize,
    /// The prompts that were read last.
    prompts: Vec<CachedPrompt>,
    /// What was given last, row after row.
    logits: Vec<f32>,
}

impl Rows for HostRows<'_> {
    fn most(&self) -> usize {
        self.most
    }

    // Each prompt runs alone, so that its bits do not depend on others, whatever computes.
    fn prefill(&mut self, prompts: &[&[u32]]) -> Result<&[f32], GenerateError> {
        self.prompts.clear();
        self.logits.clear();
        for prompt in prompts {
            let (cached, logits) = self.decoder.prefill_one(prompt, &self.cache)?;
            self.prompts.push(cached);
            self.logits.append(&mut in_f32(&logits)?);
        }
        Ok(&self.logits)
    }

    fn start(&mut self, prompts: &[usize]) -> Result<(), GenerateError> {
        let (wanted, most) = (self.cache.rows() + prompts.len(), self.most);
        if wanted > most {
            return Err(misused(format!(
                "{wanted} rows where there is room for {most}"
            )));
        }
        for &prompt in prompts {
            let read = self.prompts.get(prompt);
            let unread = || {
                misused(format!(
                    "prompt {prompt} of {} that were read",
                    self.prompts.len()
                ))
            };
            self.cache.push(read.ok_or_else(unread)?);
        }
        Ok(())
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<&[f32], GenerateError> {
        let (asked, live) = (tokens.len(), self.cache.rows());
        if asked != live {
            return Err(misused(format!("{asked} tokens for {live} rows")));
        }
        self.logits = in_f32(&self.decoder.decode_step(tokens, &mut self.cache)?)?;
        Ok(&self.logits)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<(), GenerateError> {
        Ok(self.cache.select(rows)?)
    }
}

fn misused(what: String) -> GenerateError {
    candle_core::Error::msg(format!("rows: {what}")).into()
}

/// Logits (B, V), row after row.
fn in_f32(logits: &Tensor) -> candle_core::Result<Vec<f32>> {
    logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use crate::model::FrozenParams;
    use candle_core::Device;
    use std::path::Path;

    #[test]
    fn the_bits_of_a_row_depend_neither_on_its_place_nor_on_the_rows_beside_it() {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = FrozenParams::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
        let decoder = Decoder::frozen(&config, &params).unwrap();
        let row = |place: usize, other: u32| {
            let mut cache = KvCache::new(&decoder).unwrap();
            decoder.prefill(&[&[1, 403, 407]], &mut cache).unwrap();
            decoder.prefill(&[&[1, other]], &mut cache).unwrap();
            let mut rows = vec![1; LANES];
            rows[place] = 0;
            cache.select(&rows).unwrap();
            let mut logits = Vec::new();
            for token in 400..410 {
                let mut tokens = vec![other; LANES];
                tokens[place] = token;
                logits = in_f32(&decoder.decode_step(&tokens, &mut cache).unwrap()).unwrap();
            }
            let row = logits.chunks_exact(config.vocab_size).nth(place).unwrap();
            row.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
        };
        let first = row(0, 300);
        for place in [1, 5, 14, 15, 16, 30, 31] {
            assert!(row(place, 310) == first, "at place {place}");
        }
    }

    #[test]
    fn rows_that_are_not_there_are_refused() {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = FrozenParams::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
        let mut decoder = Decoder::frozen(&config, &params).unwrap();
        let room = Room {
            rows: 2,
            prompt: 2,
            positions: 4,
        };
        let mut rows = decoder.rows(room).unwrap();
        assert_eq!(rows.most(), 2);
        assert_eq!(rows.prefill(&[&[1, 403]]).unwrap().len(), config.vocab_size);
        assert!(rows.start(&[1]).is_err(), "one prompt was read");
        assert!(rows.start(&[0, 0, 0]).is_err(), "there is room for two");
        rows.start(&[0]).unwrap();
        assert!(rows.decode(&[5, 6]).is_err(), "there is one row");
        assert_eq!(rows.decode(&[5]).unwrap().len(), config.vocab_size);
        assert!(rows.keep(&[1]).is_err());
        assert!(rows.prefill(&[&[]]).is_err());
    }
}
