//! What a pass runs on: checked on the host, then uploaded in one piece.

use crate::gpu::buf::{Buf, Region};
use crate::gpu::element::int;
use crate::gpu::ops::attention::{Range, Tile, WorkBufs, WorkList};
use crate::gpu::ops::decode_attention::{SequenceBufs, SequenceList};
use crate::gpu::ops::embedding::Places;
use crate::gpu::{Gpu, GpuError, Result};

/// Flattened positions of several segments, and what is to be predicted.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Input tokens, (T,).
    pub tokens: &'a [u32],
    /// Position of each token in its segment, or behind the segment that this continues, (T,).
    pub positions: &'a [u32],
    /// Where segments begin, and T, (S + 1,).
    pub bounds: &'a [u32],
    /// The segment that each segment continues, or itself, (S,).
    pub trunks: &'a [u32],
    /// Positions whose outputs predict, (N,).
    pub target_rows: &'a [u32],
    /// What they should predict, (N,).
    pub targets: &'a [u32],
}

impl Batch<'_> {
    /// T.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Refuses what would lead kernels out of their arrays: they look at none of these numbers.
    pub(super) fn check(&self, vocabulary: usize) -> Result<()> {
        let rows = self.len();
        let lengths = self.positions.len() == rows
            && self.trunks.len() + 1 == self.bounds.len()
            && self.target_rows.len() == self.targets.len()
            && self.targets.len() <= rows;
        let cover = self.bounds.first() == Some(&0)
            && self.bounds.last().is_some_and(|&end| end as usize == rows)
            && self.bounds.is_sorted();
        let trunk =
            |(s, &of): (usize, &u32)| of as usize <= s && self.trunks.get(of as usize) == Some(&of);
        if rows == 0 || !lengths || !cover || !self.trunks.iter().enumerate().all(trunk) {
            return Err(GpuError::Request(format!(
                "a batch whose parts do not fit: {} tokens, {} positions, {} boundaries, {} targets",
                rows,
                self.positions.len(),
                self.bounds.len(),
                self.targets.len()
            )));
        }
        within("token", self.tokens, vocabulary)?;
        within("target token", self.targets, vocabulary)?;
        within("position", self.positions, rows)?;
        within("target row", self.target_rows, rows)
    }
}

/// Refuses numbers that are not below `end`.
pub(super) fn within(what: &str, numbers: &[u32], end: usize) -> Result<()> {
    match numbers.iter().find(|&&n| n as usize >= end) {
        Some(n) => Err(GpuError::Request(format!("{what} {n} of {end}"))),
        None => Ok(()),
    }
}

/// A batch on the device.
#[derive(Debug)]
pub(super) struct BatchBufs {
    pub(super) tokens: Buf<i32>,
    pub(super) positions: Buf<i32>,
    pub(super) work: WorkBufs,
    /// Where each token stands.
    pub(super) places: Places<Buf<i32>>,
    /// Of each chunk of targets.
    pub(super) chunks: Vec<Chunk>,
    /// Where keys and values go that outlive the pass.
    pub(super) in_cache: Option<InCache>,
    /// Numbers in [0, 1) that tokens are drawn by, one for each target; none where nothing is drawn.
    pub(super) uniforms: Buf<f64>,
}

/// Where the tokens of a pass stand in a cache of keys and values.
#[derive(Debug)]
pub(super) enum InCache {
    /// The slot of each, `(T,)`: they are new sequences.
    Slots(Buf<i32>),
    /// Each is the next one of a sequence.
    Next(SequenceBufs),
}

/// Some of the targets.
#[derive(Debug)]
pub(super) struct Chunk<I = Buf<i32>> {
    /// Which.
    pub(super) range: std::ops::Range<usize>,
    pub(super) rows: I,
    pub(super) targets: I,
    /// Which of the chunk's targets each distinct row predicts: one row may predict the first tokens of several
    /// segments.
    pub(super) places: Places<I>,
}

impl Chunk<std::ops::Range<usize>> {
    fn within(self, all: Buf<i32>) -> Chunk {
        Chunk {
            range: self.range,
            rows: all.part(self.rows),
            targets: all.part(self.targets),
            places: places_in(all, self.places),
        }
    }
}

fn places_in(all: Buf<i32>, of: Places<std::ops::Range<usize>>) -> Places<Buf<i32>> {
    Places {
        tokens: all.part(of.tokens),
        starts: all.part(of.starts),
        order: all.part(of.order),
    }
}

/// Memory for the numbers of batches, which grows.
#[derive(Debug, Default)]
pub(super) struct BatchMemory(Option<Region>);

/// Whole numbers end to end, and where each array lies among them.
#[derive(Default)]
struct Packed(Vec<i32>);

impl Packed {
    fn put(&mut self, numbers: impl IntoIterator<Item = i32>) -> std::ops::Range<usize> {
        let start = self.0.len();
        self.0.extend(numbers);
        start..self.0.len()
    }

    fn put_places(&mut self, of: &[u32]) -> Places<std::ops::Range<usize>> {
        let places = Places::of(of);
        Places {
            tokens: self.put(places.tokens),
            starts: self.put(places.starts),
            order: self.put(places.order),
        }
    }

