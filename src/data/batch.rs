//! What the model runs on in one pass: the positions of several segments, one after the other.

use super::pair::TokenizedPair;
use super::tokenize::TokenizedExample;
use crate::arch::Pass;
use std::ops::Range;

/// Flattened positions of several segments. Attention is causal within a segment and blocked
/// between segments, but a segment that continues another, its prefix, also sees that one.
///
/// T positions, S segments, N targets. `target_rows[i]` is the position whose output predicts
/// `targets[i]`: the one before it, which for the first token of a suffix is the prefix's last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// Input tokens, (T,).
    pub tokens: Vec<u32>,
    /// Position of each token in its segment, from 0, or behind its prefix, (T,).
    pub positions: Vec<u32>,
    /// Where segments begin, and T at the end, (S + 1,).
    pub cu_seqlens: Vec<u32>,
    /// The segment that each segment continues, or itself, (S,). Suffixes stand behind their prefix.
    pub prefixes: Vec<u32>,
    /// Positions whose outputs predict, (N,); one may predict the first token of several suffixes.
    pub target_rows: Vec<u32>,
    /// The tokens to be predicted, (N,).
    pub targets: Vec<u32>,
    /// Segment of each target, (N,).
    pub target_segments: Vec<u32>,
    /// Positions that are not padding; T without padding.
    pub real_tokens: usize,
    /// The document of each segment, (S,).
    pub example_ids: Vec<String>,
}

impl TokenBatch {
    /// A batch without segments.
    pub fn new() -> Self {
        Self {
            cu_seqlens: vec![0],
            ..Self::default()
        }
    }

    /// Positions computed, padding included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Segments.
    pub fn segments(&self) -> usize {
        self.example_ids.len()
    }

    /// Appends a segment whose token `i` is a target where `is_target(i)`; then `padding` more
    /// positions of `pad`. The first token of a segment has no predecessor and is never a target.
    pub fn push_segment(
        &mut self,
        id: &str,
        tokens: &[u32],
        is_target: impl Fn(usize) -> bool,
        padding: usize,
        pad: u32,
    ) {
        let start = self.tokens.len();
        let segment = self.segments() as u32;
        for i in (1..tokens.len()).filter(|&i| is_target(i)) {
            self.target_rows.push((start + i - 1) as u32);
            self.targets.push(tokens[i]);
            self.target_segments.push(segment);
        }
        self.tokens.extend_from_slice(tokens);
        self.tokens.extend(std::iter::repeat_n(pad, padding));
        let len = tokens.len() + padding;
        self.positions.extend(0..len as u32);
        self.cu_seqlens.push((start + len) as u32);
        self.prefixes.push(segment);
        self.real_tokens += tokens.len();
        self.example_ids.push(id.to_owned());
    }

    /// Appends a segment of targets that continues the segment `prefix`, which must be the last or
    /// one whose suffixes end the batch. Without a token in the prefix, the first has no predecessor
    /// and is no target.
    pub fn push_suffix(&mut self, id: &str, prefix: usize, tokens: &[u32]) {
        let (start, segment) = (self.tokens.len(), self.segments() as u32);
        let prefix_end = self.cu_seqlens[prefix + 1];
        let shared = prefix_end - self.cu_seqlens[prefix];
        for (i, &token) in tokens.iter().enumerate() {
            let row = match (i, shared) {
                (0, 0) => continue,
                (0, _) => prefix_end - 1,
                _ => (start + i - 1) as u32,
            };
            self.target_rows.push(row);
            self.targets.push(token);
            self.target_segments.push(segment);
        }
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(shared..shared + tokens.len() as u32);
        self.cu_seqlens.push((start + tokens.len()) as u32);
        self.prefixes.push(prefix as u32);
        self.real_tokens += tokens.len();
        self.example_ids.push(id.to_owned());
    }

    /// What a forward pass over the batch computes, padding included.
    pub fn pass(&self) -> Pass {
        let len = |s: usize| f64::from(self.cu_seqlens[s + 1] - self.cu_seqlens[s]);
        let mut pass = Pass::default();
        for (s, &prefix) in self.prefixes.iter().enumerate() {
            let prefix = prefix as usize;
            let before = if prefix == s { 0.0 } else { len(prefix) };
            pass.add(1.0, len(s), before, 0.0);
        }
        pass.with_scored(self.targets.len() as f64)
    }
}

/// Splits items of the given costs, in order, into runs of at most `limit` each; an item above the
/// limit makes a run of its own.
pub(super) fn split_by_cost(costs: &[usize], limit: usize) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (i, &cost) in costs.iter().enumerate() {
        if i > start && sum + cost > limit {
            runs.push(start..i);
            (start, sum) = (i, 0);
        }
        sum += cost;
    }
    if start < costs.len() {
        runs.push(start..costs.len());
    }
    runs
}

/// Segments of a pair in a [`PairBatch`].
pub const PAIR_SEGMENTS: usize = 3;

/// A batch of several preference pairs. A pair's prompt is computed once: the segments of pair `i`
/// are `3 i` (the prompt), `3 i + 1` (chosen) and `3 i + 2` (rejected), of which both replies
/// continue the prompt and do not see each other; targets are the replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairBatch {
    /// All three parts of every pair; `example_ids` has each pair's id three times.
    pub batch: TokenBatch,
    /// Which of the given pairs these are.
    pub pairs: Range<usize>,
}

/// Packs pairs without padding, in order, into batches of at most `max_positions` (or one pair).
pub fn pair_batches(pairs: &[&TokenizedPair], max_positions: usize) -> Vec<PairBatch> {
    let costs: Vec<usize> = pairs.iter().map(|p| p.positions()).collect();
    let runs = split_by_cost(&costs, max_positions).into_iter();
    runs.map(|range| {
        let mut batch = TokenBatch::new();
        for pair in &pairs[range.clone()] {
            let prefix = batch.segments();
            batch.push_segment(&pair.id, &pair.prompt, |_| false, 0, 0);
            batch.push_suffix(&pair.id, prefix, &pair.chosen);
            batch.push_suffix(&pair.id, prefix, &pair.rejected);
        }
        PairBatch {
            batch,
            pairs: range,
        }
    })
    .collect()
}

/// Packs whole documents without padding, in order, into batches of at most `max_positions` (or one
/// document); segment `i` of a batch is document `range.start + i`. For measuring likelihood.
///
/// Documents are cut to `max_seq_len`; targets are those of the loss mask.
pub fn document_batches(
    examples: &[TokenizedExample],
    max_seq_len: usize,
    max_positions: usize,
) -> Vec<(Range<usize>, TokenBatch)> {
    let len = |e: &TokenizedExample| e.tokens.len().min(max_seq_len);
    let costs: Vec<usize> = examples.iter().map(len).collect();
    let runs = split_by_cost(&costs, max_positions).into_iter();
    runs.map(|range| {
        let mut batch = TokenBatch::new();
        for example in &examples[range.clone()] {
            let tokens = &example.tokens[..len(example)];
            batch.push_segment(&example.id, tokens, |i| example.loss_mask[i], 0, 0);
        }
        (range, batch)
    })
    .collect()
}
