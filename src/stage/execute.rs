//! One attempt, from `stage.json` to `result.json`.

use crate::model::tune_allocator;
use crate::plan::StageRecipe;
use crate::rundir::{
    AttemptDir, AttemptEvent, OUTCOME_FORMAT, Provenance, StageResult, Usage, digest_folder,
    read_stage, write_made, write_provenance, write_result,
};
use crate::stage::attempt::Attempt;
use crate::stage::context::StageContext;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::telemetry::{HeartbeatThread, Telemetry};
use crate::stage::{dpo, eval, judge, ref_logps, sample, select, sft};
use candle_core::Device;
use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Carries out the run of `context.run_dir` as attempt `context.attempt`.
///
/// Writes only below the attempt's folder: events while it works, resumable states in `work/`,
/// artifacts in `out/`, and `result.json` as its last act. A failure, a panic included, is told as
/// an event before it is returned; `Interrupted` means that the state is saved and a later attempt
/// goes on from it.
///
/// # Errors
/// See [`StageError`]; its `class` says what a retry could help.
pub fn execute(context: &StageContext) -> Result<StageResult, StageError> {
    tune_allocator();
    let attempt = context.run_dir.attempt(context.attempt);
    let mut telemetry = Telemetry::start(&attempt)?;
    let heartbeat = HeartbeatThread::start(&attempt)?;
    let ended = carry_out(context, &attempt, &mut telemetry);
    drop(heartbeat);
    let last = match &ended {
        Ok(_) => AttemptEvent::Finished,
        Err(StageError::Interrupted) => AttemptEvent::Interrupted,
        Err(error) => AttemptEvent::Failed {
            class: error.class(),
            message: error.chain_text(),
        },
    };
    let told = telemetry.tell(&last);
    let told = told.and_then(|()| telemetry.sync());
    match (ended, told) {
        // A failure is worth more than the failure to tell of it.
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(error.into()),
        (Ok(result), Ok(())) => Ok(result),
    }
}

fn carry_out(
    context: &StageContext,
    attempt: &AttemptDir,
    telemetry: &mut Telemetry,
) -> Result<StageResult, StageError> {
    let device = context.device;
    let started = context.clock.now();
    let provenance =
        Provenance::of_this_process(context.argv.clone(), device, started, context.facts.clone());
    write_provenance(attempt, &provenance)?;
    telemetry.tell(&AttemptEvent::Started { device })?;
    let made = catch_unwind(AssertUnwindSafe(|| work(context, attempt, telemetry)))
        .unwrap_or_else(|panic| Err(StageError::Panic(panic_text(panic.as_ref()))))?;
    let result = StageResult {
        format: OUTCOME_FORMAT,
        artifacts: made.artifacts,
        metrics: made.metrics,
        counts: made.counts,
        notes: made.notes,
        usage: Usage {
            tokens: made.usage.tokens,
            positions: made.usage.positions,
            flops: made.usage.flops,
            device_memory_bytes: made.usage.device_memory_bytes,
            ..telemetry.usage()
        },
    };
    let mut files = digest_folder(&attempt.out())?;
    files.retain(|file| {
        let named = |name: &String| Path::new(&file.path).starts_with(name);
        result.artifacts.iter().any(named)
    });
    write_made(attempt, &files)?;
    write_result(attempt, &result)?;
    // The states have served; what is left of them would double the room a run takes.
    drop(std::fs::remove_dir_all(attempt.work()));
    Ok(result)
}

fn work(
    context: &StageContext,
    attempt: &AttemptDir,
    telemetry: &mut Telemetry,
) -> Result<StageOutput, StageError> {
    let file = read_stage(&context.run_dir)?;
    let mut job = Attempt {
        context,
        dir: attempt.clone(),
        file: &file,
        device: Device::Cpu,
        gpu: OnceCell::new(),
        most_of_ranks: std::sync::Arc::default(),
        telemetry,
    };
    job.check_inputs()?;
    let mut made = match &file.task {
        StageRecipe::Select(recipe) => select::run(&mut job, recipe),
        StageRecipe::Sample(recipe) => sample::run(&mut job, recipe),
        StageRecipe::Judge(recipe) => judge::run(&mut job, recipe),
        StageRecipe::Sft(recipe) => sft::run(&mut job, recipe),
        StageRecipe::Dpo(recipe) => dpo::run(&mut job, recipe),
        StageRecipe::RefLogps(recipe) => ref_logps::run(&mut job, recipe),
        StageRecipe::Eval(recipe) => eval::run(&mut job, recipe),
    }?;
    made.usage.device_memory_bytes = job.device_memory_bytes()?;
    // What was read while it worked may have changed after the first look; trainings have all they need before the first
    // step, and look at it there.
    if !matches!(file.task, StageRecipe::Sft(_) | StageRecipe::Dpo(_)) {
        job.check_inputs()?;
    }
    Ok(made)
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}
