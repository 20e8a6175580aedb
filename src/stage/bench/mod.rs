//! Measures training and sampling: the same objectives, loop and sampler as a run, without a run.
//!
//! [`bench`] prepares the work of a [`BenchRequest`] (`work`), takes some steps to warm up and some
//! that count (`measure`), and reports medians with quartiles on both clocks (`report`). Nothing is
//! written but the file of [`BenchRequest::work_file`], with which another implementation can do
//! exactly the same work.

mod measure;
#[cfg(test)]
mod plan_tests;
mod report;
mod work;

use crate::config::spec::{Batching, LossMask, Precision};
use crate::stage::error::StageError;
use std::path::PathBuf;

pub use report::{BenchReport, BenchStep, PhaseTime, Spread};
pub use work::BenchShape;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchKind {
    /// Steps of supervised fine-tuning.
    Train,
    /// Steps of DPO with references computed beforehand.
    Dpo,
    /// Sampling; a step is all samples of all prompts.
    Generate,
}

impl BenchKind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dpo => "dpo",
            Self::Generate => "generate",
        }
    }
}

/// On which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BenchModel {
    /// A folder in Hugging Face layout, relative to the project root.
    Folder(PathBuf),
    /// Random weights and random tokens.
    Shape(BenchShape),
}

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// The project; paths of data and models are relative to it.
    pub root: PathBuf,
    /// What.
    pub kind: BenchKind,
    /// On which model.
    pub model: BenchModel,
    /// Data files; empty: the project's own. Not with a shape, whose tokens are random.
    pub data: Vec<String>,
    /// Steps that count.
    pub steps: u64,
    /// Steps before them.
    pub warmup: u64,
    /// Longest document or pair, tokens; longer ones are cut.
    pub max_seq_len: usize,
    /// Positions of a training step, padding included.
    pub batch_tokens: usize,
    /// How documents become rows.
    pub batching: Batching,
    /// Which targets count.
    pub loss_mask: LossMask,
    /// Pairs of a DPO step.
    pub pairs: usize,
    /// Prompts to sample from.
    pub prompts: usize,
    /// Samples of each.
    pub samples: usize,
    /// Most tokens of a sample.
    pub max_new_tokens: usize,
    /// Number format.
    pub precision: Precision,
    /// Seed of the order, of random weights and tokens, and of the samples.
    pub seed: u64,
    /// Where to write the work of every step, one JSON object a line.
    pub work_file: Option<PathBuf>,
}

/// Told when the first step is about to begin (`None`) and after every step; `false` ends the
/// measurement. What it takes is not counted.
pub type Between<'a> = dyn FnMut(Option<&BenchStep>) -> bool + 'a;

/// Measures what `request` asks for.
///
/// # Errors
/// Model or data cannot be read, there is nothing to do, or the work itself fails.
pub fn bench(request: &BenchRequest, between: &mut Between<'_>) -> Result<BenchReport, StageError> {
    let mut prepared = work::prepare(request)?;
    if let Some(path) = &request.work_file {
        work::write(&prepared, path)?;
    }
    measure::run(request, &mut prepared, between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: BenchKind) -> BenchRequest {
        BenchRequest {
            root: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
            kind,
            model: BenchModel::Folder("models/stories260k".into()),
            data: Vec::new(),
            steps: 2,
            warmup: 1,
            max_seq_len: 128,
            batch_tokens: 256,
            batching: Batching::Concat,
            loss_mask: LossMask::AllTokens,
            pairs: 3,
            prompts: 2,
            samples: 2,
            max_new_tokens: 6,
            precision: Precision::F32,
            seed: 1,
            work_file: None,
        }
    }

    #[test]
    fn packed_steps_count_their_tokens_and_padded_ones_leave_the_padding_out() {
        let report = bench(&request(BenchKind::Train), &mut |_| true).unwrap();
        assert_eq!((report.steps, report.real_tokens), (2, 512));
        assert!(report.padding_share.abs() < 1e-12);
        let padded = BenchRequest {
            batching: Batching::Padded,
            ..request(BenchKind::Train)
        };
        let report = bench(&padded, &mut |_| true).unwrap();
        assert!(report.real_tokens < 512 && report.padding_share > 0.0);
    }

    #[test]
    fn phases_add_up_to_the_step() {
        let mut steps: Vec<BenchStep> = Vec::new();
        bench(&request(BenchKind::Train), &mut |step| {
            steps.extend(step.cloned());
            true
        })
        .unwrap();
        assert_eq!(steps.len(), 3);
        assert!(steps[0].warmup && !steps[1].warmup);
        let share = |step: &BenchStep| {
            let sum: f64 = step.phases.values().map(|s| s.wall).sum();
            assert!(step.phases.len() == 5, "{:?}", step.phases);
            sum / step.seconds.wall
        };
        let shares: Vec<f64> = steps.iter().map(share).collect();
        assert!(shares.iter().all(|share| *share <= 1.0), "{shares:?}");
        // A busy machine may stop a step between two phases, but hardly all of them.
        assert!(shares.iter().any(|share| *share > 0.8), "{shares:?}");
    }

    #[test]
    fn a_measurement_that_is_told_to_stop_ends_with_what_it_has() {
        for kind in [BenchKind::Train, BenchKind::Generate] {
            let report =
                bench(&request(kind), &mut |step| step.is_none_or(|s| s.step < 2)).unwrap();
            assert_eq!(report.steps, 1);
        }
    }

    // All references are those of the policy itself at the start, so the first loss is ln 2.
    #[test]
    fn the_work_of_a_dpo_bench_is_written_with_its_references() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work.jsonl");
        let request = BenchRequest {
            work_file: Some(path.clone()),
            ..request(BenchKind::Dpo)
        };
        let report = bench(&request, &mut |_| true).unwrap();
        let first = report.first_loss.unwrap();
        assert!((first - std::f64::consts::LN_2).abs() < 1e-6, "{first}");
        let text = crate::base::fs::read_to_string(&path).unwrap();
        let steps: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(steps.len(), 3);
        for pair in steps.iter().flat_map(|s| s["pairs"].as_array().unwrap()) {
            assert!(pair["ref_chosen"].as_f64().unwrap() < 0.0);
        }
    }

    #[test]
    fn sampling_counts_the_tokens_that_it_drew() {
        let report = bench(&request(BenchKind::Generate), &mut |_| true).unwrap();
        // Two steps of two prompts and two samples, each of at most six tokens.
        assert!(
            (4..=48).contains(&report.real_tokens),
            "{}",
            report.real_tokens
        );
        let phases: Vec<_> = report.phases.iter().map(|p| p.phase).collect();
        assert!(
            phases.contains(&crate::model::phase_timer::Phase::Decode),
            "{phases:?}"
        );
    }

    #[test]
    fn a_shape_is_measured_without_weights_or_text() {
        let request = BenchRequest {
            model: BenchModel::Shape(BenchShape::Llama15M),
            steps: 1,
            warmup: 0,
            max_seq_len: 8,
            batch_tokens: 16,
            ..request(BenchKind::Train)
        };
        let report = bench(&request, &mut |_| true).unwrap();
        assert_eq!(report.parameters, 15_191_712);
        // Random weights know nothing: close to ln 32000 = 10.37.
        let first = report.first_loss.unwrap();
        assert!((first - 32_000f64.ln()).abs() < 0.5, "{first}");
    }
}
