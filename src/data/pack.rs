//! Documents to rows: one each, concatenated, or by best fit.
//!
//! Packing works on lengths only and says which part of which document goes where ([`Piece`]); tokens
//! are copied when a row is asked for. Whatever the kind: attention is blocked between the segments
//! of a row, positions restart in each, and the first token of a segment is nobody's target. That
//! is all that a cut costs: the reply that a window edge cuts keeps its loss on both sides.

use super::order::permutation;
use super::tokenize::TokenizedExample;
use crate::base::SeedTree;
use crate::config::spec::{Batching, LossMask};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of a document in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the document.
    pub(super) document: usize,
    /// First token.
    pub(super) start: usize,
    /// Behind the last token.
    pub(super) end: usize,
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The pieces of one row, in order.
pub(super) type Layout = Vec<Piece>;

/// A row as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRow {
    /// Tokens of all segments, without padding.
    pub tokens: Vec<u32>,
    /// Whether each token counts as a target; the first of a segment never does.
    pub loss_mask: Vec<bool>,
    /// The documents' parts, in order, without gaps.
    pub segments: Vec<Segment>,
    /// Pad positions that follow, as part of the last segment.
    pub padding: usize,
}

impl PackedRow {
    /// Positions computed.
    pub fn positions(&self) -> usize {
        self.tokens.len() + self.padding
    }

    /// Tokens that count as targets.
    pub fn targets(&self) -> usize {
        self.loss_mask.iter().filter(|&&m| m).count()
    }
}

/// A part of one document in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the document among the examples.
    pub document: usize,
    /// Id of the document.
    pub id: String,
    /// Where it begins in the row.
    pub start: usize,
    /// Where it ends in the row.
    pub end: usize,
    /// Which token of the document is its first; above 0 after a cut.
    pub offset: usize,
}

impl Segment {
    /// Tokens.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none; packing makes no such segment.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Where the documents and tokens of one epoch went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PackReport {
    /// Documents.
    pub documents: usize,
    /// Documents that are longer than a window or that a window's edge cut.
    pub documents_cut: usize,
    /// Documents of which no target is left; they are computed all the same.
    pub documents_without_targets: usize,
    /// Tokens of all documents.
    pub tokens: usize,
    /// Tokens behind the limit of padded rows, never computed; 0 when packed.
    pub tokens_dropped: usize,
    /// Rows left out by `max-masked-fraction`; they count nowhere else.
    pub rows_masked: usize,
    /// Tokens of those rows.
    pub tokens_masked: usize,
    /// Targets of those rows.
    pub targets_masked: usize,
    /// Rows: documents when padded, windows when packed.
    pub rows: usize,
    /// Positions computed, padding included.
    pub positions: usize,
    /// Pad positions computed.
    pub padding: usize,
    /// Tokens that count as targets.
    pub targets: usize,
    /// Targets that no position predicts, because they begin a segment after a cut.
    pub targets_lost_at_cuts: usize,
    /// Targets among the tokens dropped.
    pub targets_dropped: usize,
}

impl PackReport {
    /// Pad positions as a share of all positions.
    pub fn padding_share(&self) -> f64 {
        self.padding as f64 / self.positions.max(1) as f64
    }
}

/// Lays one epoch's documents out in rows of at most `limit` tokens, in the given order.
pub(super) fn lay_out(
    batching: Batching,
    lengths: &[usize],
    order: &[usize],
    limit: usize,
    seed: &SeedTree,
) -> Vec<Layout> {
    match batching {
        Batching::Padded => order
            .iter()
            .map(|&d| vec![whole(d, lengths[d].min(limit))])
            .collect(),
        Batching::Concat => concatenate(lengths, order, limit),
        Batching::BestFit => {
            let windows = best_fit(lengths, order, limit);
            let order = permutation(windows.len(), seed);
            let mut windows: Vec<Option<Layout>> = windows.into_iter().map(Some).collect();
            order
                .into_iter()
                .filter_map(|i| windows[i].take())
                .collect()
        }
    }
}

fn whole(document: usize, end: usize) -> Piece {
    Piece {
        document,
        start: 0,
        end,
    }
}

/// One stream of all documents, cut every `limit` tokens; the last window may be shorter.
fn concatenate(lengths: &[usize], order: &[usize], limit: usize) -> Vec<Layout> {
    let mut windows = Vec::new();
    let mut window = Layout::new();
    let mut room = limit;
    for &document in order {
        let mut start = 0;
        while start < lengths[document] {
            let end = lengths[document].min(start + room);
            window.push(Piece {
                document,
                start,
                end,
            });
            room -= end - start;
            start = end;
            if room == 0 {
                windows.push(std::mem::take(&mut window));
                room = limit;
            }
        }
    }
    if !window.is_empty() {
        windows.push(window);
    }
    windows
}

/// Best-fit decreasing (Ding et al. 2024, "Fewer truncations improve language modeling"): longest
/// first, each into the fullest window that has room. Documents above `limit` are cut first.
///
/// O(n log `limit`) after sorting. Equal lengths keep the given order, so that epochs differ.
fn best_fit(lengths: &[usize], order: &[usize], limit: usize) -> Vec<Layout> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(order.len());
    for &document in order {
        for start in (0..lengths[document]).step_by(limit) {
            pieces.push(Piece {
                document,
                start,
                end: lengths[document].min(start + limit),
            });
        }
    }
    pieces.sort_by_key(|p| std::cmp::Reverse(p.len()));
    let mut windows: Vec<Layout> = Vec::new();
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for piece in pieces {
        let fullest = by_room.range(piece.len()..).next().map(|(&room, _)| room);
        let found = fullest.and_then(|room| pop(&mut by_room, room));
        let (window, room) = found.unwrap_or((windows.len(), limit));
        if found.is_none() {
            windows.push(Layout::new());
        }
        let left = room - piece.len();
        windows[window].push(piece);
        if left > 0 {
            by_room.entry(left).or_default().push(window);
        }
    }
    windows
}

