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
        self.push_continuation(id, prefix, tokens, 0);
    }

    /// As [`Self::push_suffix`]; only the tokens from `first_target` on are targets.
    fn push_continuation(&mut self, id: &str, prefix: usize, tokens: &[u32], first_target: usize) {
        let (start, segment) = (self.tokens.len(), self.segments() as u32);
        let prefix_end = self.cu_seqlens[prefix + 1];
        let shared = prefix_end - self.cu_seqlens[prefix];
        for (i, &token) in tokens.iter().enumerate().skip(first_target) {
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

/// A context, and the continuations that are scored behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextGroup<'a> {
    /// What the model is given, not empty.
    pub context: &'a [u32],
    /// What may follow, each not empty.
    pub continuations: Vec<&'a [u32]>,
}

impl ContextGroup<'_> {
    /// Positions if the context is computed once, and each continuation behind it.
    fn apart(&self) -> usize {
        self.context.len() + self.behind(self.context.len())
    }

    /// Positions if `shared` tokens of the context were computed before, and the rest with each continuation.
    fn behind(&self, shared: usize) -> usize {
        let rest = self.context.len() - shared;
        self.continuations.iter().map(|c| rest + c.len()).sum()
    }
}

/// A batch of several contexts with their continuations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinuationBatch {
    /// Targets are the continuations.
    pub batch: TokenBatch,
    /// Which of the given groups these are.
    pub groups: Range<usize>,
    /// The segment of each continuation, group by group.
    pub segments: Vec<usize>,
}

/// Packs contexts with their continuations without padding, in order, into batches of at most `max_positions` (or one
/// group).
///
/// What several contexts have in common is computed once a batch (the solved rows before a question), or else each
/// context once for its continuations, whichever is less work. So contexts with a common beginning should stand together. A
/// continuation's score is the same either way.
pub fn continuation_batches(
    groups: &[ContextGroup<'_>],
    max_positions: usize,
) -> Vec<ContinuationBatch> {
    let mut batches = Vec::new();
    let mut start = 0;
    while start < groups.len() {
        let mut end = start + 1;
        let mut shared = groups[start].context.len();
        let (mut apart, mut plan) = (groups[start].apart(), None);
        while end < groups.len() {
            let next = common(groups[end - 1].context, groups[end].context).min(shared);
            let sum = |group: &ContextGroup<'_>| group.behind(next);
            let together = next + groups[start..=end].iter().map(sum).sum::<usize>();
            let apart_too = apart + groups[end].apart();
            if together.min(apart_too) > max_positions {
                break;
            }
            (shared, apart) = (next, apart_too);
            plan = (together < apart_too && shared > 0).then_some(shared);
            end += 1;
        }
        batches.push(continuation_batch(groups, start..end, plan));
        start = end;
    }
    batches
}

/// Tokens that two texts begin with.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// One batch; with `shared` so many tokens of all contexts are one prefix of it.
fn continuation_batch(
    groups: &[ContextGroup<'_>],
    range: Range<usize>,
    shared: Option<usize>,
) -> ContinuationBatch {
    let mut batch = TokenBatch::new();
    let mut segments = Vec::new();
    if let Some(shared) = shared {
        let prefix = &groups[range.start].context[..shared];
        batch.push_segment("", prefix, |_| false, 0, 0);
    }
    for group in &groups[range.clone()] {
        if shared.is_none() {
            batch.push_segment("", group.context, |_| false, 0, 0);
        }
        let prefix = if shared.is_some() {
            0
        } else {
            batch.segments() - 1
        };
        let rest = &group.context[shared.unwrap_or(group.context.len())..];
        for continuation in &group.continuations {
            segments.push(batch.segments());
            let tokens = [rest, continuation].concat();
            batch.push_continuation("", prefix, &tokens, rest.len());
        }
    }
    ContinuationBatch {
        batch,
        groups: range,
        segments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group<'a>(context: &'a [u32], continuations: &[&'a [u32]]) -> ContextGroup<'a> {
        ContextGroup {
            context,
            continuations: continuations.to_vec(),
        }
    }

    /// The tokens that each target follows, itself last, for every segment with targets.
    fn read(batch: &ContinuationBatch) -> Vec<Vec<Vec<u32>>> {
        let b = &batch.batch;
        let of = |segment: usize| {
            let own = |s: usize| b.cu_seqlens[s] as usize..b.cu_seqlens[s + 1] as usize;
            let prefix = b.prefixes[segment] as usize;
            let before = if prefix == segment { 0..0 } else { own(prefix) };
            let targets =
                (0..b.targets.len()).filter(|&t| b.target_segments[t] as usize == segment);
            targets
                .map(|t| {
                    let row = b.target_rows[t] as usize;
                    let mut seen = b.tokens[before.clone()].to_vec();
                    if own(segment).contains(&row) {
                        seen.extend(&b.tokens[own(segment).start..=row]);
                    }
                    seen.push(b.targets[t]);
                    seen
                })
                .collect()
        };
        batch.segments.iter().map(|&segment| of(segment)).collect()
    }

    // Both ways of sharing give every target the same tokens before it.
    #[test]
    fn continuations_see_their_whole_context_however_it_is_shared() {
        let long: Vec<u32> = (0..40).collect();
        let (a, b) = ([&long[..], &[50, 51]].concat(), [&long[..], &[60]].concat());
        let few = [group(&a, &[&[1], &[2, 3]]), group(&b, &[&[4], &[5]])];
        let shared = continuation_batches(&few, 100);
        assert_eq!(
            (shared.len(), shared[0].batch.len()),
            (1, 40 + 3 + 4 + 2 + 2)
        );
        let apart = continuation_batches(&few, 60);
        assert_eq!(apart.len(), 1, "{apart:?}");
        let single = continuation_batches(&few, 1);
        assert_eq!(single.len(), 2);
        assert_eq!(single[0].batch.len(), 42 + 1 + 2);
        let want = [
            vec![[&a[..], &[1]].concat()],
            vec![[&a[..], &[2]].concat(), [&a[..], &[2, 3]].concat()],
            vec![[&b[..], &[4]].concat()],
            vec![[&b[..], &[5]].concat()],
        ];
        for batches in [shared, apart, single] {
            let got: Vec<_> = batches.iter().flat_map(read).collect();
            assert_eq!(got, want);
        }
    }

    // Equal contexts: nothing of them is left to be computed with the continuations.
    #[test]
    fn equal_contexts_are_computed_once() {
        let context = [7, 8, 9];
        let groups = [group(&context, &[&[1]]), group(&context, &[&[2]])];
        let batches = continuation_batches(&groups, 100);
        assert_eq!((batches.len(), batches[0].batch.len()), (1, 5));
        assert_eq!(read(&batches[0])[1], [[7, 8, 9, 2]]);
    }
}
