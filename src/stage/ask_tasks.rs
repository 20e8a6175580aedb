//! A checkpoint asked the questions of evaluation tasks, without a run.

use crate::arch::DecoderConfig;
use crate::base::{Device, Shutdown};
use crate::config::spec::{Precision, TaskRecipe, TaskRequest};
use crate::data::{Message, TextFormat};
use crate::eval::SetResult;
use crate::eval::task::score::Answer;
use crate::eval::task::{
    KeptAnswers, PreparedTask, answer_choices, answer_texts, harness_results, harness_samples,
};
use crate::model::ModelError;
use crate::rundir::MetricValue;
use crate::stage::device::{DeviceAccess, micro_batch_tokens, open_device};
use crate::stage::engine::{Model, open_asked};
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
    /// Where log-likelihoods are computed; answers are generated on the processor.
    pub device: Device,
    /// How that is reached.
    pub access: DeviceAccess,
    /// A folder for answers: what is in it is not asked again.
    pub work: &'a Path,
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
    /// The lines of its `samples_….jsonl`, by task.
    pub samples: BTreeMap<String, Vec<Value>>,
}

/// The model, opened when it is first asked.
struct Asked<'a> {
    ask: &'a AskTasks<'a>,
    config: DecoderConfig,
    model: Option<Box<dyn Model>>,
}

impl Asked<'_> {
    fn model(&mut self) -> Result<&mut dyn Model, StageError> {
        let ask = self.ask;
        let model = if let Some(model) = self.model.take() {
            model
        } else {
            let gpu = open_device(ask.device, &ask.access)?;
            open_asked(gpu, ask.model, &self.config, ask.precision)?
        };
        Ok(&mut **self.model.insert(model))
    }
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
    let chats = ask.tasks.values().any(|task| task.chat.is_some());
    let format = chats.then(|| TextFormat::open(ask.model, ask.chat_template));
    let format = format.transpose()?;
    let write = |turns: &[Message]| match &format {
        Some(format) => format.render(turns, true).map_err(|e| e.to_string()),
        None => Err("no chat template was opened".to_owned()),
    };
    let mut tasks = Vec::with_capacity(ask.tasks.len());
    for (name, recipe) in ask.tasks {
        let model = (ask.model, config.max_positions);
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
    let mut model = Asked {
        ask,
        config,
        model: None,
    };
    let mut results: Vec<SetResult> = Vec::new();
    let mut samples = BTreeMap::new();
    for task in &tasks {
        let answers = answers(&mut model, task, tell)?;
        let scored = task.score(&answers)?;
        samples.insert(
            task.name.to_owned(),
            harness_samples(task, &answers, &scored),
        );
        results.push(task.result(&answers, &scored));
    }
    let named = ask.model.display().to_string();
    let pairs: Vec<(&PreparedTask<'_>, &SetResult)> = tasks.iter().zip(&results).collect();
    let file = harness_results(&named, &pairs);
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
    model: &mut Asked<'_>,
    task: &PreparedTask<'_>,
    tell: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Answer>, StageError> {
    let ask = model.ask;
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
    let requests = &task.requests;
    Ok(match &task.recipe.request {
        TaskRequest::Choices(_) => {
            let limit = micro_batch_tokens(ask.device);
            answer_choices(model.model()?, requests, limit, &mut kept, &mut progress)?
        }
        TaskRequest::Generate(request) => {
            let asked = (&task.tokenizer, request);
            answer_texts(model.model()?, asked, requests, &mut kept, &mut progress)?
        }
    })
}
