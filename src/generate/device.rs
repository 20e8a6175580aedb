//! Rows on a device: keys and values in pages that rows of one prompt share, tokens drawn where the logits lie.

use crate::config::spec::SamplingRecipe;
use crate::generate::error::GenerateError;
use crate::generate::generator::{Generator, Room, Rows};
use crate::gpu::decoder::{KeyValues, Pages, Prompt, Sequence};
use crate::gpu::ops::decode_attention::{PAGE, SequenceList};
use crate::gpu::ops::draw::Drawing;
use crate::gpu::{GpuError, Stored};
use crate::model::DeviceModel;

/// Most rows of a decoding pass. Up to some hundred rows a card is busy with reading weights, which serve them all.
const LANES: usize = 256;

/// Positions of prompts that are read in one pass, unless one is longer.
const READ_AT_ONCE: usize = 8192;

/// The part of free memory that keys and values leave to what comes later: the numbers of batches.
const LEFT: usize = 16;

impl<T: Stored> Generator for DeviceModel<T> {
    fn max_positions(&self) -> usize {
        self.config.max_positions
    }

    fn rows(&mut self, room: Room) -> Result<Box<dyn Rows + '_>, GenerateError> {
        let lanes = room.rows.clamp(1, LANES);
        let at_once = reserve(self, lanes, room)?;
        let columns = room.positions.div_ceil(PAGE);
        // As if no two rows shared a page, and the prompts that are read next beside them.
        let pages_of_row = columns + room.prompt.div_ceil(PAGE);
        let free = self.gpu.memory()?.free;
        let page = KeyValues::<T>::page_bytes(&self.config).max(1);
        let most = (free - free / LEFT) / (page * pages_of_row.max(1));
        let most = lanes.min(most).max(1);
        let pages = most * pages_of_row;
        Ok(Box::new(DeviceRows {
            cache: KeyValues::new(&mut *self.gpu, &self.config, pages)?,
            model: self,
            stock: Pages::new(pages),
            columns,
            most,
            at_once,
            prompts: Vec::new(),
            rows: Vec::new(),
            logits: Vec::new(),
        }))
    }
}

/// Takes the memory of passes; how many positions of prompts they have room for.
fn reserve<T: Stored>(
    model: &mut DeviceModel<T>,
    lanes: usize,
    room: Room,
) -> Result<usize, GpuError> {
    let (gpu, passes) = (&mut *model.gpu, &mut model.passes);
    let extent = (lanes, room.positions);
    let wanted = READ_AT_ONCE.min(lanes * room.prompt);
    let least = room.prompt.max(lanes);
    match passes.reserve_reading::<T>(gpu, wanted.max(least), extent) {
        Err(GpuError::OutOfMemory { .. }) if wanted > least => {
            passes.reserve_reading::<T>(gpu, least, extent)?;
            Ok(least)
        }
        reserved => reserved.map(|()| wanted),
    }
}

struct DeviceRows<'a, T: Stored> {
    model: &'a mut DeviceModel<T>,
    cache: KeyValues<T>,
    stock: Pages,
    /// Pages of a row at most.
    columns: usize,
    most: usize,
    /// Positions of prompts that are read in one pass, unless one is longer.
    at_once: usize,
    /// The prompts that were read last.
    prompts: Vec<Sequence>,
    rows: Vec<Sequence>,
    /// What was given last, row after row.
    logits: Vec<f32>,
}

impl<T: Stored> DeviceRows<'_, T> {
    /// Forgets the prompts that were read.
    fn forget(&mut self) {
        for old in std::mem::take(&mut self.prompts) {
            self.stock.release(old);
        }
        self.logits.clear();
    }

    /// Reads further prompts in one pass.
    fn read(&mut self, prompts: &[&[u32]]) -> Result<(), GenerateError> {
        let before = self.prompts.len();
        for prompt in prompts {
            self.prompts.push(self.stock.sequence(prompt.len())?);
        }
        let places = &self.prompts[before..];
        let prompts = prompts.iter().zip(places);
        let prompts: Vec<Prompt<'_>> = prompts
            .map(|(tokens, place)| Prompt { tokens, place })
            .collect();
        let DeviceModel {
            gpu, passes, parts, ..
        } = &mut *self.model;
        passes.prefill(&mut **gpu, parts, &self.cache, &prompts, &mut self.logits)?;
        Ok(())
    }

    /// Makes room for one token more of each row.
    fn grow(&mut self, tokens: &[u32]) -> Result<(), GenerateError> {
        let (asked, live) = (tokens.len(), self.rows.len());
        if asked != live {
            return Err(misused(format!("{asked} tokens for {live} rows")));
        }
        if self.rows.iter().any(|row| row.len() == self.columns * PAGE) {
            return Err(misused("a row is as long as was asked for".to_owned()));
        }
        let vocabulary = self.model.config.vocab_size;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(misused(format!("token {token} of {vocabulary}")));
        }
        for row in &mut self.rows {
            self.stock.grow(row)?;
        }
        Ok(())
    }

    /// What a step is asked for: every row's next token, and rows that are idle as if there were as many as there can be. So
    /// products are of one size, and a row's sums of one order.
    fn step(&self, tokens: &[u32]) -> (Vec<u32>, SequenceList) {
        let rows = self.rows.iter().map(|row| (row.pages(), row.len()));
        let idle = std::iter::repeat_n((&[][..], 0), self.most - self.rows.len());
        let all: Vec<(&[u32], usize)> = rows.chain(idle).collect();
        let mut tokens = tokens.to_vec();
        tokens.resize(self.most, 0);
        (tokens, SequenceList::new(&all, self.columns))
    }
}

