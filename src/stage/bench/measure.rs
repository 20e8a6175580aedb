//! Takes the steps and looks at the clocks.

use crate::arch::{DecoderConfig, Pass, forward_flops, parameter_count};
use crate::config::spec::Precision;
use crate::generate::{Completion, Generator, SampleJob, sample};
use crate::model::phase_timer::{self, Moment};
use crate::model::{dtype_of, instruction_set, matmul_rate, unit_limit};
use crate::stage::bench::recipe::BenchRecipe;
use crate::stage::bench::report::{BenchReport, BenchStep, Setting};
use crate::stage::bench::request::{BenchModel, BenchRequest, Between};
use crate::stage::bench::work::{Prepared, Sampling, Work};
use crate::stage::error::StageError;
use crate::train::{
    Engine, LrSchedule, Objective, Observer, Scorer, StepOutput, TrainError, Training,
};
use candle_core::Device;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Rows of the square product that gives the machine's rate.
const RATE_SIZE: usize = 1024;
/// How often it is taken.
const RATE_REPEATS: usize = 8;

/// Measures the prepared work.
pub(super) fn run(
    request: &BenchRequest,
    prepared: &mut Prepared,
    between: &mut Between<'_>,
) -> Result<BenchReport, StageError> {
    let memory_before_bytes = memory("VmRSS:");
    let log = StepLog {
        warmup: request.warmup,
        begin: Moment::now(),
        steps: Vec::new(),
        between,
    };
    let (place, config, params) = (&prepared.place, &prepared.config, &prepared.params);
    let recipe = BenchRecipe::read()?;
    let rate = recipe.optimizer.learning_rate.get();
    let schedule = LrSchedule::new(&recipe.schedule, rate, prepared.steps);
    let training = || {
        // No state is ever saved, so nobody looks at the folder and the owner.
        let (work, owner) = (PathBuf::new(), String::new());
        let engine = place.engine(request, (config, params), &recipe)?;
        let training = Training::new(engine, &recipe.optimizer, schedule, work, owner);
        Ok::<_, StageError>(training)
    };
    let steps = match &mut prepared.work {
        Work::Generate(sampling) => {
            let mut model = place.model(request.precision, config, params)?;
            draw((&mut *model, config), sampling, prepared.steps, log)?
        }
        Work::Train(objective) => train(training()?, objective, log)?,
        Work::Dpo(objective) => train(training()?, objective, log)?,
    };
    let setting = Setting {
        bench: request.kind.name(),
        model: match &request.model {
            BenchModel::Folder(path) => path.display().to_string(),
            BenchModel::Shape(shape) => shape.name(),
        },
        parameters: parameter_count(config),
        precision: request.precision,
        isa: instruction_set(),
        threads: rayon::current_num_threads(),
        // Read before the square products, which would count as the work's own.
        peak_memory_bytes: memory("VmHWM:"),
        memory_before_bytes,
        device: place.described(request.precision)?,
        units: [request.precision == Precision::Bf16, false]
            .map(|bf16| unit_limit(bf16, RATE_REPEATS)),
        rate: matmul_rate(
            RATE_SIZE,
            RATE_REPEATS,
            dtype_of(request.precision),
            &Device::Cpu,
        )?,
    };
    Ok(BenchReport::new(setting, &steps))
}

/// The steps so far, and who is told between them.
struct StepLog<'a, 'b> {
    warmup: u64,
    begin: Moment,
    steps: Vec<BenchStep>,
    between: &'a mut Between<'b>,
}

impl StepLog<'_, '_> {
    /// Waits for leave to begin; `false`: there will be no step.
    fn ready(&mut self) -> bool {
        let go = (self.between)(None);
        self.begin_step();
        go
    }

    fn begin_step(&mut self) {
        self.begin = Moment::now();
        phase_timer::start();
    }

    /// Notes the step that has just ended; `false`: it was the last.
    fn end_step(&mut self, mut step: BenchStep) -> bool {
        step.seconds = self.begin.elapsed();
        step.phases = phase_timer::stop();
        step.step = self.steps.len() as u64 + 1;
        step.warmup = step.step <= self.warmup;
        self.steps.push(step);
        let go = (self.between)(self.steps.last());
        self.begin_step();
        go
    }
}

