//! `lions eval`.

use crate::base::{Clock as _, Device, Shutdown, SystemClock, Timestamp, write_atomic};
use crate::cli::cards::access;
use crate::cli::checkpoint::CheckpointArgs;
use crate::cli::commands::export::Format;
use crate::cli::error::{CommandError, ErrorKind, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::signals;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::config::load_task;
use crate::config::spec::{ShotTurns, TaskChat, TaskRecipe, TaskRequest};
use crate::metrics::metric_spec;
use crate::model::tune_allocator;
use crate::rundir::FailureClass;
use crate::stage::{AskTasks, StageError, TaskReport, ask_tasks};
use serde_json::json;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Ask a checkpoint the questions of evaluation tasks, without a sweep
///
/// Tasks are shipped ones by name (`arc_challenge`, `gsm8k`, `hellaswag`, `ifeval`, `mmlu`, `truthfulqa_mc2`,
/// `winogrande`) or files. Results are also written as lm-evaluation-harness writes them. What was answered is kept in
/// the folder: the same command goes on from there.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Shipped tasks or task files, with commas between them
    #[arg(long, required = true, value_delimiter = ',', value_name = "TASKS")]
    tasks: Vec<String>,
    /// Folder for results, samples and answers
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Solved rows before each question [default: the task's]
    #[arg(long, value_name = "N", value_parser = at_least(0_usize))]
    shots: Option<usize>,
    /// The first so many rows (of every part) only
    #[arg(long, value_name = "N", value_parser = at_least(1_usize))]
    max_rows: Option<usize>,
    /// Tokens that the model is taken to hold: what is longer loses its beginning [default: what it holds]
    #[arg(long, value_name = "N", value_parser = at_least(1_usize))]
    max_length: Option<usize>,
    /// Most tokens of a generated answer [default: the task's]
    #[arg(long, value_name = "N", value_parser = at_least(1_usize))]
    max_new_tokens: Option<usize>,
    /// Ask through the chat template, solved rows in one turn or in turns of their own
    #[arg(long, value_enum, value_name = "SHOTS")]
    chat: Option<Chat>,
    /// A system turn for `--chat`; without that a text before everything
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A chat template in place of the model's own
    #[arg(long, value_name = "FILE", requires = "chat")]
    chat_template: Option<PathBuf>,
    /// Number format
    #[arg(long, value_enum, default_value = "f32", value_name = "FORMAT")]
    precision: Format,
    /// `cpu` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Where solved rows stand in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Chat {
    OneTurn,
    Turns,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &EvalArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let checkpoint = args.checkpoint.folder(&project)?;
    let device: Device = args.device.parse().map_err(CommandError::user)?;
    let device = device.alone().map_err(CommandError::user)?;
    let mut tasks = BTreeMap::new();
    for name in &args.tasks {
        let task = load_task(&project.root, name).map_err(CommandError::user)?;
        let stem = Path::new(name).file_stem().unwrap_or_default();
        let key = stem.to_string_lossy().into_owned();
        if tasks.insert(key.clone(), changed(task, args)).is_some() {
            return Err(CommandError::user(format!("two tasks are called `{key}`")));
        }
    }
    tune_allocator();
    let shutdown = Shutdown::new();
    signals::stop_on_signals(&shutdown)?;
    let now = SystemClock.now();
    let ask = AskTasks {
        root: &project.root,
        model: &checkpoint,
        chat_template: args.chat_template.as_deref(),
        tasks: &tasks,
        precision: args.precision.into(),
        device,
        access: access(),
        max_length: args.max_length,
        work: &args.out,
        now,
        shutdown: &shutdown,
    };
    let asked = ask_tasks(&ask, &mut |_, _, _| {});
    let report = match asked {
        Ok(report) => report,
        Err(StageError::Interrupted) => return Ok(exit_code::INTERRUPTED),
        Err(error) => {
            let kind = match error.class() {
                FailureClass::Internal => ErrorKind::Internal,
                _ => ErrorKind::User,
            };
            return Err(CommandError::of(kind, error));
        }
    };
    let results = write(&args.out, &report, now)?;
    show(ui, &results, &report)?;
    Ok(DONE)
}

/// The task with what the command line says of it.
fn changed(mut task: TaskRecipe, args: &EvalArgs) -> TaskRecipe {
    if let (Some(shots), Some(few_shot)) = (args.shots, &mut task.few_shot) {
        few_shot.count = shots;
    }
    if let Some(most) = args.max_rows.and_then(NonZeroUsize::new) {
        task.max_rows = Some(most);
    }
    if let Some(most) = args.max_new_tokens.and_then(NonZeroUsize::new)
        && let TaskRequest::Generate(request) = &mut task.request
    {
        request.max_new_tokens = most;
    }
    if args.chat.is_none() && task.chat.is_none() {
        task.system = args.system.clone().or(task.system);
    }
    if let Some(chat) = args.chat {
        task.system = None;
        task.chat = Some(TaskChat {
            system: args.system.clone(),
            shots: match chat {
                Chat::OneTurn => ShotTurns::OneTurn,
                Chat::Turns => ShotTurns::Turns,
            },
        });
    }
    task
}

/// Writes `results_<date>.json` and `samples_<task>_<date>.jsonl`; the path of the first.
fn write(out: &Path, report: &TaskReport, now: Timestamp) -> Result<PathBuf, CommandError> {
    let seconds = now.iso8601().replace(':', "-");
    let micros = now.0.rem_euclid(1000) * 1000;
    let date = format!("{}.{micros:06}", seconds.trim_end_matches('Z'));
    let mut lines = String::new();
    for (task, samples) in &report.samples {
        lines.clear();
        for sample in samples {
            lines.push_str(&sample.to_string());
            lines.push('\n');
        }
        let path = out.join(format!("samples_{task}_{date}.jsonl"));
        write_atomic(&path, lines.as_bytes()).map_err(CommandError::user)?;
    }
    let text = serde_json::to_string_pretty(&report.results).map_err(CommandError::internal)?;
    let path = out.join(format!("results_{date}.json"));
    write_atomic(&path, text.as_bytes()).map_err(CommandError::user)?;
    Ok(path)
}

fn show(ui: &Ui, results: &Path, report: &TaskReport) -> Result<(), CommandError> {
    if ui.json {
        let (metrics, out) = (&report.metrics, results.parent());
        return ui.print_json(&json!({ "metrics": metrics, "out": out, "results": results }));
    }
    let width = report.metrics.keys().map(String::len).max().unwrap_or(0);
    for (key, metric) in &report.metrics {
        let decimals = metric_spec(key).decimals + 1;
        let value = format!("{:.decimals$}", metric.value);
        let error = metric
            .stderr
            .map_or(String::new(), |e| format!(" ± {e:.decimals$}"));
        ui.out(&format!(
            "{key:width$}  {value}{error}  ({})",
            counted(metric.n, "row")
        ));
    }
    let out = results.parent().unwrap_or(results);
    ui.out(&format!("written to {}", out.display()));
    Ok(())
}
