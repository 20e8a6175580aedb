//! `lions bench`: how fast this machine trains and samples.

use crate::backend::{THREAD_VARIABLES, restart_with_threads};
use crate::base::Device;
use crate::cli::cards::access;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::text::{bytes, counted, measured, si, si_of};
use crate::cli::ui::{Tone, Ui};
use crate::config::spec::{Batching, LossMask, Precision};
use crate::model::{tune_allocator, use_instruction_set};
use crate::report::ColumnFit;
use crate::stage::{
    BenchDevice, BenchKind, BenchModel, BenchReport, BenchRequest, BenchShape, BenchStep,
    BenchUnit, PhaseTime, Spread, bench,
};
use std::path::PathBuf;

/// Measure training steps, DPO steps or sampling on this machine
///
/// The same loop, objectives and sampler as in a run, on a model folder or on random weights of a
/// given shape. Speeds count real tokens only. `benches/compare` does the same work with PyTorch.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR", default_value = "models/stories260k")]
    model: PathBuf,
    /// Random weights of this shape instead, on random tokens: `15m`, or that of the `config.json` in
    /// a folder
    #[arg(long, conflicts_with_all = ["model", "data"], value_name = "SHAPE")]
    shape: Option<BenchShape>,
    /// Data file, more than once for several [default: the project's own]
    #[arg(long, value_name = "FILE")]
    data: Vec<String>,
    /// Steps that count; for `generate`, a step is all samples [default: 10, or 1]
    #[arg(long, value_name = "N", value_parser = at_least(1_u64))]
    steps: Option<u64>,
    /// Steps before them [default: 3, or 0]
    #[arg(long, value_name = "N", value_parser = at_least(0_u64))]
    warmup: Option<u64>,
    /// Longest document, pair, or prompt and completion, tokens [default: 512, with a shape 256]
    #[arg(long, value_name = "N", value_parser = at_least(2_u32))]
    max_seq_len: Option<u32>,
    /// Positions of a training step, padding included
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = at_least(1_usize))]
    batch_tokens: usize,
    /// How documents become rows
    #[arg(long, value_enum, default_value_t = BatchingArg::Concat)]
    batching: BatchingArg,
    /// Only assistant tokens are targets; else all that have a predecessor
    #[arg(long)]
    assistant_only: bool,
    /// Pairs of a DPO step
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least(1_usize))]
    pairs: usize,
    /// Prompts to sample from
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least(1_usize))]
    prompts: usize,
    /// Samples of each prompt
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least(1_usize))]
    samples: usize,
    /// Most tokens of a sample
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least(1_usize))]
    max_new_tokens: usize,
    /// Number format
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// Where to compute: `cpu` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    device: Device,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least(1_u32))]
    threads: u32,
    /// Instruction set of the kernels: `amx`, `avx512bf16`, `avx512`, `avx2` or `baseline` [default: the best here]
    #[arg(long, value_name = "SET")]
    isa: Option<String>,
    /// Seed of order, random weights, random tokens and samples
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least(0_u64))]
    seed: u64,
    /// Write what every step computes to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    work: Option<PathBuf>,
    /// Wait for a line on stdin before each step and answer each with a JSON line, so that steps can
    /// alternate with another program's; the end of stdin ends the measurement
    #[arg(long)]
    paced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Train,
    Dpo,
    Generate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BatchingArg {
    Padded,
    Concat,
    BestFit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PrecisionArg {
    F32,
    Bf16,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &BenchArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    if let Some(set) = &args.isa {
        use_instruction_set(set).map_err(CommandError::user)?;
    }
    limit_threads(args.threads)?;
    args.device.alone().map_err(CommandError::user)?;
    tune_allocator();
    let request = request(project.root, args);
    let report = bench(&request, &mut |step| !args.paced || pace(ui, step));
    let report = report.map_err(CommandError::user)?;
    if args.paced {
        ui.out(&serde_json::to_string(&report).map_err(CommandError::internal)?);
    } else if ui.json {
        ui.print_json(&report)?;
    } else {
        show(ui, &report);
    }
    Ok(DONE)
}

/// Says how the last step was and waits for the word to go on.
fn pace(ui: &Ui, step: Option<&BenchStep>) -> bool {
    match step.map(serde_json::to_string) {
        Some(Ok(line)) => ui.out(&line),
        Some(Err(_)) => return false,
        None => ui.out("{\"ready\": true}"),
    }
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .is_ok_and(|read| read > 0)
}

/// Sets the threads of the engine and of candle, as the runner does for an attempt.
fn limit_threads(threads: u32) -> Result<(), CommandError> {
    let threads = threads.to_string();
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is how candle is told"
    )]
    let is_set = |key: &&str| std::env::var(key).is_ok_and(|value| value == threads);
    if THREAD_VARIABLES.iter().all(is_set) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(CommandError::internal)?;
    let args = std::env::args_os().skip(1);
    Err(CommandError::internal(restart_with_threads(
        &program, args, &threads,
    )))
}

