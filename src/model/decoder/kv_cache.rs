//! Incremental decoding: keys and values of rows with lengths of their own.

use crate::arch::AttentionShape;
use crate::model::decoder::decode::DecodeWeights;
use crate::model::decoder::model::Decoder;
use crate::model::kernels::decode_attention::{Scratch, decode_attention};
use crate::model::kernels::kv_page::{CachedRow, PageShape};
use crate::model::kernels::segments::Segments;
use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Keys and values of B rows, each of its own length, in `f32` on the host; no graph.
///
/// A row is a list of pages; rows that come from one another share the pages they have in common.
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: PageShape,
    rows: Vec<CachedRow>,
    /// The decoder's weights as a step on the host reads them.
    weights: Option<Arc<DecodeWeights>>,
}

/// A row on its own, to start others from.
#[derive(Clone, Debug)]
pub struct CachedPrompt(CachedRow);

impl KvCache {
    /// An empty cache for the decoder as its weights are now.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn new(decoder: &Decoder) -> Result<Self> {
        let config = decoder.config();
        let shape = PageShape {
            layers: config.layers(),
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        Ok(Self {
            shape,
            rows: Vec::new(),
            weights: decoder.decode_weights()?.map(Arc::new),
        })
    }

    /// Appends a row that continues a prompt.
    pub fn push(&mut self, prompt: &CachedPrompt) {
        self.rows.push(prompt.0.clone());
    }

    /// The same cache, for steps by ops.
    #[cfg(test)]
    pub(super) fn by_ops(self) -> Self {
        Self {
            weights: None,
            ..self
        }
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Positions that each row holds, `(B,)`.
    #[cfg(test)]
    fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.len).collect()
    }

    /// Keeps the rows `keep`, in that order; a row may be named more than once (several samples of
    /// one prompt) or not at all (finished). Nothing is copied: rows share their pages until they
    /// differ.
    ///
    /// # Errors
    /// A row does not exist.
    pub fn select(&mut self, keep: &[usize]) -> Result<()> {
        if let Some(row) = keep.iter().find(|&&row| row >= self.rows.len()) {
            candle_core::bail!("cache: row {row} of {}", self.rows.len());
        }
        self.rows = keep.iter().map(|&row| self.rows[row].clone()).collect();
        Ok(())
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
    /// A prompt to start rows of `cache` from, and logits `(1, V)` after its last token.
    ///
    /// # Errors
    /// As [`Decoder::prefill`].
    pub fn prefill_one(&self, prompt: &[u32], cache: &KvCache) -> Result<(CachedPrompt, Tensor)> {
        let mut alone = KvCache {
            rows: Vec::new(),
            ..cache.clone()
        };
        let logits = self.prefill(&[prompt], &mut alone)?;
        let row = alone.rows.pop().unwrap_or_default();
        Ok((CachedPrompt(row), logits))
    }

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
        let layout = self.layout(&tokens, &positions, &Segments::new(&cu))?;
        let mut rows: Vec<CachedRow> = prompts.iter().map(|_| CachedRow::default()).collect();
        let mut x = self.embed_tokens(&tokens)?.detach(); // (T, D)
        for (index, layer) in self.layers().iter().enumerate() {
            let (y, k, v) = layer.forward(self.config(), index, &x, &layout)?;
            x = y.detach();
            let (keys, values, width) = (host(&k)?, host(&v)?, cache.shape.width());
            let mut tokens = keys.chunks_exact(width).zip(values.chunks_exact(width));
            for (row, prompt) in rows.iter_mut().zip(prompts) {
                for (at, (k, v)) in tokens.by_ref().take(prompt.len()).enumerate() {
                    row.put(&cache.shape, index, at, (k, v));
                }
                row.len = prompt.len();
            }
        }
        cache.rows.append(&mut rows);
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
        if let Some(weights) = cache.weights.clone() {
            let logits = weights.step(&cache.shape, tokens, &mut cache.rows)?;
            return Tensor::from_vec(logits, (b, self.config().vocab_size), self.device());
        }
        let positions: Vec<u32> = cache.rows.iter().map(|row| row.len as u32).collect();
        let layout = self.layout(tokens, &positions, &Segments::default())?;
        let mut x = self.embed_tokens(tokens)?.detach(); // (B, D)
        for (index, layer) in self.layers().iter().enumerate() {
            let (q, k, v) = layer.project(self.config(), &x, &layout.rotation)?;
            let (queries, k, v) = (host(&q)?, host(&k)?, host(&v)?);
            let tokens = k
                .chunks_exact(cache.shape.width())
                .zip(v.chunks_exact(cache.shape.width()));
            for (row, (k, v)) in cache.rows.iter_mut().zip(tokens) {
                row.put(&cache.shape, index, row.len, (k, v));
            }
            let mixed = attend(cache, index, &self.config().attention(index), &queries);
            let mixed = Tensor::from_vec(mixed, q.shape(), q.device())?.to_dtype(q.dtype())?;
            x = layer.finish(self.config(), &x, &mixed)?.detach();
        }
        cache.rows.iter_mut().for_each(|row| row.len += 1);
        Ok(self.logits(&self.final_norm(&x)?)?.detach())
    }
}

/// Attention of one new token a row, already in the cache: `queries (B, H * E)` -> `(B, H * E)`.
fn attend(cache: &KvCache, layer: usize, shape: &AttentionShape, queries: &[f32]) -> Vec<f32> {
    let width = shape.q_width();
    let mut out = vec![0.0; queries.len()];
    let rows = queries
        .par_chunks_exact(width)
        .zip(out.par_chunks_exact_mut(width));
    rows.zip(&cache.rows)
        .for_each_init(Scratch::default, |scratch, ((q, out), row)| {
            decode_attention(
                shape,
                (cache.shape, layer),
                q,
                (row, row.len + 1),
                scratch,
                out,
            );
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::DecoderConfig;
    use crate::model::ops::check::relative_error;
    use crate::model::weights::FrozenParams;
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
        let mut cache = KvCache::new(&decoder)?;
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
    fn the_bits_of_a_row_depend_neither_on_the_number_of_rows_nor_on_threads() -> Result<()> {
        let decoder = shipped();
        let run = |rows: &[usize], threads: usize| -> Result<Vec<Vec<u32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let mut cache = KvCache::new(&decoder)?;
                decoder.prefill(&[&[1, 403], &[1, 407, 261]], &mut cache)?;
                cache.select(rows)?;
                let mut logits = Vec::new();
                for step in 0..70 {
                    let tokens: Vec<u32> = rows.iter().map(|&r| 270 + step + r as u32).collect();
                    logits = decoder.decode_step(&tokens, &mut cache)?.to_vec2::<f32>()?;
                }
                let bits = |row: Vec<f32>| row.into_iter().map(f32::to_bits).collect();
                Ok(logits.into_iter().map(bits).collect())
            })
        };
        let (first, second) = (run(&[0], 1)?.remove(0), run(&[1], 1)?.remove(0));
        for threads in [1, 3] {
            let rows = [0, 1, 1, 0, 1, 0, 0];
            for (got, row) in run(&rows, threads)?.iter().zip(rows) {
                assert!(got == [&first, &second][row], "{threads} threads");
            }
        }
        Ok(())
    }

    #[test]
    fn rows_can_be_repeated_and_dropped_between_steps() -> Result<()> {
        let decoder = shipped();
        let mut cache = KvCache::new(&decoder)?;
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
