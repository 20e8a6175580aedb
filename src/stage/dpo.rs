//! The `dpo` stage: from a model, pairs and reference log-probabilities to an aligned model.

use crate::base::counted;
use crate::config::file_stem;
use crate::config::spec::{DpoRecipe, Monitor, PairLimits};
use crate::data::{
    Narrowed, PairPlan, PairReport, TextFormat, TokenizedPair, load_pairs, mixture_seed,
    training_pairs,
};
use crate::plan::StageKind;
use crate::rundir::{BATCH_LAYOUT_ARTIFACT, BatchLayout, PairLengths, write_batch_layout};
use crate::stage::attempt::Attempt;
use crate::stage::checkpoints::CheckpointWriter;
use crate::stage::error::StageError;
use crate::stage::output::{StageOutput, count_rows};
use crate::stage::training::learning_schedule;
use crate::train::{DpoObjective, PairMonitor, Part, Training};
use std::collections::BTreeSet;
use std::path::Path;

/// Trains and writes the model.
pub(super) fn run(job: &mut Attempt<'_>, recipe: &DpoRecipe) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    job.check_length(&mut made, &config, recipe.pairs.limits.max_seq_len)?;

    let data_seed = recipe.rows.data_seed.unwrap_or(job.file.seed);
    let root = &job.context.root;
    let kept = job.kept(&mut made)?;
    let online = job.made_pairs(&mut made, recipe.pairs.online_fraction, data_seed)?;
    let narrowed = Narrowed {
        kept: kept.as_deref(),
        made: online,
    };
    let (rows, report) = training_pairs(root, &recipe.rows, data_seed, &format, narrowed)?;
    count_rows(&mut made, &report);
    let (pairs, report) = format.encode_pairs(&rows, &recipe.pairs.limits)?;
    count_pairs(&mut made, &report);
    let monitors = match &recipe.training.monitor {
        Some(monitor) => load_monitors(root, monitor, recipe.pairs.limits, data_seed, &format)?,
        None => Vec::new(),
    };
    let batch = recipe.pairs.global_batch_size.get();
    let plan = PairPlan::new(pairs.len(), batch, recipe.training.duration, &job.seed())?;
    let layout = first_batch(&pairs, &plan);
    write_batch_layout(&job.dir.out(), &layout)?;

    let rate = recipe.training.optimizer.learning_rate;
    let schedule = learning_schedule(&recipe.training.schedule, rate.get(), plan.steps())?;
    let (kind, steps) = (StageKind::Dpo, plan.steps());
    let keeper = CheckpointWriter::new(job, kind, &recipe.training, &source, steps)?;
    let moving = recipe.reference.reference_update;
    let longest = pairs.iter().map(TokenizedPair::positions).max();
    let mut objective = DpoObjective {
        pairs,
        plan,
        reference: if recipe.needs_reference() {
            Some(job.references()?)
        } else {
            None
        },
        moving,
        loss: recipe.objective,
        micro_batch_tokens: job.micro_batch_tokens(),
        config: config.clone(),
        monitors,
        monitor_every: recipe
            .training
            .monitor
            .as_ref()
            .map(|m| m.every_steps.get()),
    };
    objective.check_references()?;

    let step = (2 * batch).saturating_mul(recipe.pairs.limits.max_seq_len);
    let taken = [longest.unwrap_or(0), step];
    let engine = job.open_engine(&source, &config, (&recipe.training, taken), moving)?;
    if moving.is_some() {
        let bytes = engine.arrays(Part::Reference).bytes();
        let mib = bytes.div_ceil(1 << 20);
        made.notes.push(format!(
            "the moving reference keeps a copy of the weights in memory: {mib} MiB"
        ));
    }
    let owner = job.file.run.0.clone();
    let optimizer = &recipe.training.optimizer;
    let mut training = Training::new(engine, optimizer, schedule, job.work(), owner);
    job.train(&mut made, &mut training, &mut objective, &keeper)?;
    made.artifacts.push(BATCH_LAYOUT_ARTIFACT.to_owned());
    Ok(made)
}

fn no_pair_within(limits: &PairLimits) -> String {
    let PairLimits {
        max_seq_len,
        max_prompt_len,
        ..
    } = limits;
    format!(
        "no pair is left within `max-seq-len` {max_seq_len} and `max-prompt-len` {max_prompt_len}"
    )
}

/// Lengths of the pairs of the first step, in the order of the step.
fn first_batch(pairs: &[TokenizedPair], plan: &PairPlan) -> BatchLayout {
    let lengths = |index: usize| {
        let pair = pairs.get(index)?;
        Some(PairLengths {
            prompt: pair.prompt.len(),
            chosen: pair.chosen.len(),
            rejected: pair.rejected.len(),
        })
    };
    let first = plan.step(0).unwrap_or_default();
    BatchLayout {
        pairs: first.into_iter().filter_map(lengths).collect(),
    }
}

/// Held-out pairs, one set a file.
fn load_monitors(
    root: &Path,
    monitor: &Monitor,
    limits: PairLimits,
    data_seed: u64,
    format: &TextFormat,
) -> Result<Vec<PairMonitor>, StageError> {
    let (rows, _) = load_pairs(root, &monitor.data, &mixture_seed(data_seed))?;
    let paths: BTreeSet<&str> = monitor.data.iter().map(|s| &*s.path).collect();
    let mut monitors = Vec::new();
    for path in paths {
        let own: Vec<_> = rows
            .iter()
            .filter(|row| row.origin.path == path)
            .cloned()
            .collect();
        let (pairs, _) = format.encode_pairs(&own, &limits)?;
        let name = file_stem(path);
        if pairs.is_empty() {
            return Err(StageError::EmptySet {
                set: name,
                why: no_pair_within(&limits),
            });
        }
        monitors.push(PairMonitor { name, pairs });
    }
    Ok(monitors)
}

/// Pairs and tokens kept, cut and dropped.
pub(super) fn count_pairs(made: &mut StageOutput, report: &PairReport) {
    let dropped = report.dropped_too_long + report.dropped_equal;
    made.count("pairs_kept", report.kept);
    made.count("pairs_dropped", dropped);
    made.count("pairs_dropped_too_long", report.dropped_too_long);
    made.count("pairs_dropped_equal", report.dropped_equal);
    made.count("prompts_cut", report.prompts_cut);
    made.count("replies_cut", report.replies_cut);
    made.count("tokens", report.tokens);
    made.count("tokens_cut", report.tokens_cut);
    if dropped > 0 {
        made.notes.push(format!(
            "{dropped} of {} left out: {} too long, {} equal after the cut",
            counted(report.kept + dropped, "pair"),
            report.dropped_too_long,
            report.dropped_equal
        ));
    }
}
