//! The `dpo` stage: from a model, pairs and reference log-probabilities to an aligned model.

use crate::config::spec::{DpoRecipe, Monitor, PairLimits};
use crate::data::{PairPlan, PairReport, TextFormat, load_pairs, select};
use crate::model::Params;
use crate::stage::error::StageError;
use crate::stage::job::{Job, Made, dtype, mixture_seed, select_seed, set_names};
use crate::stage::sft::count_rows;
use crate::train::{DpoObjective, LrSchedule, PairMonitor, PreferenceLoss, Training};
use std::path::Path;

/// Trains and writes the model.
pub(super) fn run(job: &mut Job<'_>, recipe: &DpoRecipe) -> Result<Made, StageError> {
    let mut made = Made::default();
    let source = job.model_dir()?;
    let (format, config) = job.open_format(&source)?;
    job.check_length(&mut made, &config, recipe.limits.max_seq_len)?;

    let data_seed = recipe.data_seed.unwrap_or(job.file.seed);
    let root = &job.context.root;
    let (rows, report) = load_pairs(root, &recipe.data, &mixture_seed(data_seed))?;
    count_rows(&mut made, &report);
    let rows = select(rows, recipe.max_examples, &select_seed(data_seed))?;
    let (pairs, report) = format.encode_pairs(&rows, &recipe.limits)?;
    count_pairs(&mut made, &report);
    let monitors = match &recipe.monitor {
        Some(monitor) => load_monitors(root, monitor, recipe.limits, data_seed, &format)?,
        None => Vec::new(),
    };
    let batch = recipe.global_batch_size;
    let plan = PairPlan::new(pairs.len(), batch, recipe.duration, &job.seed())?;

    let rate = recipe.optimizer.learning_rate;
    let schedule = LrSchedule::new(&recipe.schedule, rate, plan.steps());
    let mut objective = DpoObjective {
        pairs,
        plan,
        reference: if recipe.needs_reference() {
            Some(job.references()?)
        } else {
            None
        },
        loss: PreferenceLoss::of_recipe(recipe),
        micro_batch_tokens: job.micro_batch_tokens(),
        config: config.clone(),
        monitors,
        monitor_every: recipe.monitor.as_ref().map(|m| m.every_steps),
    };
    objective.check_references()?;

    let params = Params::load(&source, &config, &job.device, dtype(recipe.precision))?;
    let owner = job.file.run.0.clone();
    let mut training = Training::new(
        &config,
        &params,
        &recipe.optimizer,
        schedule,
        job.work(),
        owner,
    )?;
    job.train(&mut made, &mut training, &mut objective)?;
    job.save_model(&mut made, &source, &params.detached())?;
    Ok(made)
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
    let names = set_names(monitor.data.iter().map(|s| s.path.as_str()));
    let mut monitors = Vec::new();
    for (path, name) in names {
        let own: Vec<_> = rows
            .iter()
            .filter(|row| row.origin.path == path)
            .cloned()
            .collect();
        let (pairs, _) = format.encode_pairs(&own, &limits)?;
        monitors.push(PairMonitor { name, pairs });
    }
    Ok(monitors)
}

/// Pairs and tokens kept, cut and dropped.
pub(super) fn count_pairs(made: &mut Made, report: &PairReport) {
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
            "{dropped} of {} pairs were left out: {} too long, {} equal after the cut",
            report.kept + dropped,
            report.dropped_too_long,
            report.dropped_equal
        ));
    }
}
