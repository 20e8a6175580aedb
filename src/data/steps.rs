//! What each optimiser step sees, given only its number.
//!
//! Epochs follow each other in one stream of rows, each in its own order, and steps cut that stream
//! without a gap: the step that straddles two epochs takes the rest of one and the start of the next.
//! Only the last step of a run may be smaller, so that `epochs = 2` shows each document twice, no more
//! and no less. Nothing has to be replayed to resume at a step.

use super::batch::{TokenBatch, split_by_cost};
use super::error::DataError;
use super::order::permutation;
use super::pack::{Layout, PackReport, PackedRow, Piece, account, fill_row, is_masked, lay_out};
use super::tokenize::TokenizedExample;
use crate::base::SeedTree;
use crate::config::MOST_STEPS;
use crate::config::spec::{BatchSize, Batching, BelowOne, Duration, LayoutRecipe, LossMask};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The rows of every step of supervised fine-tuning.
#[derive(Debug)]
pub struct SftPlan {
    examples: Arc<Vec<TokenizedExample>>,
    lengths: Vec<usize>,
    batching: Batching,
    loss_mask: LossMask,
    max_seq_len: usize,
    max_masked_fraction: Option<f64>,
    seed: SeedTree,
    pad: u32,
    /// Rows of the first epoch; of every epoch unless `ends` says more.
    rows_per_epoch: usize,
    /// Where each epoch of the run ends in the stream of rows, if epochs may have different numbers
    /// of rows.
    ends: Option<Vec<u64>>,
    /// First row of each step in the stream of all epochs, and the end of the last: steps + 1.
    starts: Vec<u64>,
    /// The epoch laid out last.
    epoch: Mutex<Option<(u64, Arc<Vec<Layout>>)>>,
}

impl SftPlan {
    /// Plans a whole run over `examples` (already selected). `seed` is the stage's; `pad` fills
    /// padded rows.
    ///
    /// With `batch = tokens n` a step has n / `max-seq-len` windows when packed (rounded down), and
    /// when padded as many rows as fit with rows times longest row at most n.
    ///
    /// # Errors
    /// There are no examples, or batch, window or duration leave no room for a step.
    pub fn new(
        examples: Vec<TokenizedExample>,
        recipe: &LayoutRecipe,
        duration: Duration,
        seed: &SeedTree,
        pad: u32,
    ) -> Result<Self, DataError> {
        check(&examples, recipe)?;
        check_duration(duration)?;
        let lengths: Vec<usize> = examples.iter().map(|e| e.tokens.len()).collect();
        let mut plan = Self {
            examples: Arc::new(examples),
            lengths,
            batching: recipe.batching,
            loss_mask: recipe.loss_mask,
            max_seq_len: recipe.max_seq_len,
            max_masked_fraction: recipe.max_masked_fraction.map(BelowOne::get),
            seed: seed.clone(),
            pad,
            rows_per_epoch: 0,
            ends: None,
            starts: Vec::new(),
            epoch: Mutex::new(None),
        };
        // Windows depend on the lengths alone, not on the order: every epoch has as many, unless
        // some are left out for what they hold.
        plan.rows_per_epoch = plan.rows_of(0)?;
        let varies = plan.max_masked_fraction.is_some() && recipe.batching != Batching::Padded;
        let end = if varies {
            plan.measured_end(recipe, duration)?
        } else {
            RunEnd::new(duration, plan.rows_per_epoch)
        };
        plan.starts = match (recipe.batching, recipe.batch) {
            (_, BatchSize::Rows(rows)) => regular_starts(rows, &end)?,
            (Batching::Padded, BatchSize::Tokens(n)) => plan.padded_starts(n, &end)?,
            (_, BatchSize::Tokens(n)) => regular_starts(n / recipe.max_seq_len, &end)?,
        };
        Ok(plan)
    }