/// The objective itself, with a note of what each step did.
struct Noted<'a, O> {
    inner: &'a mut O,
    last: &'a RefCell<BenchStep>,
}

impl<O: Objective> Objective for Noted<'_, O> {
    fn backward(&mut self, engine: &mut dyn Engine, step: u64) -> Result<StepOutput, TrainError> {
        let out = self.inner.backward(engine, step)?;
        self.last.replace(BenchStep {
            real_tokens: out.tokens,
            positions: out.positions,
            items: out.examples.len() as u64,
            flops: out.flops,
            loss: Some(out.loss),
            ..BenchStep::default()
        });
        Ok(out)
    }

    fn monitor_every(&self) -> Option<u64> {
        None
    }

    fn monitor(&mut self, model: &mut dyn Scorer) -> Result<BTreeMap<String, f64>, TrainError> {
        self.inner.monitor(model)
    }
}

/// Ends a step when the loop reports it.
struct Clocked<'a, 'b, 'c> {
    log: StepLog<'a, 'b>,
    last: &'c RefCell<BenchStep>,
}

impl Observer for Clocked<'_, '_, '_> {
    fn on_metrics(&mut self, _: u64, _: &BTreeMap<String, f64>) -> Result<(), TrainError> {
        if self.log.end_step(self.last.take()) {
            Ok(())
        } else {
            Err(TrainError::Stopped)
        }
    }

    fn on_checkpoint(&mut self, _: u64) -> Result<(), TrainError> {
        Ok(())
    }

    fn wants_checkpoint(&mut self, _: u64) -> bool {
        false
    }

    fn stop_requested(&mut self) -> bool {
        false
    }
}

/// The loop of every training stage over `objective`.
fn train(
    mut training: Training,
    objective: &mut impl Objective,
    mut log: StepLog<'_, '_>,
) -> Result<Vec<BenchStep>, StageError> {
    if !log.ready() {
        return Ok(Vec::new());
    }
    let last = RefCell::default();
    let mut noted = Noted {
        inner: objective,
        last: &last,
    };
    let mut clocked = Clocked { log, last: &last };
    match training.run(&mut noted, &mut clocked) {
        Ok(_) | Err(TrainError::Stopped) => Ok(clocked.log.steps),
        Err(error) => Err(error.into()),
    }
}

/// All samples of all prompts, as often as there are steps.
fn draw(
    (model, config): (&mut dyn Generator, &DecoderConfig),
    sampling: &Sampling,
    steps: u64,
    mut log: StepLog<'_, '_>,
) -> Result<Vec<BenchStep>, StageError> {
    let mut go = log.ready();
    for step in 0..steps {
        if !go {
            break;
        }
        let seed = sampling.seed.index(step);
        let job = SampleJob {
            prompts: &sampling.prompts,
            samples: sampling.samples,
            recipe: &sampling.recipe,
            stop: &sampling.stop,
            until: None,
            seed: &seed,
            // As in the `sample` and `eval` stages.
            batch: usize::MAX,
        };
        let completions = sample(model, &job, &mut |_| true)?;
        go = log.end_step(drawn(config, sampling, &completions));
    }
    Ok(log.steps)
}

/// Tokens drawn, the one that ends a completion included; operations of prompts (each once) and
/// of new tokens.
fn drawn(config: &DecoderConfig, sampling: &Sampling, completions: &[Completion]) -> BenchStep {
    let mut step = BenchStep::default();
    let mut pass = Pass::default();
    for (prompt, tokens) in sampling.prompts.iter().enumerate() {
        let own = completions.iter().filter(|c| c.prompt == prompt);
        let drawn: Vec<usize> = own
            .map(|c| c.tokens.len() + usize::from(c.finished))
            .collect();
        step.real_tokens += drawn.iter().sum::<usize>() as u64;
        step.items += drawn.len() as u64;
        let drawn = drawn.into_iter().map(|tokens| tokens as f64);
        pass.add_samples(tokens.len() as f64, drawn);
    }
    step.flops = forward_flops(config, &pass);
    step.positions = step.real_tokens;
    step
}

/// A line of `/proc/self/status` in bytes; 0 where there is none.
fn memory(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
