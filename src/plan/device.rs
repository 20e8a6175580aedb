//! From operations to GPU-hours: as fast as a bench measured such work, else by the vendor's peak and a stated utilisation.

use crate::arch::{share_of_card, usable_of_card};
use crate::config::spec::Precision;
use crate::plan::stage::StageKind;
use std::num::NonZeroU32;
use strum::VariantArray;

/// A GPU whose data sheet is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Gpu {
    /// NVIDIA GeForce RTX 4090.
    Rtx4090,
    /// NVIDIA A100 with 40 GB.
    A100Of40,
    /// NVIDIA L40S.
    L40s,
    /// NVIDIA A100 with 80 GB.
    A100,
    /// NVIDIA H100 SXM with 80 GB.
    H100,
    /// NVIDIA H200 SXM.
    H200,
}

/// What is known of a GPU.
struct Sheet {
    name: &'static str,
    /// What its driver calls it, behind "NVIDIA" and among other words.
    driver_name: &'static str,
    /// Dense bfloat16 peak with sums in f32, operations per second, of the vendor's data sheets.
    peak_flops: f64,
    /// Memory as the driver reports it, MiB.
    memory: u64,
}

impl Gpu {
    fn sheet(self) -> Sheet {
        let (name, driver_name, peak_flops, memory) = match self {
            Self::Rtx4090 => ("RTX-4090-24GB", "RTX 4090", 165.2e12, 24_564),
            Self::A100Of40 => ("A100-40GB", "A100", 312e12, 40_960),
            Self::L40s => ("L40S-48GB", "L40S", 362.05e12, 46_068),
            Self::A100 => ("A100-80GB", "A100", 312e12, 81_920),
            Self::H100 => ("H100-80GB", "H100", 989e12, 81_559),
            Self::H200 => ("H200-141GB", "H200", 989e12, 143_771),
        };
        Sheet {
            name,
            driver_name,
            peak_flops,
            memory,
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        self.sheet().name
    }

    /// Dense bfloat16 peak with sums in f32, operations per second, of the vendor's data sheets.
    pub fn peak_flops(self) -> f64 {
        self.sheet().peak_flops
    }

    /// Memory, bytes.
    pub fn memory_bytes(self) -> u64 {
        self.sheet().memory << 20
    }

    /// The one that a driver calls so and that has so much memory, in bytes, to a tenth.
    pub fn of_driver(name: &str, memory_bytes: u64) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|gpu| {
            let share = memory_bytes as f64 / gpu.memory_bytes() as f64;
            name.contains(gpu.sheet().driver_name) && (0.9..=1.1).contains(&share)
        })
    }

    /// The smallest one whose memory is enough for a run alone that takes so much.
    pub fn that_holds(bytes: u64) -> Option<Self> {
        let all = Self::VARIANTS.iter().copied();
        all.filter(|gpu| bytes <= usable_of_card(gpu.memory_bytes(), NonZeroU32::MIN))
            .min_by_key(|gpu| gpu.memory_bytes())
    }
}

/// What `lions bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
pub enum Bench {
    /// Supervised fine-tuning.
    Train,
    /// DPO, its reference included.
    Dpo,
    /// Sampling.
    Generate,
}

impl Bench {
    /// On the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dpo => "dpo",
            Self::Generate => "generate",
        }
    }

    /// What measures the work of a stage, if anything does.
    pub fn of(kind: StageKind) -> Option<Self> {
        match kind {
            StageKind::Sft => Some(Self::Train),
            StageKind::Dpo | StageKind::RefLogps => Some(Self::Dpo),
            StageKind::Sample => Some(Self::Generate),
            StageKind::Select | StageKind::Judge | StageKind::Eval => None,
        }
    }
}

/// How fast work went in benches, operations per second: of each kind in each number format.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeasuredRates([[Option<f64>; 2]; 3]);

impl MeasuredRates {
    /// What one bench measured.
    pub fn one(bench: Bench, precision: Precision, rate: f64) -> Self {
        let mut rates = Self::default();
        rates.0[bench as usize][precision as usize] = Some(rate);
        rates
    }

    /// These, and those of `other` that these lack.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let all = self.0.as_flattened_mut().iter_mut();
        for (ours, theirs) in all.zip(other.0.as_flattened()) {
            *ours = ours.or(*theirs);
        }
        self
    }

    /// Of the work of a stage in a number format, if it was measured.
    pub fn of(self, kind: StageKind, precision: Option<Precision>) -> Option<f64> {
        self.0[Bench::of(kind)? as usize][precision? as usize]
    }
}