    /// Optimiser steps of the run.
    pub fn steps(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    /// The documents.
    pub fn examples(&self) -> &[TokenizedExample] {
        &self.examples
    }

    /// Rows of one epoch: documents when padded, windows when packed.
    pub fn rows_per_epoch(&self) -> usize {
        self.rows_per_epoch
    }

    /// Epochs shown after `steps` steps.
    pub fn epochs_after(&self, steps: u64) -> f64 {
        let last = self.starts.len() - 1;
        let rows = self.starts[usize::try_from(steps).unwrap_or(last).min(last)];
        let Some(ends) = &self.ends else {
            return rows as f64 / self.rows_per_epoch as f64;
        };
        let (epoch, row) = self.place(rows);
        let begin = rows - row as u64;
        let size = ends.get(epoch as usize).map_or(1, |end| end - begin);
        epoch as f64 + row as f64 / size as f64
    }

    /// Epoch and row in it of a row of the stream.
    fn place(&self, row: u64) -> (u64, usize) {
        let Some(ends) = &self.ends else {
            let n = self.rows_per_epoch as u64;
            return (row / n, (row % n) as usize);
        };
        let epoch = ends.partition_point(|&end| end <= row);
        let begin = epoch.checked_sub(1).map_or(0, |before| ends[before]);
        (epoch as u64, (row - begin) as usize)
    }

    /// Rows of an epoch.
    fn rows_of(&self, epoch: u64) -> Result<usize, DataError> {
        let rows = self.layouts(epoch).len();
        if rows > 0 {
            return Ok(rows);
        }
        let most = self.max_masked_fraction.unwrap_or(1.0);
        Err(DataError::Limits(format!(
            "no row is left in epoch {epoch}: of each more than `max-masked-fraction` {most} is \
             masked"
        )))
    }

    /// Lays every epoch of a packed run out to see how many rows it has; where the run ends.
    fn measured_end(
        &mut self,
        recipe: &LayoutRecipe,
        duration: Duration,
    ) -> Result<RunEnd, DataError> {
        let mut ends = vec![self.rows_per_epoch as u64];
        let add = |ends: &mut Vec<u64>| {
            let rows = self.rows_of(ends.len() as u64)? as u64;
            let last = ends.last().copied().unwrap_or_default();
            ends.push(last + rows);
            Ok::<(), DataError>(())
        };
        let end = match duration {
            Duration::Epochs(epochs) => {
                while (ends.len() as f64) < epochs {
                    add(&mut ends)?;
                }
                let whole = epochs.floor() as usize;
                let before = whole.checked_sub(1).map_or(0, |last| ends[last]);
                let next = ends.get(whole).map_or(0, |end| end - before);
                let rest = (epochs.fract() * next as f64).round() as u64;
                RunEnd::Rows((before + rest).max(1))
            }
            Duration::Steps(steps) => {
                let size = match recipe.batch {
                    BatchSize::Rows(rows) => rows,
                    BatchSize::Tokens(n) => n / recipe.max_seq_len,
                };
                let rows = steps.saturating_mul(size.max(1) as u64);
                while ends.last().is_some_and(|&end| end < rows) {
                    add(&mut ends)?;
                }
                RunEnd::Steps(steps)
            }
        };
        self.ends = Some(ends);
        Ok(end)
    }

    /// What step `index` (from 0) sees; none behind the last.
    pub fn step(&self, index: u64) -> Option<SftStep> {
        let index = usize::try_from(index).ok()?;
        let (&start, &end) = (self.starts.get(index)?, self.starts.get(index + 1)?);
        let mut rows: Vec<PackedRow> = Vec::with_capacity((end - start) as usize);
        for row in start..end {
            let (epoch, at) = self.place(row);
            let layouts = self.layouts(epoch);
            rows.push(fill_row(&self.examples, self.loss_mask, layouts.get(at)?));
        }
        if self.batching == Batching::Padded {
            let longest = rows.iter().map(|r| r.tokens.len()).max().unwrap_or(0);
            for row in &mut rows {
                row.padding = longest - row.tokens.len();
            }
        }
        Some(SftStep {
            rows,
            pad: self.pad,
        })
    }

    /// Where the documents and tokens of the first epoch go. Padding is that of steps cut at the
    /// end of the epoch; other epochs differ from the first in padding and cuts by chance only.
    pub fn report(&self) -> PackReport {
        let layouts = self.layouts(0);
        let len = |layout: &Layout| layout.iter().map(Piece::len).sum::<usize>();
        let n = self.rows_per_epoch;
        let mut positions = 0;
        for step in self.starts.windows(2) {
            let rows = (step[0] as usize).min(n)..(step[1] as usize).min(n);
            positions += self.step_positions(&layouts[rows], len);
        }
        // A run shorter than an epoch: the rest in steps of the size of the last.
        let seen = (self.starts[self.starts.len() - 1] as usize).min(n);
        let size = (self.starts[1] - self.starts[0]) as usize;
        for rows in layouts[seen..].chunks(size.max(1)) {
            positions += self.step_positions(rows, len);
        }
        let mut left_out = Vec::new();
        if let Some(most) = self.max_masked_fraction {
            left_out = self.lay_out(0);
            left_out.retain(|layout| is_masked(&self.examples, self.loss_mask, layout, most));
        }
        account(
            &self.examples,
            self.loss_mask,
            &layouts,
            &left_out,
            positions,
        )
    }

    fn step_positions(&self, rows: &[Layout], len: impl Fn(&Layout) -> usize) -> usize {
        match self.batching {
            Batching::Padded => rows.len() * rows.iter().map(len).max().unwrap_or(0),
            Batching::Concat | Batching::BestFit => rows.iter().map(len).sum(),
        }
    }

    /// Rows of an epoch; the last one asked for is kept.
    fn layouts(&self, epoch: u64) -> Arc<Vec<Layout>> {
        let mut kept = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, layouts)) = kept.as_ref()
            && *at == epoch
        {
            return Arc::clone(layouts);
        }
        let mut layouts = self.lay_out(epoch);
        if let Some(most) = self.max_masked_fraction {
            layouts.retain(|layout| !is_masked(&self.examples, self.loss_mask, layout, most));
        }
        let layouts = Arc::new(layouts);
        *kept = Some((epoch, Arc::clone(&layouts)));
        layouts
    }

    /// Rows of an epoch, whatever they hold.
    fn lay_out(&self, epoch: u64) -> Vec<Layout> {
        let order = permutation(self.lengths.len(), &self.order_seed(epoch));
        let windows = self.seed.child("data/windows").index(epoch);
        lay_out(
            self.batching,
            &self.lengths,
            &order,
            self.max_seq_len,
            &windows,
        )
    }

    fn order_seed(&self, epoch: u64) -> SeedTree {
        self.seed.child("data/order").index(epoch)
    }

    /// Starts of steps of rows times longest row at most `limit`, over the stream of all epochs.
    fn padded_starts(&self, limit: usize, end: &RunEnd) -> Result<Vec<u64>, DataError> {
        let mut starts = vec![0];
        let (mut row, mut count, mut longest) = (0u64, 0, 0);
        for epoch in 0.. {
            for layout in self.layouts(epoch).iter() {
                let len = layout.iter().map(Piece::len).sum::<usize>();
                if count > 0 && (count + 1) * longest.max(len) > limit {
                    starts.push(row);
                    check_steps(starts.len() as u64 - 1)?;
                    (count, longest) = (0, 0);
                }
                if end.reached(row, starts.len() as u64 - 1) {
                    if count > 0 {
                        starts.push(row);
                    }
                    return Ok(starts);
                }
                (count, longest) = (count + 1, longest.max(len));
                row += 1;
            }
        }
        Ok(starts)
    }
}