fn request(root: PathBuf, args: &BenchArgs) -> BenchRequest {
    let (kind, steps, warmup) = match args.what {
        What::Train => (BenchKind::Train, 10, 3),
        What::Dpo => (BenchKind::Dpo, 10, 3),
        What::Generate => (BenchKind::Generate, 1, 0),
    };
    let len = if args.shape.is_some() { 256 } else { 512 };
    BenchRequest {
        root,
        kind,
        model: match &args.shape {
            Some(shape) => BenchModel::Shape(shape.clone()),
            None => BenchModel::Folder(args.model.clone()),
        },
        data: args.data.clone(),
        steps: args.steps.unwrap_or(steps),
        warmup: args.warmup.unwrap_or(warmup),
        max_seq_len: args.max_seq_len.unwrap_or(len) as usize,
        batch_tokens: args.batch_tokens,
        batching: match args.batching {
            BatchingArg::Padded => Batching::Padded,
            BatchingArg::Concat => Batching::Concat,
            BatchingArg::BestFit => Batching::BestFit,
        },
        loss_mask: if args.assistant_only {
            LossMask::AssistantOnly
        } else {
            LossMask::AllTokens
        },
        pairs: args.pairs,
        prompts: args.prompts,
        samples: args.samples,
        max_new_tokens: args.max_new_tokens,
        precision: match args.precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
        },
        device: args.device,
        access: access(),
        seed: args.seed,
        work_file: args.work.clone(),
    }
}

fn show(ui: &Ui, report: &BenchReport) {
    ui.text(
        &ui.tone(
            Tone::Strong,
            &format!(
                "{} {}, {} parameters, {:?}, {}, {}, {}",
                report.bench,
                report.model,
                si(report.parameters as f64),
                report.precision,
                report.isa,
                counted(report.threads, "thread"),
                counted(report.steps as usize, "step"),
            )
            .to_lowercase(),
        ),
    );
    let items = match report.bench {
        "train" => "documents",
        "dpo" => "pairs",
        _ => "samples",
    };
    let mut rows = Vec::new();
    let mut row = |name: &str, spread: &Spread, unit: &str, scale: f64| {
        rows.push(vec![
            name.to_owned(),
            number(spread.median * scale),
            format!(
                "{} to {}",
                number(spread.low * scale),
                number(spread.high * scale)
            ),
            unit.to_owned(),
        ]);
    };
    row("real tokens", &report.tokens_per_cpu_sec, "/ CPU s", 1.0);
    row("", &report.tokens_per_wall_sec, "/ s", 1.0);
    row(items, &report.items_per_cpu_sec, "/ CPU s", 1.0);
    row("step", &report.cpu_secs, "CPU ms", 1e3);
    row("", &report.wall_secs, "ms", 1e3);
    let heads = ["", "median", "quartiles", ""];
    ui.headed_table(heads.map(|head| (head, ColumnFit::Whole)), rows);
    ui.out("");
    ui.text(&format!(
        "{}, {:.0} % of a {}x{} matrix product's {}; {}",
        si_of(report.flops_per_cpu_sec, "FLOP/CPU s"),
        report.share_of_matmul_rate * 100.0,
        report.matmul_size,
        report.matmul_size,
        si_of(report.matmul_flops_per_cpu_sec, "FLOP/CPU s"),
        si_of(report.flops_per_wall_sec, "FLOP/s"),
    ));
    for unit in &report.units {
        ui.text(&limit(unit));
    }
    if let Some(device) = &report.device {
        ui.text(&described(device));
    }
    ui.text(&format!(
        "peak memory {}, before the first step {}; padding {:.1} %",
        bytes(report.peak_memory_bytes as f64),
        bytes(report.memory_before_bytes as f64),
        report.padding_share * 100.0,
    ));
    if let (Some(first), Some(last)) = (report.first_loss, report.last_loss) {
        ui.out(&format!("loss {} to {}", measured(first), measured(last)));
    }
    ui.out("");
    let heads = ["phase", "CPU ms", "ms", "share"];
    let row = |phase: &PhaseTime| {
        vec![
            format!("{:?}", phase.phase).to_lowercase(),
            number(phase.seconds.cpu * 1e3),
            number(phase.seconds.wall * 1e3),
            format!("{:.0} %", phase.share * 100.0),
        ]
    };
    let columns = heads.map(|head| (head, ColumnFit::Whole));
    ui.headed_table(columns, report.phases.iter().map(row));
}

/// What a unit did, how much it could do, and how much of that a step was.
fn limit(unit: &BenchUnit) -> String {
    let most = unit.flops_per_cpu_sec.zip(unit.share).map(|(most, share)| {
        let most = si_of(most, "FLOP/CPU s");
        format!(": {most} at most, {:.0} % of it in a step", share * 100.0)
    });
    format!("{} by {}{}", unit.does, unit.isa, most.unwrap_or_default())
}

fn described(device: &BenchDevice) -> String {
    let share = device.share_of_peak;
    let share = share.map(|share| format!("{:.0} % of what its products can do; ", share * 100.0));
    format!(
        "{}: {}{} of its {} of memory",
        device.name,
        share.unwrap_or_default(),
        bytes(device.peak_memory_bytes as f64),
        bytes(device.total_memory_bytes as f64)
    )
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1e4 => si(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