/// How fast the work is taken to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceRate {
    /// Which GPU, where it is one of those known.
    pub gpu: Option<Gpu>,
    /// Peak, operations per second.
    pub peak_flops: f64,
    /// Share of the peak that is reached, above 0 to 1: the model FLOPs utilisation of Chowdhery et
    /// al. 2022 (PaLM, appendix B).
    pub utilisation: f64,
    /// Runs that share one.
    pub runs: NonZeroU32,
    /// What was measured, which goes before the share of the peak.
    pub measured: MeasuredRates,
}

impl DeviceRate {
    /// Hours that one such device needs for `flops` operations of a stage whose model computes in `precision`.
    pub fn hours(self, kind: StageKind, precision: Option<Precision>, flops: f64) -> f64 {
        let stated = self.peak_flops * self.utilisation;
        // The sum of nothing is -0, and so would be the hours.
        flops / self.measured.of(kind, precision).unwrap_or(stated) / 3600.0 + 0.0
    }

    /// What a run has of such a device's memory, bytes; nothing where that is not known.
    pub fn memory_bytes(self) -> Option<u64> {
        let gpu = self.gpu?;
        Some(share_of_card(gpu.memory_bytes(), self.runs))
    }

    /// What a run's arrays may take of that, as the run finds it when it begins, bytes.
    pub fn usable_bytes(self) -> Option<u64> {
        let gpu = self.gpu?;
        Some(usable_of_card(gpu.memory_bytes(), self.runs))
    }

    /// Whether `bytes` are more than a run's arrays may take of such a device; `false` where its memory is not known.
    pub fn too_small_for(self, bytes: u64) -> bool {
        self.usable_bytes().is_some_and(|has| bytes > has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // By hand: 312e12 · 0.4 · 3600 = 4.4928e17 operations an hour.
    #[test]
    fn an_hour_is_peak_times_share_times_3600_operations() {
        let rate = DeviceRate {
            gpu: Some(Gpu::A100),
            peak_flops: Gpu::A100.peak_flops(),
            utilisation: 0.4,
            runs: NonZeroU32::MIN,
            measured: MeasuredRates::default(),
        };
        let (bf16, full) = (Some(Precision::Bf16), Some(Precision::F32));
        assert!((rate.hours(StageKind::Sft, bf16, 4.4928e17) - 1.0).abs() < 1e-12);
        let nothing: f64 = [].iter().sum();
        assert!(rate.hours(StageKind::Sft, bf16, nothing).is_sign_positive());
        let measured = MeasuredRates::one(Bench::Train, Precision::Bf16, 2.0 * 312e12 * 0.4);
        let rate = DeviceRate { measured, ..rate };
        assert!((rate.hours(StageKind::Sft, bf16, 4.4928e17) - 0.5).abs() < 1e-12);
        assert!((rate.hours(StageKind::Sft, full, 4.4928e17) - 1.0).abs() < 1e-12);
        assert!((rate.hours(StageKind::Eval, bf16, 4.4928e17) - 1.0).abs() < 1e-12);
        assert!(rate.too_small_for(77 << 30) && !rate.too_small_for(76 << 30));
        let runs = NonZeroU32::new(4).unwrap();
        let quarter = DeviceRate { runs, ..rate };
        assert!(quarter.too_small_for(19 << 30) && !quarter.too_small_for(18 << 30));
    }

    #[test]
    fn a_gpu_is_known_by_its_drivers_name_and_its_memory() {
        let found = |name, gib: u64| Gpu::of_driver(name, gib << 30);
        assert_eq!(found("NVIDIA H200", 140), Some(Gpu::H200));
        assert_eq!(found("NVIDIA A100-SXM4-80GB", 80), Some(Gpu::A100));
        assert_eq!(found("NVIDIA A100-PCIE-40GB", 40), Some(Gpu::A100Of40));
        assert_eq!(found("NVIDIA GeForce RTX 4090", 24), Some(Gpu::Rtx4090));
        // A part of one is not that one.
        assert_eq!(found("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40), None);
        assert_eq!(found("Tesla T4", 16), None);
        assert_eq!(Gpu::that_holds(41 << 30), Some(Gpu::L40s));
        // Of two called 80GB the one with less, in its driver's words.
        assert_eq!(Gpu::that_holds(76 << 30), Some(Gpu::H100));
        assert_eq!(Gpu::that_holds(78_592 << 20), Some(Gpu::A100));
        assert_eq!(Gpu::that_holds(81_920 << 20), Some(Gpu::H200));
        assert_eq!(Gpu::that_holds(200 << 30), None);
    }
}