/// Starts of steps of `size` rows each, the last one smaller if the run ends before.
fn regular_starts(size: usize, end: &RunEnd) -> Result<Vec<u64>, DataError> {
    let size = size.max(1) as u64;
    let (steps, rows) = match *end {
        RunEnd::Steps(steps) => (steps, u64::MAX),
        RunEnd::Rows(rows) => (rows.div_ceil(size), rows),
    };
    check_steps(steps)?;
    let start = |step: u64| step.saturating_mul(size).min(rows);
    Ok((0..=steps).map(start).collect())
}

/// The starts of all steps are listed: more of them than anyone means would fill the memory.
fn check_steps(steps: u64) -> Result<(), DataError> {
    if steps <= MOST_STEPS {
        return Ok(());
    }
    Err(DataError::Limits(format!(
        "the run has {steps} steps or more, and a stage may have {MOST_STEPS}"
    )))
}

/// Where the stream of rows ends.
enum RunEnd {
    Rows(u64),
    Steps(u64),
}

impl RunEnd {
    fn new(duration: Duration, rows_per_epoch: usize) -> Self {
        match duration {
            Duration::Steps(steps) => Self::Steps(steps),
            Duration::Epochs(epochs) => {
                Self::Rows(((epochs * rows_per_epoch as f64).round() as u64).max(1))
            }
        }
    }

