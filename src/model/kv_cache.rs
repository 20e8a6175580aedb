//! Incremental decoding: keys and values of rows with lengths of their own.

use crate::model::decoder::Decoder;
use crate::model::ops::{AttentionShape, Segments, decode_attention};
use candle_core::{DType, Result, Tensor};

/// Keys and values of B rows, each of its own length, in `f32` on the host; no graph.
///
/// A row holds, for each layer and key/value head, `E` lines of keys and `E` of values along the
/// positions, so that the inner loops of attention run along positions whatever the head width.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: usize,
    /// `K * E` lines of one layer's keys, as many of its values.
    lines: usize,
    /// Positions for which every row has room.
    capacity: usize,
    lengths: Vec<usize>,
    rows: Vec<Vec<f32>>,
}

impl KvCache {
    /// An empty cache whose rows begin with room for `capacity` positions and grow by doubling.
    pub fn new(decoder: &Decoder, capacity: usize) -> Self {
        let config = decoder.config();
        Self {
            layers: config.layers(),
            lines: config.kv_heads * config.head_dim,
            capacity: capacity.max(16),
            lengths: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Positions that each row holds, `(B,)`.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Keeps the rows `keep`, in that order; a row may be named more than once (several samples of
    /// one prompt) or not at all (finished).
    ///
    /// # Errors
    /// A row does not exist.
    pub fn select(&mut self, keep: &[usize]) -> Result<()> {
        if let Some(row) = keep.iter().find(|&&row| row >= self.rows.len()) {
            candle_core::bail!("cache: row {row} of {}", self.rows.len());
        }
        let mut uses = vec![0usize; self.rows.len()];
        for &row in keep {
            uses[row] += 1;
        }
        self.lengths = keep.iter().map(|&row| self.lengths[row]).collect();
        let mut old = std::mem::take(&mut self.rows);
        for &row in keep {
            uses[row] -= 1;
            // The last use takes the memory, the others copy it.
            let taken = if uses[row] == 0 {
                std::mem::take(&mut old[row])
            } else {
                old[row].clone()
            };
            self.rows.push(taken);
        }
        Ok(())
    }

    fn row_len(&self) -> usize {
        self.layers * 2 * self.lines * self.capacity
    }

    fn reserve(&mut self, positions: usize) {
        if positions <= self.capacity {
            return;
        }
        let old = self.capacity;
        while self.capacity < positions {
            self.capacity *= 2;
        }
        let (new, len) = (self.capacity, self.row_len());
        for row in &mut self.rows {
            let mut grown = vec![0.0; len];
            for (to, from) in grown.chunks_exact_mut(new).zip(row.chunks_exact(old)) {
                to[..old].copy_from_slice(from);
            }
            *row = grown;
        }
    }

    /// Writes keys or values `(positions, K * E)` of one layer from position `at` of a row.
    fn put(&mut self, row: usize, layer: usize, part: usize, at: usize, values: &[f32]) {
        let start = (layer * 2 + part) * self.lines * self.capacity;
        let lines = &mut self.rows[row][start..start + self.lines * self.capacity];
        for (step, token) in values.chunks_exact(self.lines).enumerate() {
            for (line, &v) in lines.chunks_exact_mut(self.capacity).zip(token) {
                line[at + step] = v;
            }
        }
    }

    fn part(&self, row: usize, layer: usize, part: usize) -> &[f32] {
        let start = (layer * 2 + part) * self.lines * self.capacity;
        &self.rows[row][start..start + self.lines * self.capacity]
    }
}

/// A tensor's elements on the host in `f32`.
fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor
        .detach()
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1()
}

impl Decoder {
    /// Appends a row for each of `prompts` to the cache; logits `(B, V)` after their last tokens.
    ///
    /// # Errors
    /// A prompt is empty or holds a token outside the vocabulary.
    pub fn prefill(&self, prompts: &[&[u32]], cache: &mut KvCache) -> Result<Tensor> {
        if prompts.is_empty() || prompts.iter().any(|p| p.is_empty()) {
            candle_core::bail!("prefill: an empty prompt");
        }
        let tokens: Vec<u32> = prompts.concat();
        let positions: Vec<u32> = prompts.iter().flat_map(|p| 0..p.len() as u32).collect();
        let mut cu = vec![0u32];
        cu.extend(prompts.iter().scan(0, |at, p| {
            *at += p.len() as u32;
            Some(*at)
        }));
        let places = self.places(&tokens, &positions, &Segments::new(&cu))?;
        let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
        cache.reserve(longest + 1);
        let first = cache.rows();
        for prompt in prompts {
            cache.rows.push(vec![0.0; cache.row_len()]);
            cache.lengths.push(prompt.len());
        }
        let mut x = self.embed_tokens(&tokens)?.detach(); // (T, D)
        for (index, layer) in self.layers().iter().enumerate() {
            let (y, k, v) = layer.forward(self.config(), index, &x, &places)?;
            x = y.detach();
            for (part, values) in [host(&k)?, host(&v)?].iter().enumerate() {
                for (i, bounds) in cu.windows(2).enumerate() {
                    let span = bounds[0] as usize * cache.lines..bounds[1] as usize * cache.lines;
                    cache.put(first + i, index, part, 0, &values[span]);
                }
            }
        }
        let last: Vec<u32> = cu[1..].iter().map(|end| end - 1).collect();
        let last = Tensor::new(last, x.device())?;
        let x = self.final_norm(&x.index_select(&last, 0)?)?; // (B, D)
        Ok(self.logits(&x)?.detach())
    }

    /// Feeds one token to each row of the cache; logits `(B, V)` after it.
    ///
    /// # Errors
    /// Not one token a row, or a token outside the vocabulary.
    pub fn decode_step(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        let b = cache.rows();
        if tokens.len() != b {
            candle_core::bail!("decode: {} tokens for {b} rows", tokens.len());
        }
        let positions: Vec<u32> = cache.lengths.iter().map(|&l| l as u32).collect();
        let places = self.places(tokens, &positions, &Segments::default())?;
        cache.reserve(cache.lengths.iter().max().map_or(1, |l| l + 1));
        let mut x = self.embed_tokens(tokens)?.detach(); // (B, D)
        for (index, layer) in self.layers().iter().enumerate() {
            let (q, k, v) = layer.project(self.config(), &x, &places.rotation)?;
            let (queries, k, v) = (host(&q)?, host(&k)?, host(&v)?);
            for row in 0..b {
                let (at, span) = (
                    cache.lengths[row],
                    row * cache.lines..(row + 1) * cache.lines,
                );
                cache.put(row, index, 0, at, &k[span.clone()]);
                cache.put(row, index, 1, at, &v[span]);
            }
            let mixed = attend(cache, index, &self.config().attention(index), &queries);
            let mixed = Tensor::from_vec(mixed, q.shape(), q.device())?.to_dtype(q.dtype())?;
            x = layer.finish(self.config(), &x, &mixed)?.detach();
        }
        cache.lengths.iter_mut().for_each(|l| *l += 1);
        Ok(self.logits(&self.final_norm(&x)?)?.detach())
    }
}

/// Attention of one new token a row, already in the cache: `queries (B, H * E)` -> `(B, H * E)`.
fn attend(cache: &KvCache, layer: usize, shape: &AttentionShape, queries: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; queries.len()];
    let width = shape.heads * shape.head_dim;
    decode_attention(shape, queries, &mut out, width, |row| {
        let (keys, values) = (cache.part(row, layer, 0), cache.part(row, layer, 1));
        (keys, values, cache.capacity, cache.lengths[row] + 1)
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::DecoderConfig;
    use crate::model::ops::check::relative_error;
    use crate::model::params::FrozenParams;
    use candle_core::Device;
    use std::path::Path;

    fn shipped() -> Decoder {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir).unwrap();
        let params = FrozenParams::load(dir, &config, &Device::Cpu, DType::F32).unwrap();
        Decoder::frozen(&config, &params).unwrap()
    }

    fn full(decoder: &Decoder, tokens: &[u32]) -> Tensor {
        let positions: Vec<u32> = (0..tokens.len() as u32).collect();
        let hidden = decoder
            .hidden(tokens, &positions, &[0, tokens.len() as u32])
            .unwrap();
        decoder
            .logits(&hidden)
            .unwrap()
            .narrow(0, tokens.len() - 1, 1)
            .unwrap()
    }

    #[test]
    fn cached_decoding_of_rows_of_different_lengths_is_the_full_forward() -> Result<()> {
        let decoder = shipped();
        let mut rows: Vec<Vec<u32>> =
            vec![vec![1, 403, 407], vec![1], vec![1, 403, 407, 261, 378, 432]];
        let mut cache = KvCache::new(&decoder, 4);
        let prompts: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let mut logits = decoder.prefill(&prompts, &mut cache)?;
        for step in 0..40u32 {
            for (i, row) in rows.iter().enumerate() {
                let error = relative_error(&logits.narrow(0, i, 1)?, &full(&decoder, row))?;
                assert!(error < 1e-5, "step {step}, row {i}: {error:e}");
            }
            let next: Vec<u32> = (0..rows.len() as u32)
                .map(|i| 260 + (step * 7 + i * 3) % 200)
                .collect();
            logits = decoder.decode_step(&next, &mut cache)?;
            rows.iter_mut().zip(&next).for_each(|(row, &t)| row.push(t));
        }
        assert_eq!(cache.lengths(), [43, 41, 46]);
        Ok(())
    }

    #[test]
    fn rows_can_be_repeated_and_dropped_between_steps() -> Result<()> {
        let decoder = shipped();
        let mut cache = KvCache::new(&decoder, 8);
        decoder.prefill(&[&[1, 403], &[1, 407, 261]], &mut cache)?;
        cache.select(&[1, 0, 1])?;
        let logits = decoder.decode_step(&[300, 301, 302], &mut cache)?;
        for (i, row) in [
            [1, 407, 261, 300].as_slice(),
            &[1, 403, 301],
            &[1, 407, 261, 302],
        ]
        .iter()
        .enumerate()
        {
            assert!(relative_error(&logits.narrow(0, i, 1)?, &full(&decoder, row))? < 1e-5);
        }
        cache.select(&[2])?;
        let logits = decoder.decode_step(&[303], &mut cache)?;
        assert!(relative_error(&logits, &full(&decoder, &[1, 407, 261, 302, 303]))? < 1e-5);
        assert!(cache.select(&[1]).is_err());
        Ok(())
    }
}
