//! The `sft` stage: from a base model and chat data to a fine-tuned model.

use crate::config::spec::{Monitor, SftRecipe};
use crate::data::{LoadReport, PackReport, SftPlan, TextFormat, load_chat, select};
use crate::model::Params;
use crate::stage::error::StageError;
use crate::stage::job::{Job, Made, dtype, mixture_seed, select_seed, set_names};
use crate::train::{LrSchedule, SftMonitor, SftObjective, Training};
use std::path::Path;

/// Trains and writes the model.
pub(super) fn run(job: &mut Job<'_>, recipe: &SftRecipe) -> Result<Made, StageError> {
    let mut made = Made::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    job.check_length(&mut made, &config, recipe.max_seq_len)?;

    let data_seed = recipe.data_seed.unwrap_or(job.file.seed);
    let root = &job.context.root;
    let (rows, report) = load_chat(root, &recipe.data, &mixture_seed(data_seed))?;
    count_rows(&mut made, &report);
    let rows = select(rows, recipe.max_examples, &select_seed(data_seed))?;
    let examples = format.encode_chats(&rows)?;
    let plan = SftPlan::new(examples, recipe, &job.seed(), format.pad_token())?;
    count_documents(&mut made, &plan.report());
    let monitors = match &recipe.monitor {
        Some(monitor) => load_monitors(root, monitor, data_seed, &format)?,
        None => Vec::new(),
    };

    let params = Params::load(&source, &config, &job.device, dtype(recipe.precision))?;
    let rate = recipe.optimizer.learning_rate;
    let schedule = LrSchedule::new(&recipe.schedule, rate, plan.steps());
    let owner = job.file.run.0.clone();
    let mut training = Training::new(
        &config,
        &params,
        &recipe.optimizer,
        schedule,
        job.work(),
        owner,
    )?;
    let mut objective = SftObjective {
        plan,
        max_seq_len: recipe.max_seq_len,
        micro_batch_tokens: job.micro_batch_tokens(),
        config: config.clone(),
        monitors,
        monitor_every: recipe.monitor.as_ref().map(|m| m.every_steps),
    };
    job.train(&mut made, &mut training, &mut objective)?;
    job.save_model(&mut made, &source, &params.detached())?;
    Ok(made)
}

/// Held-out documents, one set a file.
fn load_monitors(
    root: &Path,
    monitor: &Monitor,
    data_seed: u64,
    format: &TextFormat,
) -> Result<Vec<SftMonitor>, StageError> {
    let (rows, _) = load_chat(root, &monitor.data, &mixture_seed(data_seed))?;
    let names = set_names(monitor.data.iter().map(|s| s.path.as_str()));
    let mut monitors: Vec<SftMonitor> = Vec::new();
    for example in format.encode_chats(&rows)? {
        let name = names.get(&example.source).cloned().unwrap_or_default();
        match monitors.iter_mut().find(|m| m.name == name) {
            Some(monitor) => monitor.examples.push(example),
            None => monitors.push(SftMonitor {
                name,
                examples: vec![example],
            }),
        }
    }
    Ok(monitors)
}

/// Rows found and used, over all sources.
pub(super) fn count_rows(made: &mut Made, report: &LoadReport) {
    for source in &report.sources {
        made.count("rows_found", source.found);
        made.count("rows_used", source.used);
    }
}

fn count_documents(made: &mut Made, report: &PackReport) {
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
    if report.tokens_dropped > 0 {
        made.notes.push(format!(
            "{} of {} tokens stand behind the length limit and were left out",
            report.tokens_dropped, report.tokens
        ));
    }
    if report.documents_without_targets > 0 {
        made.notes.push(format!(
            "{} of {} documents have no target within reach",
            report.documents_without_targets, report.documents
        ));
    }
}