    fn reached(&self, rows: u64, steps: u64) -> bool {
        match *self {
            Self::Rows(end) => rows >= end,
            Self::Steps(end) => steps >= end,
        }
    }
}

fn check(examples: &[TokenizedExample], recipe: &LayoutRecipe) -> Result<(), DataError> {
    let refuse = |reason: String| Err(DataError::Limits(reason));
    if examples.is_empty() {
        return refuse("no examples to train on".to_owned());
    }
    if recipe.max_seq_len < 2 {
        return refuse(format!(
            "`max-seq-len` is {}, expected 2 or more",
            recipe.max_seq_len
        ));
    }
    match recipe.batch {
        BatchSize::Rows(0) => return refuse("`batch.rows` is 0".to_owned()),
        BatchSize::Tokens(n) if n < recipe.max_seq_len => {
            return refuse(format!(
                "`batch.tokens` is {n}, less than `max-seq-len` {}",
                recipe.max_seq_len
            ));
        }
        _ => {}
    }
    Ok(())
}

fn check_duration(duration: Duration) -> Result<(), DataError> {
    let reason = match duration {
        Duration::Steps(0) => "`duration.steps` is 0".to_owned(),
        Duration::Epochs(x) if !(x > 0.0 && x.is_finite()) => {
            format!("`duration.epochs` is {x}, expected above 0")
        }
        _ => return Ok(()),
    };
    Err(DataError::Limits(reason))
}

/// One optimiser step of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftStep {
    /// In the order of the plan.
    pub rows: Vec<PackedRow>,
    /// What fills padded rows.
    pub pad: u32,
}

impl SftStep {
    /// Targets of the whole step: the number that its loss is divided by, however it is split. May
    /// be 0 if every row is a part of a long prompt.
    pub fn targets(&self) -> usize {
        self.rows.iter().map(PackedRow::targets).sum()
    }

    /// Tokens without padding.
    pub fn real_tokens(&self) -> usize {
        self.rows.iter().map(|r| r.tokens.len()).sum()
    }

    /// Positions computed, padding included.
    pub fn positions(&self) -> usize {
        self.rows.iter().map(PackedRow::positions).sum()
    }

    /// Ids of the documents, in order, each once.
    pub fn example_ids(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let ids = self.rows.iter().flat_map(|r| &r.segments).map(|s| &s.id);
        ids.filter(|id| seen.insert(*id)).cloned().collect()
    }