/// How many of these prompts are read at once, in so many positions.
fn at_once(prompts: &[&[u32]], room: usize) -> usize {
    let mut positions = 0;
    let fits = prompts.iter().take_while(|prompt| {
        positions += prompt.len();
        positions <= room
    });
    fits.count().max(1).min(prompts.len())
}

impl<T: Stored> Rows for DeviceRows<'_, T> {
    fn most(&self) -> usize {
        self.most
    }

    fn prefill(&mut self, prompts: &[&[u32]]) -> Result<&[f32], GenerateError> {
        self.forget();
        let longest = prompts.iter().map(|prompt| prompt.len()).max();
        let room = self.columns * PAGE;
        if prompts.len() > self.most || longest.is_some_and(|len| len > room) {
            let count = prompts.len();
            return Err(misused(format!(
                "{count} prompts of up to {} tokens where there is room for {} of {room}",
                longest.unwrap_or(0),
                self.most
            )));
        }
        let mut rest = prompts;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(at_once(rest, self.at_once));
            if let Err(error) = self.read(now) {
                self.forget();
                return Err(error);
            }
            rest = later;
        }
        Ok(&self.logits)
    }

    fn start(&mut self, prompts: &[usize]) -> Result<(), GenerateError> {
        let (wanted, most) = (self.rows.len() + prompts.len(), self.most);
        if wanted > most {
            return Err(misused(format!(
                "{wanted} rows where there is room for {most}"
            )));
        }
        let read = self.prompts.len();
        if let Some(prompt) = prompts.iter().find(|&&prompt| prompt >= read) {
            return Err(misused(format!("prompt {prompt} of {read} that were read")));
        }
        let mut copies = Vec::new();
        for &prompt in prompts {
            let (row, copied) = self.stock.fork(&self.prompts[prompt])?;
            self.rows.push(row);
            copies.extend(copied);
        }
        Ok(self.cache.copy(&mut *self.model.gpu, &copies)?)
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<&[f32], GenerateError> {
        self.grow(tokens)?;
        self.logits.clear();
        if self.rows.is_empty() {
            return Ok(&self.logits);
        }
        let live = self.rows.len();
        let (tokens, sequences) = self.step(tokens);
        let DeviceModel {
            gpu, passes, parts, ..
        } = &mut *self.model;
        passes.next(
            &mut **gpu,
            parts,
            &self.cache,
            (&tokens, &sequences, live),
            &mut self.logits,
        )?;
        Ok(&self.logits)
    }

    fn decode_drawn(
        &mut self,
        tokens: &[u32],
        recipe: &SamplingRecipe,
        uniforms: &[f64],
    ) -> Result<Vec<Option<u32>>, GenerateError> {
        let (asked, live) = (uniforms.len(), self.rows.len());
        if asked != live {
            return Err(misused(format!("{asked} draws for {live} rows")));
        }
        self.grow(tokens)?;
        if live == 0 {
            return Ok(Vec::new());
        }
        let (tokens, sequences) = self.step(tokens);
        let how = Drawing {
            temperature: recipe.temperature.get(),
            top_p: recipe.top_p.get(),
        };
        let DeviceModel {
            gpu, passes, parts, ..
        } = &mut *self.model;
        let next = (&tokens[..], &sequences, uniforms);
        let drawn = passes.next_drawn(&mut **gpu, parts, &self.cache, next, how)?;
        Ok(drawn.into_iter().map(|id| u32::try_from(id).ok()).collect())
    }

    fn keep(&mut self, rows: &[usize]) -> Result<(), GenerateError> {
        let rising = rows.is_sorted_by(|a, b| a < b);
        if !rising || rows.last().is_some_and(|&last| last >= self.rows.len()) {
            return Err(misused(format!("rows {rows:?} of {}", self.rows.len())));
        }
        let mut wanted = rows.iter().copied().peekable();
        for (at, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            if wanted.next_if_eq(&at).is_some() {
                self.rows.push(row);
            } else {
                self.stock.release(row);
            }
        }
        Ok(())
    }
}

impl<T: Stored> Drop for DeviceRows<'_, T> {
    fn drop(&mut self) {
        // A lost card fails every time, and whoever asks it next is told.
        if let Err(error) = self.cache.free(&mut *self.model.gpu) {
            tracing::debug!("giving a cache back: {error}");
        }
    }
}

fn misused(what: String) -> GenerateError {
    GpuError::Request(format!("rows: {what}")).into()
}
