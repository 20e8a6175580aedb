//! What a bench found: steps, medians and quartiles, shares of time.

use crate::config::spec::Precision;
use crate::model::phase_timer::{Phase, PhaseTimes, Seconds};
use crate::model::{MatmulRate, UnitLimit};
use serde::Serialize;

/// One step as it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchStep {
    /// From 1, those of the warm-up included.
    pub step: u64,
    /// Does not count.
    pub warmup: bool,
    /// Time of the whole step.
    pub seconds: Seconds,
    /// Time by phase; adds up to the whole but for the last few instructions.
    pub phases: PhaseTimes,
    /// Tokens of documents, pairs or completions, padding apart; a pair's prompt as often as the
    /// engine computed it.
    pub real_tokens: u64,
    /// Positions computed, padding included.
    pub positions: u64,
    /// Documents, pairs or samples.
    pub items: u64,
    /// Floating-point operations that the mathematics asks for.
    pub flops: f64,
    /// The step's loss, where there is one.
    pub loss: Option<f64>,
}

/// Median and quartiles over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the steps lie below.
    pub median: f64,
    /// A quarter lies below.
    pub low: f64,
    /// A quarter lies above.
    pub high: f64,
}

impl Spread {
    /// Of the given values, by linear interpolation; zeros if there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            match (values.get(below), values.get(above)) {
                (Some(&a), Some(&b)) => a + (b - a) * place.fract(),
                _ => 0.0,
            }
        };
        Self {
            median: at(0.5),
            low: at(0.25),
            high: at(0.75),
        }
    }
}

/// Median time of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhaseTime {
    /// Which.
    pub phase: Phase,
    /// Medians over the steps.
    pub seconds: Seconds,
    /// Of the processor time of all phases.
    pub share: f64,
}

/// The device beside the processor that computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchDevice {
    /// Its name.
    pub name: String,
    /// Most memory that the work had there at a time, bytes.
    pub peak_memory_bytes: u64,
    /// Memory of the device, bytes.
    pub total_memory_bytes: u64,
    /// The most that it can do in this number format, operations a second, where that is known.
    pub peak_flops: Option<f64>,
    /// Useful operations a second of the wall clock, as a share of that.
    pub share_of_peak: Option<f64>,
}

/// A unit of the processor that computed, and the most that it can do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchUnit {
    /// `products`, `the rest` or `everything`.
    pub does: &'static str,
    /// The instruction set whose tiles or vectors it is.
    pub isa: &'static str,
    /// Operations a second of processor time of independent multiply-adds in registers; none where that is not
    /// known.
    pub flops_per_cpu_sec: Option<f64>,
    /// Useful operations of a step, of products and all else, as a share of that.
    pub share: Option<f64>,
}

/// What was measured, over the steps that count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// `train`, `dpo` or `generate`.
    pub bench: &'static str,
    /// Folder or shape.
    pub model: String,
    /// Its parameters.
    pub parameters: u64,
    /// Number format.
    pub precision: Precision,
    /// Instruction set of the kernels.
    pub isa: &'static str,
    /// Threads of the engine.
    pub threads: usize,
    /// Steps that count.
    pub steps: u64,
    /// Real tokens a second of processor time.
    pub tokens_per_cpu_sec: Spread,
    /// Real tokens a second of the wall clock.
    pub tokens_per_wall_sec: Spread,
    /// Documents, pairs or samples a second of processor time.
    pub items_per_cpu_sec: Spread,
    /// Documents, pairs or samples a second of the wall clock.
    pub items_per_wall_sec: Spread,
    /// Real tokens of all steps.
    pub real_tokens: u64,
    /// Positions of all steps that were padding, over all positions.
    pub padding_share: f64,
    /// Useful operations a second of processor time.
    pub flops_per_cpu_sec: f64,
    /// Useful operations a second of the wall clock.
    pub flops_per_wall_sec: f64,
    /// Rows of the square product by which the machine's rate was taken.
    pub matmul_size: usize,
    /// Its operations a second of processor time.
    pub matmul_flops_per_cpu_sec: f64,
    /// Its operations a second of the wall clock.
    pub matmul_flops_per_wall_sec: f64,
    /// Share of that rate, by processor time.
    pub share_of_matmul_rate: f64,
    /// What computed, if that was the processor.
    pub units: Vec<BenchUnit>,
    /// Largest resident size up to the last step, bytes (`VmHWM`).
    pub peak_memory_bytes: u64,
    /// Resident size before the first step, bytes: program, weights and data.
    pub memory_before_bytes: u64,
    /// Processor seconds of a step.
    pub cpu_secs: Spread,
    /// Wall seconds of a step.
    pub wall_secs: Spread,
    /// Where the time went, in the order of a step.
    pub phases: Vec<PhaseTime>,
    /// Loss of the first step, those of the warm-up included.
    pub first_loss: Option<f64>,
    /// Loss of the last step.
    pub last_loss: Option<f64>,
    /// What computed, if that was not the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<BenchDevice>,
}