    /// Splits the step, in order, into batches of at most `max_positions` (or one row). A batch may
    /// be without targets.
    pub fn micro_batches(&self, max_positions: usize) -> Vec<TokenBatch> {
        let costs: Vec<usize> = self.rows.iter().map(PackedRow::positions).collect();
        let runs = split_by_cost(&costs, max_positions).into_iter();
        runs.map(|run| {
            let mut batch = TokenBatch::new();
            for row in &self.rows[run] {
                push_row(&mut batch, row, self.pad);
            }
            batch
        })
        .collect()
    }
}

fn push_row(batch: &mut TokenBatch, row: &PackedRow, pad: u32) {
    for (i, segment) in row.segments.iter().enumerate() {
        let tokens = &row.tokens[segment.start..segment.end];
        let is_target = |at: usize| row.loss_mask[segment.start + at];
        let last = i + 1 == row.segments.len();
        let padding = if last { row.padding } else { 0 };
        batch.push_segment(&segment.id, tokens, is_target, padding, pad);
    }
}

/// The pairs of every step of preference learning.
#[derive(Debug)]
pub struct PairPlan {
    pairs: usize,
    seed: SeedTree,
    starts: Vec<u64>,
    epoch: Mutex<Option<(u64, Arc<Vec<usize>>)>>,
}

impl PairPlan {
    /// Plans a whole run over `pairs` pairs (already selected), `batch` pairs a step.
    ///
    /// # Errors
    /// There are no pairs, or batch or duration leave no room for a step.
    pub fn new(
        pairs: usize,
        batch: usize,
        duration: Duration,
        seed: &SeedTree,
    ) -> Result<Self, DataError> {
        if pairs == 0 {
            return Err(DataError::Limits("no pairs to train on".to_owned()));
        }
        if batch == 0 {
            return Err(DataError::Limits("`global-batch-size` is 0".to_owned()));
        }
        check_duration(duration)?;
        Ok(Self {
            pairs,
            seed: seed.clone(),
            starts: regular_starts(batch, &RunEnd::new(duration, pairs))?,
            epoch: Mutex::new(None),
        })
    }

    /// Optimiser steps of the run.
    pub fn steps(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    /// Epochs shown after `steps` steps.
    pub fn epochs_after(&self, steps: u64) -> f64 {
        let last = self.starts.len() - 1;
        let shown = self.starts[usize::try_from(steps).unwrap_or(last).min(last)];
        shown as f64 / self.pairs as f64
    }

    /// Indices of the pairs of step `index` (from 0); none behind the last.
    pub fn step(&self, index: u64) -> Option<Vec<usize>> {
        let index = usize::try_from(index).ok()?;
        let (&start, &end) = (self.starts.get(index)?, self.starts.get(index + 1)?);
        let n = self.pairs as u64;
        Some(
            (start..end)
                .map(|at| self.order(at / n)[(at % n) as usize])
                .collect(),
        )
    }

    fn order(&self, epoch: u64) -> Arc<Vec<usize>> {
        let mut kept = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, order)) = kept.as_ref()
            && *at == epoch
        {
            return Arc::clone(order);
        }
        let seed = self.seed.child("data/order").index(epoch);
        let order = Arc::new(permutation(self.pairs, &seed));
        *kept = Some((epoch, Arc::clone(&order)));
        order
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;

#[cfg(test)]
mod bound_tests {
    use super::*;

    #[test]
    fn a_run_of_more_steps_than_anyone_means_is_refused() {
        let of = |duration| PairPlan::new(4_000, 1, duration, &SeedTree::root(1));
        assert_eq!(of(Duration::Epochs(2.0)).unwrap().steps(), 8_000);
        for duration in [
            Duration::Epochs(2_501.0),
            Duration::Steps(MOST_STEPS + 1),
            Duration::Steps(u64::MAX),
        ] {
            let error = of(duration).unwrap_err().to_string();
            assert!(error.contains("a stage may have 10000000"), "{error}");
        }
    }
}
