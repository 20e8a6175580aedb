//! What a plan costs on GPUs, in words.

use crate::cli::calibration::{command, measured};
use crate::cli::error::CommandError;
use crate::cli::text::{bytes, si_of};
use crate::config::spec::Precision;
use crate::config::sweep::Sweep;
use crate::gpu::cards;
use crate::plan::{DeviceRate, Gpu, MeasuredRates, Plan, PlannedRun, StageKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// Share of the peak taken where nothing is said.
const UTILISATION: f64 = 0.4;

// A doc comment here would replace the help of the command that takes these.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Tell GPU-hours and memory for these GPUs [default: a100 where a run computes in bf16]
    #[arg(long, value_enum, value_delimiter = ',')]
    gpu: Vec<GpuName>,
    /// Peak operations per second of the device, instead of a known GPU's, for example 400e12
    #[arg(long, value_name = "RATE")]
    device_flops: Option<f64>,
    /// Share of the peak that is reached, above 0 to 1 [default: 0.4, an assumption]
    #[arg(long, value_name = "SHARE")]
    mfu: Option<f64>,
    /// What `lions bench … --device cuda:N --json` printed, to tell hours by; repeatable
    #[arg(long, value_name = "FILE")]
    bench: Vec<PathBuf>,
    /// Runs that share a GPU, each with its part of the memory [default: of `lions.toml`, or 1]
    #[arg(long, value_name = "N")]
    runs_per_gpu: Option<NonZeroU32>,
}

/// A GPU on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GpuName {
    /// A100-80GB, 312e12 bf16 operations per second at peak
    A100,
    /// A100-40GB, 312e12
    #[value(name = "a100-40gb")]
    A100Of40,
    /// H100-80GB SXM, 989e12
    H100,
    /// H200-141GB SXM, 989e12
    H200,
    /// L40S-48GB, 362e12
    L40s,
    /// RTX 4090, 24 GB, 165e12
    #[value(name = "rtx4090")]
    Rtx4090,
    /// The first card of this machine
    Here,
}

impl GpuName {
    fn gpu(self) -> Result<Gpu, CommandError> {
        Ok(match self {
            Self::A100 => Gpu::A100,
            Self::A100Of40 => Gpu::A100Of40,
            Self::H100 => Gpu::H100,
            Self::H200 => Gpu::H200,
            Self::L40s => Gpu::L40s,
            Self::Rtx4090 => Gpu::Rtx4090,
            Self::Here => return at_hand(),
        })
    }
}

/// The first card of this machine.
fn at_hand() -> Result<Gpu, CommandError> {
    let hint = "name one, for example `--gpu h100`; `lions doctor` looks at this machine's";
    let shown = cards().map_err(|error| CommandError::user(error).hint(hint))?;
    let none = || CommandError::user("this machine has no card").hint(hint);
    let first = shown.cards.first().ok_or_else(none)?;
    let unknown = || {
        let why = format!("nothing is known of the speed of `{}`", first.name);
        CommandError::user(why).hint("say it with `--device-flops`")
    };
    Gpu::of_driver(&first.name, first.bytes as u64).ok_or_else(unknown)
}