    /// Rows and what they should predict, (N,) both, in chunks of `head_rows`.
    fn put_chunks(
        &mut self,
        (rows, targets): (&[u32], &[u32]),
        head_rows: usize,
    ) -> Vec<Chunk<std::ops::Range<usize>>> {
        let starts = (0..targets.len()).step_by(head_rows.max(1));
        let chunk = |start: usize| {
            let range = start..targets.len().min(start + head_rows);
            Chunk {
                rows: self.put(ints(&rows[range.clone()])),
                targets: self.put(ints(&targets[range.clone()])),
                places: self.put_places(&rows[range.clone()]),
                range,
            }
        };
        starts.map(chunk).collect()
    }
}

/// A number as two words, in the order of the machine.
fn words_of(number: f64) -> [i32; 2] {
    let bytes = number.to_ne_bytes();
    let word = |at: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
    [word(0), word(4)]
}

fn ints(numbers: &[u32]) -> impl Iterator<Item = i32> {
    numbers.iter().map(|&n| int(n as usize))
}

impl BatchMemory {
    /// Uploads a batch that was checked; its targets in chunks of `head_rows`. With slots, its keys and values go there.
    pub(super) fn upload(
        &mut self,
        gpu: &mut dyn Gpu,
        batch: &Batch<'_>,
        head_rows: usize,
        slots: Option<Vec<i32>>,
    ) -> Result<BatchBufs> {
        let mut packed = Packed::default();
        let tokens = packed.put(ints(batch.tokens));
        let positions = packed.put(ints(batch.positions));
        let work = WorkList::new(batch.bounds, batch.trunks);
        let tiles = packed.put(work.tiles.iter().flat_map(Tile::words));
        let ranges = packed.put(work.ranges.iter().flat_map(Range::words));
        let range_at = packed.put(work.range_at);
        let places = packed.put_places(batch.tokens);
        let slots = slots.map(|slots| packed.put(slots));
        let chunks = packed.put_chunks((batch.target_rows, batch.targets), head_rows);
        let all = self.of(gpu, packed.0.len())?;
        gpu.upload(&packed.0, all)?;
        Ok(BatchBufs {
            tokens: all.part(tokens),
            positions: all.part(positions),
            work: WorkBufs {
                tiles: Buf::new(all.part(tiles).region()),
                ranges: Buf::new(all.part(ranges).region()),
                range_at: all.part(range_at),
            },
            places: places_in(all, places),
            chunks: chunks.into_iter().map(|chunk| chunk.within(all)).collect(),
            in_cache: slots.map(|slots| InCache::Slots(all.part(slots))),
            uniforms: Buf::new(all.part(0..0).region()),
        })
    }

    /// Uploads the next token of each of some sequences (B,), which were checked; every row is one of logits, and a token may
    /// be drawn from it by its number of `uniforms`.
    pub(super) fn upload_next(
        &mut self,
        gpu: &mut dyn Gpu,
        (next, sequences, uniforms): (&[u32], &SequenceList, &[f64]),
        head_rows: usize,
    ) -> Result<BatchBufs> {
        let mut packed = Packed::default();
        // First, where they are aligned.
        let uniforms = packed.put(uniforms.iter().flat_map(|x| words_of(*x)));
        let tokens = packed.put(ints(next));
        let positions = packed.put(sequences.lengths.iter().map(|n| (n - 1).max(0)));
        let pages = packed.put(sequences.pages.iter().copied());
        let lengths = packed.put(sequences.lengths.iter().copied());
        let rows: Vec<u32> = (0..).take(next.len()).collect();
        let chunks = packed.put_chunks((&rows, next), head_rows);
        let all = self.of(gpu, packed.0.len())?;
        gpu.upload(&packed.0, all)?;
        let none = all.part(0..0);
        Ok(BatchBufs {
            tokens: all.part(tokens),
            positions: all.part(positions),
            work: WorkBufs {
                tiles: Buf::new(none.region()),
                ranges: Buf::new(none.region()),
                range_at: none,
            },
            places: Places {
                tokens: none,
                starts: none,
                order: none,
            },
            chunks: chunks.into_iter().map(|chunk| chunk.within(all)).collect(),
            in_cache: Some(InCache::Next(SequenceBufs {
                pages: all.part(pages),
                lengths: all.part(lengths),
            })),
            uniforms: Buf::new(all.part(uniforms).region()),
        })
    }

    fn of(&mut self, gpu: &mut dyn Gpu, len: usize) -> Result<Buf<i32>> {
        let memory = grown(gpu, &mut self.0, len * size_of::<i32>())?;
        Ok(Buf::<i32>::new(memory).part(0..len))
    }
}

/// Memory that grows.
pub(super) fn grown(
    gpu: &mut dyn Gpu,
    memory: &mut Option<Region>,
    bytes: usize,
) -> Result<Region> {
    if let Some(memory) = memory.filter(|memory| memory.bytes() >= bytes) {
        return Ok(memory);
    }
    if let Some(old) = memory.take() {
        gpu.free_bytes(old)?;
    }
    // Few bytes beside activations: twice as many, so that it grows a few times at most.
    Ok(*memory.insert(gpu.alloc_bytes(2 * bytes)?))
}

impl Tile {
    fn words(&self) -> [i32; 5] {
        [self.row0, self.rows, self.trunk0, self.trunk, self.own0]
    }
}

impl Range {
    fn words(&self) -> [i32; 3] {
        [self.first, self.end, self.at]
    }
}