/// What a report needs beside the steps.
pub(super) struct Setting {
    pub(super) bench: &'static str,
    pub(super) model: String,
    pub(super) parameters: u64,
    pub(super) precision: Precision,
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    pub(super) rate: MatmulRate,
    /// What makes products, and what does the rest.
    pub(super) units: [UnitLimit; 2],
    pub(super) peak_memory_bytes: u64,
    pub(super) memory_before_bytes: u64,
    pub(super) device: Option<BenchDevice>,
}

impl BenchReport {
    /// Medians over the steps of `all` that count.
    pub(super) fn new(setting: Setting, all: &[BenchStep]) -> Self {
        let steps: Vec<&BenchStep> = all.iter().filter(|step| !step.warmup).collect();
        let spread = |of: &dyn Fn(&BenchStep) -> f64| Spread::of(steps.iter().map(|s| of(s)));
        let (cpu, wall) = (
            |s: &BenchStep| s.seconds.cpu.max(1e-12),
            |s: &BenchStep| s.seconds.wall.max(1e-12),
        );
        let real_tokens: u64 = steps.iter().map(|s| s.real_tokens).sum();
        let positions: u64 = steps.iter().map(|s| s.positions).sum();
        let flops_per_cpu_sec = spread(&|s| s.flops / cpu(s)).median;
        let flops_per_wall_sec = spread(&|s| s.flops / wall(s)).median;
        let rate = setting.rate;
        Self {
            bench: setting.bench,
            model: setting.model,
            parameters: setting.parameters,
            precision: setting.precision,
            isa: setting.isa,
            threads: setting.threads,
            steps: steps.len() as u64,
            tokens_per_cpu_sec: spread(&|s| s.real_tokens as f64 / cpu(s)),
            tokens_per_wall_sec: spread(&|s| s.real_tokens as f64 / wall(s)),
            items_per_cpu_sec: spread(&|s| s.items as f64 / cpu(s)),
            items_per_wall_sec: spread(&|s| s.items as f64 / wall(s)),
            real_tokens,
            padding_share: 1.0 - real_tokens as f64 / positions.max(1) as f64,
            flops_per_cpu_sec,
            flops_per_wall_sec,
            matmul_size: rate.size,
            matmul_flops_per_cpu_sec: rate.per_cpu_sec(),
            matmul_flops_per_wall_sec: rate.per_wall_sec(),
            share_of_matmul_rate: flops_per_cpu_sec / rate.per_cpu_sec(),
            units: match setting.device {
                Some(_) => Vec::new(),
                None => units(setting.units, flops_per_cpu_sec),
            },
            peak_memory_bytes: setting.peak_memory_bytes,
            memory_before_bytes: setting.memory_before_bytes,
            cpu_secs: spread(&cpu),
            wall_secs: spread(&wall),
            phases: phases(&steps),
            first_loss: all.first().and_then(|s| s.loss),
            last_loss: all.last().and_then(|s| s.loss),
            device: setting.device.map(|device| BenchDevice {
                share_of_peak: device.peak_flops.map(|peak| flops_per_wall_sec / peak),
                ..device
            }),
        }
    }
}

/// The units of products and of the rest, or the one that does both.
fn units([products, rest]: [UnitLimit; 2], flops_per_cpu_sec: f64) -> Vec<BenchUnit> {
    let unit = |does, limit: UnitLimit| BenchUnit {
        does,
        isa: limit.unit,
        flops_per_cpu_sec: limit.flops_per_cpu_sec,
        share: limit.flops_per_cpu_sec.map(|most| flops_per_cpu_sec / most),
    };
    if products.unit == rest.unit {
        return vec![unit("everything", products)];
    }
    vec![unit("products", products), unit("the rest", rest)]
}

fn phases(steps: &[&BenchStep]) -> Vec<PhaseTime> {
    let mut names: Vec<Phase> = steps
        .iter()
        .flat_map(|s| s.phases.keys().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    let time = |phase: Phase| {
        let of = |clock: fn(&Seconds) -> f64| {
            let times = steps
                .iter()
                .map(|s| s.phases.get(&phase).map_or(0.0, clock));
            Spread::of(times).median
        };
        Seconds {
            wall: of(|s| s.wall),
            cpu: of(|s| s.cpu),
        }
    };
    let times: Vec<(Phase, Seconds)> = names.into_iter().map(|p| (p, time(p))).collect();
    let whole: f64 = times.iter().map(|(_, s)| s.cpu).sum();
    times
        .into_iter()
        .map(|(phase, seconds)| PhaseTime {
            phase,
            seconds,
            share: seconds.cpu / whole.max(1e-12),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_neighbours() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert!((spread.median - 2.5).abs() < 1e-12);
        assert!((spread.low - 1.75).abs() < 1e-12 && (spread.high - 3.25).abs() < 1e-12);
        assert_eq!(Spread::of([]), Spread::default());
    }
}