impl DeviceArgs {
    /// What the plan is told for, and what of benches whoever reads it should know; nothing for a plan of CPU runs about which
    /// nothing was asked. `shared` is how many runs of the project share a GPU, if it says so.
    pub(crate) fn rates(
        &self,
        plan: &Plan,
        shared: Option<NonZeroU32>,
    ) -> Result<(Vec<DeviceRate>, Vec<String>), CommandError> {
        let utilisation = self.mfu.unwrap_or(UTILISATION);
        if !(utilisation > 0.0 && utilisation <= 1.0) {
            return Err(CommandError::user(format!(
                "`--mfu` must be above 0 to 1, not {utilisation}"
            )));
        }
        if let Some(flops) = self.device_flops
            && !(flops > 0.0 && flops.is_finite())
        {
            return Err(CommandError::user(format!(
                "`--device-flops` must be above 0, not {flops}"
            )));
        }
        let asked = !self.gpu.is_empty()
            || self.device_flops.is_some()
            || self.mfu.is_some()
            || self.runs_per_gpu.is_some_and(|runs| runs.get() > 1)
            || !self.bench.is_empty();
        if !asked && !plan.runs.iter().any(in_bf16) {
            return Ok((Vec::new(), Vec::new()));
        }
        let named = self.gpu.iter().map(|name| name.gpu().map(Some));
        let mut gpus = named.collect::<Result<Vec<_>, _>>()?;
        let benches = self.bench.iter().map(|file| measured(file));
        let benches = benches.collect::<Result<Vec<_>, _>>()?;
        if gpus.is_empty() && self.device_flops.is_none() {
            gpus.extend(benches.iter().map(|bench| Some(bench.gpu)));
        }
        let mut gpus = distinct(gpus);
        if gpus.is_empty() {
            gpus.push(self.device_flops.is_none().then_some(Gpu::A100));
        }
        let said = benches.iter().flat_map(|bench| bench.remarks(&plan.runs));
        let said = said.collect();
        let of_gpu = |gpu: Option<Gpu>| {
            let own = benches.iter().filter(|bench| Some(bench.gpu) == gpu);
            own.fold(MeasuredRates::default(), |all, bench| bench.rates().or(all))
        };
        let rate = |gpu: Option<Gpu>| {
            let peak_flops = self.device_flops.or(gpu.map(Gpu::peak_flops));
            peak_flops.map(|peak_flops| DeviceRate {
                gpu,
                peak_flops,
                utilisation,
                runs: self.runs_per_gpu.or(shared).unwrap_or(NonZeroU32::MIN),
                measured: of_gpu(gpu),
            })
        };
        let rates = gpus.into_iter().filter_map(rate).collect();
        Ok((rates, said))
    }
}

/// Each once, in the order in which they come first.
fn distinct(gpus: Vec<Option<Gpu>>) -> Vec<Option<Gpu>> {
    let mut seen = Vec::new();
    for gpu in gpus {
        if !seen.contains(&gpu) {
            seen.push(gpu);
        }
    }
    seen
}

fn in_bf16(run: &PlannedRun) -> bool {
    run.stage.task.precision() == Some(Precision::Bf16)
}

/// "one A100-80GB at 40 % of peak".
struct Shown(DeviceRate);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.0.utilisation * 100.0;
        match self.0.gpu {
            Some(gpu) if gpu.peak_flops().to_bits() == self.0.peak_flops.to_bits() => {
                write!(f, "one {} at {share:.0} % of peak", gpu.name())
            }
            _ => write!(
                f,
                "one device of {} at {share:.0} % of peak",
                si_of(self.0.peak_flops, "FLOP/s")
            ),
        }
    }
}

