//! Passes over sequences that are continued: prompts are read into a cache, and one token after another behind them.

use crate::gpu::decoder::activations::Activations;
use crate::gpu::decoder::batch::{Batch, within};
use crate::gpu::decoder::key_values::KeyValues;
use crate::gpu::decoder::linear::Weight;
use crate::gpu::decoder::pages::Sequence;
use crate::gpu::decoder::parts::Parts;
use crate::gpu::decoder::passes::{Pass, Passes};
use crate::gpu::ops::decode_attention::{SequenceList, slots};
use crate::gpu::ops::draw::Drawing;
use crate::gpu::{Gpu, GpuError, Result, Stored};

/// A prompt, and the place of its keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// At least one.
    pub tokens: &'a [u32],
    /// As long.
    pub place: &'a Sequence,
}

impl Passes {
    /// Takes the memory for passes over so many positions without gradients, with so many rows of logits at the end, of
    /// sequences that are up to `longest` long.
    ///
    /// # Errors
    /// The decoder has heads that no kernel takes, or out of memory.
    pub fn reserve_reading<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        positions: usize,
        (rows, longest): (usize, usize),
    ) -> Result<()> {
        self.check()?;
        let extent = self.reading(positions, rows);
        self.memory::<T>(gpu, &extent)?;
        self.angles(gpu, longest)?;
        Ok(())
    }

    /// Reads prompts, P of them, into a cache; puts the logits `(P, V)` after their last tokens behind `logits`.
    ///
    /// # Errors
    /// A prompt is empty or not as long as its place, a token lies outside the vocabulary, or the device refuses.
    pub fn prefill<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        cache: &KeyValues<T>,
        prompts: &[Prompt<'_>],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let fits = |prompt: &Prompt<'_>| {
            !prompt.tokens.is_empty() && prompt.tokens.len() == prompt.place.len()
        };
        if !prompts.iter().all(fits) {
            return Err(GpuError::Request(
                "a prompt that is empty or longer than its place".to_owned(),
            ));
        }
        let lengths = || prompts.iter().map(|prompt| prompt.tokens.len() as u32);
        let tokens: Vec<u32> = prompts.iter().flat_map(|p| p.tokens).copied().collect();
        let positions: Vec<u32> = lengths().flat_map(|len| 0..len).collect();
        let ends = lengths().scan(0, |end, len| {
            *end += len;
            Some(*end)
        });
        let bounds: Vec<u32> = std::iter::once(0).chain(ends).collect();
        let trunks: Vec<u32> = (0..).take(prompts.len()).collect();
        let last: Vec<u32> = bounds[1..].iter().map(|end| end - 1).collect();
        // Of logits nothing is asked; a token is a target as good as any.
        let targets: Vec<u32> = last.iter().map(|&at| tokens[at as usize]).collect();
        let batch = Batch {
            tokens: &tokens,
            positions: &positions,
            bounds: &bounds,
            trunks: &trunks,
            target_rows: &last,
            targets: &targets,
        };
        let own = |prompt: &Prompt<'_>| {
            slots(prompt.place.pages(), 0..prompt.tokens.len()).collect::<Vec<_>>()
        };
        let slots = prompts.iter().flat_map(own).collect();
        let pass = self.begin_reading(gpu, parts, &batch, Some((cache, slots)))?;
        self.read(gpu, &pass, prompts.len(), logits)
    }

    /// Feeds the next token to each of B sequences, which have room for it; the last ones may be idle, so that products
    /// are as large whatever is asked for. Puts the logits `(wanted, V)` of the first ones behind `logits`.
    ///
    /// # Errors
    /// Not one token a sequence, a token outside the vocabulary, or the device refuses.
    pub fn next<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        cache: &KeyValues<T>,
        (tokens, sequences, wanted): (&[u32], &SequenceList, usize),
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let pass = self.begin_next(gpu, parts, cache, (tokens, sequences, &[]))?;
        self.read(gpu, &pass, wanted, logits)
    }

    /// As [`Self::next`]; of the first sequences, as many as there are `uniforms`, the tokens that are drawn, which are all
    /// that goes to the host. -1 where logits are not finite.
    ///
    /// # Errors
    /// As [`Self::next`]; or more numbers than sequences.
    pub fn next_drawn<T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &Parts<Weight<T>>,
        cache: &KeyValues<T>,
        (tokens, sequences, uniforms): (&[u32], &SequenceList, &[f64]),
        how: Drawing,
    ) -> Result<Vec<i32>> {
        let (wanted, of) = (uniforms.len(), tokens.len());
        if wanted > of {
            return Err(GpuError::Request(format!("{wanted} draws of {of} rows")));
        }
        let pass = self.begin_next(gpu, parts, cache, (tokens, sequences, uniforms))?;
        self.forward(gpu, &pass)?;
        let head = self.head(&pass);
        for chunk in &pass.batch.chunks {
            let drawn = chunk.range.start.min(wanted)..chunk.range.end.min(wanted);
            if !drawn.is_empty() {
                head.draw(gpu, chunk, (pass.batch.uniforms, drawn), how)?;
            }
        }
        let mut found = vec![0; wanted];
        gpu.download(head.drawn().part(0..wanted), &mut found)?;
        Ok(found)
    }

    /// A pass over the next token of each of B sequences.
    fn begin_next<'a, T: Stored>(
        &mut self,
        gpu: &mut dyn Gpu,
        parts: &'a Parts<Weight<T>>,
        cache: &'a KeyValues<T>,
        (tokens, sequences, uniforms): (&[u32], &SequenceList, &[f64]),
    ) -> Result<Pass<'a, T>> {
        self.check()?;
        let count = tokens.len();
        if count != sequences.lengths.len() || count == 0 {
            let of = sequences.lengths.len();
            return Err(GpuError::Request(format!("{count} tokens for {of} rows")));
        }
        within("token", tokens, self.config.vocab_size)?;
        let extent = self.reading(count, count);
        let memory = self.memory::<T>(gpu, &extent)?;
        let longest = sequences.lengths.iter().copied().max().unwrap_or(0);
        let next = (tokens, sequences, uniforms);
        Ok(Pass {
            parts,
            activations: Activations::within(memory, &self.config, &extent),
            batch: self.numbers.upload_next(gpu, next, extent.head_rows)?,
            angles: self.angles(gpu, longest.unsigned_abs() as usize)?,
            cache: Some(cache),
        })
    }
}
