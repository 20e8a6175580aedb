//! The `sft` stage: from a base model and chat data to a fine-tuned model.

use crate::base::counted;
use crate::config::file_stem;
use crate::config::spec::{BatchSize, Batching, Monitor, SftRecipe};
use crate::data::{PackReport, SftPlan, TextFormat, load_chat, mixture_seed, training_chats};
use crate::plan::StageKind;
use crate::stage::attempt::Attempt;
use crate::stage::checkpoints::CheckpointWriter;
use crate::stage::error::StageError;
use crate::stage::output::{StageOutput, count_rows};
use crate::stage::training::learning_schedule;
use crate::train::{SftMonitor, SftObjective, Training};
use std::path::Path;

/// Trains and writes the model.
pub(super) fn run(job: &mut Attempt<'_>, recipe: &SftRecipe) -> Result<StageOutput, StageError> {
    let mut made = StageOutput::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    job.check_length(&mut made, &config, recipe.layout.max_seq_len)?;

    let data_seed = recipe.rows.data_seed.unwrap_or(job.file.seed);
    let root = &job.context.root;
    let kept = job.kept(&mut made)?;
    let (rows, report) = training_chats(root, &recipe.rows, data_seed, &format, kept.as_deref())?;
    count_rows(&mut made, &report);
    let examples = format.encode_chats(&rows)?;
    let longest = examples.iter().map(|example| example.tokens.len()).max();
    let plan = SftPlan::new(
        examples,
        &recipe.layout,
        recipe.training.duration,
        &job.seed(),
        format.pad_token(),
    )?;
    let report = plan.report();
    count_documents(&mut made, recipe, &report);
    if report.targets == 0 {
        return Err(StageError::NoTargets {
            documents: report.documents,
            max_seq_len: recipe.layout.max_seq_len,
        });
    }
    let monitors = match &recipe.training.monitor {
        Some(monitor) => {
            let max_seq_len = recipe.layout.max_seq_len;
            load_monitors(root, monitor, (data_seed, max_seq_len), &format)?
        }
        None => Vec::new(),
    };

    let layout = &recipe.layout;
    let step = match layout.batch {
        BatchSize::Tokens(tokens) => tokens.max(layout.max_seq_len),
        BatchSize::Rows(rows) => rows.saturating_mul(layout.max_seq_len),
    };
    // Packed rows are filled; padded ones are as long as what they hold.
    let row = match layout.batching {
        Batching::Padded => longest.unwrap_or(0).min(layout.max_seq_len),
        Batching::Concat | Batching::BestFit => layout.max_seq_len,
    };
    let engine = job.open_engine(&source, &config, (&recipe.training, [row, step]), None)?;
    let rate = recipe.training.optimizer.learning_rate;
    let schedule = learning_schedule(&recipe.training.schedule, rate.get(), plan.steps())?;
    let (kind, steps) = (StageKind::Sft, plan.steps());
    let keeper = CheckpointWriter::new(job, kind, &recipe.training, &source, steps)?;
    let owner = job.file.run.0.clone();
    let optimizer = &recipe.training.optimizer;
    let mut training = Training::new(engine, optimizer, schedule, job.work(), owner);
    let mut objective = SftObjective {
        plan,
        max_seq_len: recipe.layout.max_seq_len,
        micro_batch_tokens: job.micro_batch_tokens(),
        config: config.clone(),
        monitors,
        monitor_every: recipe
            .training
            .monitor
            .as_ref()
            .map(|m| m.every_steps.get()),
    };
    job.train(&mut made, &mut training, &mut objective, &keeper)?;
    Ok(made)
}

/// Held-out documents, one set a file.
fn load_monitors(
    root: &Path,
    monitor: &Monitor,
    (data_seed, max_seq_len): (u64, usize),
    format: &TextFormat,
) -> Result<Vec<SftMonitor>, StageError> {
    let (rows, _) = load_chat(root, &monitor.data, &mixture_seed(data_seed))?;
    let mut monitors: Vec<SftMonitor> = Vec::new();
    for example in format.encode_chats(&rows)? {
        let name = file_stem(&example.source);
        match monitors.iter_mut().find(|m| m.name == name) {
            Some(monitor) => monitor.examples.push(example),
            None => monitors.push(SftMonitor {
                name,
                examples: vec![example],
            }),
        }
    }
    let is_empty = |monitor: &&SftMonitor| {
        let mut masks = monitor.examples.iter().map(|example| &example.loss_mask);
        // The first token follows none.
        !masks.any(|mask| mask.iter().take(max_seq_len).skip(1).any(|target| *target))
    };
    if let Some(monitor) = monitors.iter().find(is_empty) {
        return Err(StageError::EmptySet {
            set: monitor.name.clone(),
            why: format!("no reply token stands within `max-seq-len` {max_seq_len}"),
        });
    }
    Ok(monitors)
}

fn count_documents(made: &mut StageOutput, recipe: &SftRecipe, report: &PackReport) {
    let kept = report.documents - report.documents_without_targets;
    made.count("documents", report.documents);
    made.count("documents_kept", kept);
    made.count("documents_cut", report.documents_cut);
    made.count(
        "documents_without_targets",
        report.documents_without_targets,
    );
    made.count("tokens", report.tokens);
    made.count("tokens_dropped", report.tokens_dropped);
    made.count("rows", report.rows);
    made.count("positions", report.positions);
    made.count("padding", report.padding);
    made.count("targets", report.targets);
    made.count("targets_lost_at_cuts", report.targets_lost_at_cuts);
    made.count("targets_dropped", report.targets_dropped);
    if recipe.layout.max_masked_fraction.is_some() {
        made.count("rows_masked", report.rows_masked);
        made.count("tokens_masked", report.tokens_masked);
        made.count("targets_masked", report.targets_masked);
    }
    if report.rows_masked > 0 {
        made.notes.push(format!(
            "{} of {} of the first epoch left out, as more than `max-masked-fraction` of each is masked; \
             {} went with them",
            report.rows_masked,
            counted(report.rows_masked + report.rows, "row"),
            counted(report.targets_masked, "target")
        ));
    }
    if report.tokens_dropped > 0 {
        made.notes.push(format!(
            "{} of {} left out behind the length limit",
            report.tokens_dropped,
            counted(report.tokens, "token")
        ));
    }
    if report.documents_without_targets > 0 {
        made.notes.push(format!(
            "{} of {} without a target within reach",
            report.documents_without_targets,
            counted(report.documents, "document")
        ));
    }
}