/// `0.02`, `12.3`, `4567`.
pub(crate) fn hours(value: f64) -> String {
    match value {
        _ if value < 0.995 => format!("{value:.2}"),
        _ if value < 999.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The lines under the table of stages: the hours of what is to do, and the stages that one device
/// cannot hold.
pub(crate) fn device_lines(rate: DeviceRate, todo: &[&PlannedRun]) -> Vec<String> {
    let mut lines = vec![format!(
        "≈ {} GPU-hours ({}{})",
        hours(hours_of(rate, todo)),
        Shown(rate),
        measured_words(rate, todo)
    )];
    for &kind in crate::plan::StageKind::ALL {
        let of_kind = || todo.iter().filter(|run| run.kind == kind);
        let peak = of_kind().map(|run| run.estimate.card_memory_bytes).max();
        let resident = of_kind()
            .map(|run| run.estimate.resident_card_memory_bytes)
            .max();
        let least = of_kind()
            .map(|run| run.estimate.least_card_memory_bytes)
            .max();
        let (Some(peak), Some(resident), Some(least)) = (peak, resident, least) else {
            continue;
        };
        let (Some(gpu), Some(has)) = (rate.gpu, rate.usable_bytes()) else {
            continue;
        };
        let (name, has) = (gpu.name(), bytes(has as f64));
        let shared = match rate.runs.get() {
            1 => String::new(),
            runs => format!(" of {runs} runs"),
        };
        if rate.too_small_for(least) && rate.runs.get() > 1 {
            lines.push(format!(
                "{kind} does not fit one {name} beside others: about {} are needed, and each of {} runs has {has}; \
                 fewer `--runs-per-gpu` leave it more",
                bytes(least as f64),
                rate.runs,
            ));
        } else if rate.too_small_for(least) {
            let would = Gpu::that_holds(least).map_or_else(String::new, |larger| {
                format!("one {} would hold it, and ", larger.name())
            });
            lines.push(format!(
                "{kind} does not fit one {name}: about {} are needed, it leaves a run {has}, and a run has one GPU; \
                 {would}a runtime with fewer `micro-batch-tokens` takes less",
                bytes(least as f64),
            ));
        } else if rate.too_small_for(resident) {
            lines.push(format!(
                "{kind} fits one {name}{shared} with the optimiser's state in the host's memory: {} there, {} on the GPU",
                bytes((resident - least) as f64),
                bytes(least as f64),
            ));
        } else if rate.too_small_for(peak) {
            lines.push(format!(
                "{kind} fits one {name}{shared} with some layers computed again in the backward pass: {} without, and it leaves a run {has}",
                bytes(peak as f64),
            ));
        }
    }
    lines
}

/// Hours of runs on one device.
pub(crate) fn hours_of(rate: DeviceRate, runs: &[&PlannedRun]) -> f64 {
    let each = runs.iter();
    let hours =
        each.map(|run| rate.hours(run.kind, run.stage.task.precision(), run.estimate.flops));
    // The sum of nothing is -0.
    hours.sum::<f64>() + 0.0
}

/// Stages to be done whose speed was measured, and how much of it; of one in two number formats the faster.
fn measured_kinds(rate: DeviceRate, todo: &[&PlannedRun]) -> Vec<(StageKind, f64)> {
    let of_kind = |kind: StageKind| {
        let runs = todo.iter().filter(move |run| run.kind == kind);
        let rates = runs.filter_map(|run| rate.measured.of(kind, run.stage.task.precision()));
        Some((kind, rates.max_by(f64::total_cmp)?))
    };
    StageKind::ALL
        .iter()
        .filter_map(|kind| of_kind(*kind))
        .collect()
}

/// "; as measured: sft 46 %".
fn measured_words(rate: DeviceRate, todo: &[&PlannedRun]) -> String {
    let kinds = measured_kinds(rate, todo);
    let word = |(kind, flops): &(StageKind, f64)| {
        format!("{kind} {:.0} %", flops / rate.peak_flops * 100.0)
    };
    match kinds.iter().map(word).collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        words => format!("; as measured: {}", words.join(", ")),
    }
}

/// That hours rest on no measurement, and how to make one.
pub(crate) fn uncalibrated_line(rates: &[DeviceRate], todo: &[&PlannedRun]) -> Option<String> {
    let is_not = |rate: &&DeviceRate| measured_kinds(**rate, todo).is_empty();
    rates.iter().find(is_not).filter(|_| !todo.is_empty())?;
    Some(format!(
        "hours are not calibrated: the share of the peak is an assumption. `{}` measures a GPU, `--bench bench.json` tells \
         hours by it",
        command(todo)
    ))
}

/// As an object for `--json`.
pub(crate) fn device_json(rate: DeviceRate, todo: &[&PlannedRun]) -> Value {
    let measured = measured_kinds(rate, todo).into_iter();
    let measured: BTreeMap<&str, f64> = measured.map(|(kind, rate)| (kind.name(), rate)).collect();
    let least = todo
        .iter()
        .map(|run| run.estimate.least_card_memory_bytes)
        .max();
    json!({
        "gpu": rate.gpu.map(Gpu::name), "peak_flops": rate.peak_flops,
        "utilisation": rate.utilisation, "memory_bytes": rate.memory_bytes(),
        "runs_per_gpu": rate.runs,
        "hours": hours_of(rate, todo), "measured_flops": measured, "fits": rate.gpu.map(|_| !rate.too_small_for(least.unwrap_or(0))),
    })
}

/// Missing inputs that the estimate takes to be as `[inputs]` says, and those that it counts as
/// nothing, in the order of the plan.
pub(crate) fn assumed<'p>(sweep: &Sweep, plan: &'p Plan) -> (Vec<&'p str>, Vec<&'p str>) {
    let known = |path: &&str| {
        sweep.inputs.get(*path).is_some_and(|input| {
            input.shape.is_some() || (input.rows.is_some() && input.tokens_per_row.is_some())
        })
    };
    let sized = plan
        .missing
        .iter()
        .filter(|input| input.what != "chat template");
    sized.map(|input| input.path.as_str()).partition(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_of_two_benches_is_told_once_wherever_they_stand() {
        let (h100, h200) = (Some(Gpu::H100), Some(Gpu::H200));
        assert_eq!(distinct(vec![h200, h100, h200]), [h200, h100]);
        assert!(distinct(Vec::new()).is_empty());
    }
}
