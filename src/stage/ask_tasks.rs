//! A checkpoint asked the questions of evaluation tasks, without a run.

use crate::arch::DecoderConfig;
use crate::base::{Device, Shutdown, Timestamp};
use crate::config::spec::{Precision, TaskRecipe, TaskRequest};
use crate::data::{Message, TextFormat, row_texts};
use crate::eval::SetResult;
use crate::eval::task::score::Answer;
use crate::eval::task::{
    DoneTask, HarnessHead, HarnessSamples, KeptAnswers, PreparedTask, RowProgress, TaskError,
    answer_choices, answer_texts, harness_files,
};
use crate::model::ModelError;
use crate::rundir::MetricValue;
use crate::stage::device::{DeviceAccess, open_device};
use crate::stage::engine::{Asked, Model};
use crate::stage::error::StageError;
use crate::train::TrainError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is asked of which checkpoint.
#[derive(Debug)]
pub struct AskTasks<'a> {
    /// The project; paths of tasks are relative to it.
    pub root: &'a Path,
    /// The checkpoint, a folder in Hugging Face layout.
    pub model: &'a Path,
    /// A chat template in place of its own.
    pub chat_template: Option<&'a Path>,
    /// The tasks by name.
    pub tasks: &'a BTreeMap<String, TaskRecipe>,
    /// Number format.
    pub precision: Precision,
    /// Where the model is asked.
    pub device: Device,
    /// How that is reached.
    pub access: DeviceAccess,
    /// Tokens that the model is taken to hold; absent: what it holds.
    pub max_length: Option<usize>,
    /// A folder for answers: what is in it is not asked again.
    pub work: &'a Path,
    /// What its results say of when it was asked.
    pub now: Timestamp,
    /// Asks for an end; what was answered is kept.
    pub shutdown: &'a Shutdown,
}

/// What a checkpoint answered.
#[derive(Debug)]
pub struct TaskReport {
    /// Values by whole key.
    pub metrics: BTreeMap<String, MetricValue>,
    /// `results_….json` of lm-evaluation-harness.
    pub results: Value,
    /// The lines of its `samples_….jsonl`, by task or part.
    pub samples: HarnessSamples,
}

/// Asks every question that the work folder has no answer to, and scores the answers. `tell` is told the task, how many of
/// its rows are done, and of how many.
///
/// # Errors
/// See [`StageError`]; all tasks are read before the first question is asked.
pub fn ask_tasks(
    ask: &AskTasks<'_>,
    tell: &mut dyn FnMut(&str, usize, usize),
) -> Result<TaskReport, StageError> {
    let config = DecoderConfig::from_file(ask.model).map_err(ModelError::from)?;
    let max_length = ask.max_length.unwrap_or(config.max_positions);
    if max_length > config.max_positions {
        let (asked, holds) = (max_length, config.max_positions);
        return Err(StageError::Positions { asked, holds });
    }
    let chats = ask.tasks.values().any(|task| task.chat.is_some());
    let format = chats.then(|| TextFormat::open(ask.model, ask.chat_template));
    let format = format.transpose()?;
    let write = |turns: &[Message]| match &format {
        Some(format) => format.render(turns, true).map_err(|e| e.to_string()),
        None => Err("no chat template was opened".to_owned()),
    };
    let mut tasks = Vec::with_capacity(ask.tasks.len());
    for (name, recipe) in ask.tasks {
        let model = (ask.model, max_length);
        let task = PreparedTask::open(ask.root, (name, recipe), model, &write)?;
        if task.tokenizer.vocab_size() > config.vocab_size {
            return Err(StageError::Vocabulary {
                tokenizer: task.tokenizer.vocab_size(),
                model: config.vocab_size,
                path: ask.model.to_owned(),
            });
        }
        tasks.push(task);
    }
    let mut model = Asked::new(ask.model.to_owned(), config, ask.precision);
    let mut all = Vec::with_capacity(tasks.len());
    for task in &tasks {
        let answers = answers(ask, &mut model, task, tell)?;
        let scored = task.score(&answers)?;
        let result = task.result(&answers, &scored);
        let rows = row_texts(ask.root, &task.recipe.data).map_err(TaskError::from)?;
        all.push((task, answers, scored, result, rows));
    }
    let done = all
        .iter()
        .map(|(task, answers, scored, result, rows)| DoneTask {
            task,
            answers,
            scored,
            result,
            rows,
        });
    let head = HarnessHead {
        model: &ask.model.display().to_string(),
        max_length,
        date: ask.now,
    };
    let (file, samples) = harness_files(&head, &done.collect::<Vec<_>>());
    let results: Vec<SetResult> = all.into_iter().map(|(_, _, _, result, _)| result).collect();
    Ok(TaskReport {
        metrics: results
            .into_iter()
            .flat_map(|result| result.metrics)
            .collect(),
        results: file,
        samples,
    })
}

fn answers(
    ask: &AskTasks<'_>,
    model: &mut Asked,
    task: &PreparedTask<'_>,
    tell: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Answer>, StageError> {
    let path = ask.work.join(format!("answers-{}.jsonl", task.name));
    let mut kept = KeptAnswers::read(std::slice::from_ref(&path), &path);
    let total = task.documents.len();
    let mut progress = |done: usize| {
        tell(task.name, done, total);
        if ask.shutdown.requested() {
            return Err(TrainError::Stopped);
        }
        Ok(())
    };
    let limit = ask.device.usual_micro_batch();
    let model = model.model_on(|| Ok(open_device(ask.device, &ask.access)?))?;
    Ok(answer_task(model, task, limit, &mut kept, &mut progress)?)
}

/// The answers to every question of a task, those that are kept among them, in passes of at most `max_positions`
/// positions.
///
/// # Errors
/// The device refuses, `progress` ends the work, or answers cannot be kept.
pub(super) fn answer_task(
    model: &mut dyn Model,
    task: &PreparedTask<'_>,
    max_positions: usize,
    kept: &mut KeptAnswers,
    progress: &mut RowProgress<'_>,
) -> Result<Vec<Answer>, TaskError> {
    let requests = &task.requests;
    match &task.recipe.request {
        TaskRequest::Choices(_) => answer_choices(model, requests, max_positions, kept, progress),
        TaskRequest::Generate(request) => {
            answer_texts(model, (&task.tokenizer, request), requests, kept, progress)
        }
    }
}
