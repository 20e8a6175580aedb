//! From a request to a report.

use crate::stage::bench::report::BenchReport;
use crate::stage::bench::request::{BenchRequest, Between};
use crate::stage::bench::{measure, work};
use crate::stage::error::StageError;

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
    use crate::base::Device;
    use crate::config::spec::{Batching, LossMask, Precision};
    use crate::stage::bench::report::BenchStep;
    use crate::stage::bench::request::{BenchKind, BenchModel, BenchShape};
    use crate::stage::device::DeviceAccess;
    use std::path::PathBuf;

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
            device: Device::Cpu,
            access: DeviceAccess::default(),
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
    fn every_kind_is_measured_on_a_device_with_the_losses_of_the_processor() {
        for kind in [BenchKind::Train, BenchKind::Dpo, BenchKind::Generate] {
            let small = BenchRequest {
                steps: 1,
                max_seq_len: 48,
                batch_tokens: 48,
                pairs: 1,
                prompts: 1,
                max_new_tokens: 2,
                ..request(kind)
            };
            let on_device = BenchRequest {
                device: Device::Emulated,
                access: DeviceAccess {
                    emulation: Some(lions_emulation::LIBRARY.into()),
                    ..DeviceAccess::default()
                },
                ..small.clone()
            };
            let want = bench(&small, &mut |_| true).unwrap();
            let got = bench(&on_device, &mut |_| true).unwrap();
            assert_eq!(got.real_tokens, want.real_tokens);
            let both = got.last_loss.zip(want.last_loss);
            assert!(both.is_none_or(|(got, want)| (got - want).abs() < 1e-4));
            assert_eq!(both.is_some(), kind != BenchKind::Generate);
            let device = got.device.unwrap();
            assert_eq!((&*device.name, device.share_of_peak), ("emulated", None));
            assert!(device.peak_memory_bytes > 1_000_000);
            assert!(device.peak_memory_bytes < device.total_memory_bytes);
            assert!(want.device.is_none());
        }
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