/// Takes a window with exactly `room` left.
fn pop(by_room: &mut BTreeMap<usize, Vec<usize>>, room: usize) -> Option<(usize, usize)> {
    let windows = by_room.get_mut(&room)?;
    let window = windows.pop()?;
    if windows.is_empty() {
        by_room.remove(&room);
    }
    Some((window, room))
}

/// Whether token `at` of `piece` of `example` counts as a target.
fn counts(example: &TokenizedExample, mask: LossMask, piece: &Piece, at: usize) -> bool {
    at > piece.start && asked_for(example, mask, at)
}

/// Whether token `at` of a document counts as a target, leaving cuts aside.
pub(super) fn asked_for(example: &TokenizedExample, mask: LossMask, at: usize) -> bool {
    at > 0
        && match mask {
            LossMask::AssistantOnly => example.loss_mask[at],
            LossMask::AllTokens => true,
        }
}

/// Targets of a row.
pub(super) fn targets_of(examples: &[TokenizedExample], mask: LossMask, layout: &Layout) -> usize {
    let pieces = layout.iter().map(|piece| {
        let example = &examples[piece.document];
        let span = piece.start..piece.end;
        span.filter(|&at| counts(example, mask, piece, at)).count()
    });
    pieces.sum()
}

/// Whether more than `most` of a row's tokens are no targets.
pub(super) fn is_masked(
    examples: &[TokenizedExample],
    mask: LossMask,
    layout: &Layout,
    most: f64,
) -> bool {
    let tokens: usize = layout.iter().map(Piece::len).sum();
    let masked = tokens - targets_of(examples, mask, layout);
    masked as f64 > most * tokens as f64
}

/// Copies the tokens of a row, without padding.
pub(super) fn fill_row(
    examples: &[TokenizedExample],
    mask: LossMask,
    layout: &Layout,
) -> PackedRow {
    let len = layout.iter().map(Piece::len).sum();
    let mut row = PackedRow {
        tokens: Vec::with_capacity(len),
        loss_mask: Vec::with_capacity(len),
        segments: Vec::with_capacity(layout.len()),
        padding: 0,
    };
    for piece in layout {
        let example = &examples[piece.document];
        let start = row.tokens.len();
        row.tokens
            .extend_from_slice(&example.tokens[piece.start..piece.end]);
        let targets = (piece.start..piece.end).map(|at| counts(example, mask, piece, at));
        row.loss_mask.extend(targets);
        row.segments.push(Segment {
            document: piece.document,
            id: example.id.clone(),
            start,
            end: row.tokens.len(),
            offset: piece.start,
        });
    }
    row
}

/// Accounts for one epoch: rows used, and rows left out for their mask; `positions` are those
/// computed, padding included.
pub(super) fn account(
    examples: &[TokenizedExample],
    mask: LossMask,
    layouts: &[Layout],
    left_out: &[Layout],
    positions: usize,
) -> PackReport {
    let tokens: usize = examples.iter().map(|e| e.tokens.len()).sum();
    let asked = |e: &TokenizedExample| {
        (0..e.tokens.len())
            .filter(|&i| asked_for(e, mask, i))
            .count()
    };
    let asked: usize = examples.iter().map(asked).sum();
    let mut kept = vec![0usize; examples.len()]; // tokens of each document
    let mut targets = vec![0usize; examples.len()];
    let mut pieces = vec![0usize; examples.len()];
    let mut lost = 0;
    let masked: Vec<&Piece> = left_out.iter().flatten().collect();
    let tokens_masked: usize = masked.iter().map(|piece| piece.len()).sum();
    let targets_masked = left_out.iter().map(|l| targets_of(examples, mask, l)).sum();
    for piece in &masked {
        kept[piece.document] += piece.len();
        pieces[piece.document] += 1;
        let example = &examples[piece.document];
        lost += usize::from(piece.start > 0 && asked_for(example, mask, piece.start));
    }
    for piece in layouts.iter().flatten() {
        let example = &examples[piece.document];
        kept[piece.document] += piece.len();
        pieces[piece.document] += 1;
        let span = piece.start..piece.end;
        targets[piece.document] += span.filter(|&at| counts(example, mask, piece, at)).count();
        lost += usize::from(piece.start > 0 && asked_for(example, mask, piece.start));
    }
    let lengths = examples.iter().map(|e| e.tokens.len());
    let cut = lengths
        .zip(kept.iter().zip(&pieces))
        .filter(|(len, (kept, n))| *kept < len || **n > 1);
    let real: usize = kept.iter().sum();
    let predicted: usize = targets.iter().sum();
    PackReport {
        documents: examples.len(),
        documents_cut: cut.count(),
        documents_without_targets: targets.iter().filter(|&&n| n == 0).count(),
        tokens,
        tokens_dropped: tokens - real,
        rows_masked: left_out.len(),
        tokens_masked,
        targets_masked,
        rows: layouts.len(),
        positions,
        padding: positions - (real - tokens_masked),
        targets: predicted,
        targets_lost_at_cuts: lost,
        targets_dropped: asked - predicted - targets_masked - lost,
    }
}
