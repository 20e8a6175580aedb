//! What a judge behind an endpoint says of the answers to a chat benchmark.

use crate::base::fs::create_dir;
use crate::base::{counted, write_atomic};
use crate::eval::judged::{Ask, Reply};
use crate::judge::{Asker, ChatReply, ChatSampling, Question, chat_reply, chat_request};
use crate::stage::attempt::Attempt;
use crate::stage::benchmark::LoadedBench;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::train::TrainError;
use serde_json::{Value, json};

/// The judge's replies, in the order of `asks`.
pub(super) fn judge(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    (set, loaded): (&str, &LoadedBench<'_>),
    asks: Vec<Ask>,
    before: usize,
) -> Result<Vec<Reply>, StageError> {
    let LoadedBench { eval, bench } = loaded;
    let runtime = job.file.judge_runtime.clone().unwrap_or_default();
    let bodies: Vec<Value> = asks.iter().map(|ask| body(loaded, ask)).collect();
    if runtime.dry == Some(true) {
        return Err(write_requests(job, set, &bodies)?);
    }
    let name = format!("{set}.judge.jsonl");
    let file = job.answers_file(&name)?;
    let key = job.endpoint_key(&runtime)?;
    let judge = &eval.judge;
    let asker = Asker::open(&judge.base_url, judge.seed, &runtime, &file, key.as_deref())?;
    let question = |ask: &Ask, body: Value| asker.question(&bench.id(ask.question), body);
    let questions: Vec<Question> = asks
        .iter()
        .zip(bodies)
        .map(|(a, b)| question(a, b))
        .collect();
    let first = ask_all(job, &asker, &questions, loaded, before)?;
    let mut spent = Spent::of(&first);
    let mut replies: Vec<Reply> = first.into_iter().map(reply).collect();

    let again = asks.iter().zip(&replies).enumerate();
    let again = again.filter_map(|(at, (ask, reply))| Some((at, bench.again(ask, reply)?)));
    let again: Vec<(usize, Ask)> = again.collect();
    let questions = again
        .iter()
        .map(|(_, ask)| question(ask, body(loaded, ask)));
    let questions: Vec<Question> = questions.collect();
    let second = ask_all(
        job,
        &asker,
        &questions,
        loaded,
        before + asks.len() - questions.len(),
    )?;
    spent.add(&second);
    for ((at, _), more) in again.iter().zip(second) {
        let text = &mut replies[*at].text;
        text.push('\n');
        text.push_str(&more.text);
    }
    spent.tell(made, set, &judge.model);
    job.publish_answers(made, &file, &name)?;
    Ok(replies)
}

fn body(loaded: &LoadedBench<'_>, ask: &Ask) -> Value {
    let judge = &loaded.eval.judge;
    let sampling = ChatSampling {
        temperature: judge.temperature.into(),
        max_tokens: judge.max_tokens.get(),
        top_logprobs: loaded.bench.top_logprobs(),
    };
    chat_request(&judge.model, &ask.messages, sampling)
}

fn reply(said: ChatReply) -> Reply {
    Reply {
        text: said.text,
        first_token: said.first_token,
    }
}

fn ask_all(
    job: &mut Attempt<'_>,
    asker: &Asker,
    questions: &[Question],
    loaded: &LoadedBench<'_>,
    before: usize,
) -> Result<Vec<ChatReply>, StageError> {
    let logprobs = loaded.bench.top_logprobs().is_some();
    let read = |response: &str| chat_reply(response, logprobs);
    let mut failed: Option<TrainError> = None;
    let mut done = before;
    let replies = asker.ask(questions, &read, &mut |answered| {
        done += usize::from(answered.is_some());
        if failed.is_none() {
            failed = job.report(done).err();
        }
        failed.is_none()
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(replies?),
    }
}

/// What the judge has cost, by its own count; what was answered in an earlier attempt counts, too.
#[derive(Default)]
struct Spent {
    requests: usize,
    prompt: u64,
    completion: u64,
}

impl Spent {
    fn of(replies: &[ChatReply]) -> Self {
        let mut spent = Self::default();
        spent.add(replies);
        spent
    }

    fn add(&mut self, replies: &[ChatReply]) {
        self.requests += replies.len();
        self.prompt += replies.iter().map(|r| r.prompt_tokens).sum::<u64>();
        self.completion += replies.iter().map(|r| r.completion_tokens).sum::<u64>();
    }

    fn tell(&self, made: &mut StageOutput, set: &str, model: &str) {
        made.count("judge_requests", self.requests);
        made.count("judge_prompt_tokens", self.prompt as usize);
        made.count("judge_completion_tokens", self.completion as usize);
        made.notes.push(format!(
            "`{set}`: {} answered by `{model}`, {} tokens read and {} written by its own count",
            counted(self.requests, "request"),
            self.prompt,
            self.completion
        ));
    }
}

/// Writes the requests in OpenAI's batch form, and gives the error that says so.
fn write_requests(
    job: &Attempt<'_>,
    set: &str,
    bodies: &[Value],
) -> Result<StageError, StageError> {
    let folder = job.work();
    create_dir(&folder)?;
    let lines = bodies.iter().enumerate().map(|(at, body)| {
        let line = json!({
            "custom_id": format!("{set}-{at}"), "method": "POST", "url": "/v1/chat/completions", "body": body,
        });
        format!("{line}\n")
    });
    let path = folder.join(format!("{set}.requests.jsonl"));
    write_atomic(&path, lines.collect::<String>().as_bytes())?;
    Ok(StageError::Dry {
        requests: bodies.len(),
        folder,
    })
}
