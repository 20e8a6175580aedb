//! What a judge says of the answers to a chat benchmark.

use crate::base::fs::create_dir;
use crate::base::{SeedTree, counted, write_atomic};
use crate::config::spec::{JudgeAt, SamplingRecipe, Share};
use crate::eval::judged::{Ask, Reply};
use crate::judge::{Asker, ChatReply, ChatSampling, Question, chat_reply, chat_request};
use crate::stage::attempt::Attempt;
use crate::stage::benchmark::LoadedBench;
use crate::stage::error::StageError;
use crate::stage::local_judge::{LocalJudge, Questions};
use crate::stage::output::StageOutput;
use crate::train::TrainError;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The judge's replies, in the order of `asks`, and its name.
pub(super) fn judge(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    (set, loaded): (&str, &LoadedBench<'_>),
    asks: &[Ask],
    before: usize,
) -> Result<(Vec<Reply>, String), StageError> {
    let at = loaded.eval.judge.at();
    let at = at.ok_or_else(|| StageError::NoJudge {
        set: set.to_owned(),
    })?;
    let name = match at {
        JudgeAt::Endpoint { model, .. } => model.to_owned(),
        JudgeAt::Folder { path, .. } => LocalJudge::name(job, path),
    };
    let dry = job.file.judge_runtime.as_ref().and_then(|r| r.dry);
    if dry == Some(true) {
        let bodies: Vec<Value> = asks.iter().map(|ask| body(loaded, &name, ask)).collect();
        return Err(write_requests(job, set, &bodies)?);
    }
    let by = By::open(job, at, (set, loaded))?;
    let mut judge = Judge {
        loaded,
        set,
        name,
        by,
    };
    let first = judge.replies(job, made, (asks, 1), before)?;
    let mut spent = Spent::of(&first);
    let mut replies: Vec<Reply> = first.into_iter().map(reply).collect();

    let bench = &loaded.bench;
    let again = asks.iter().zip(&replies).enumerate();
    let again = again.filter_map(|(at, (ask, reply))| Some((at, bench.again(ask, reply)?)));
    let (places, again): (Vec<usize>, Vec<Ask>) = again.unzip();
    let done = before + asks.len() - again.len();
    let second = judge.replies(job, made, (&again, 2), done)?;
    spent.add(&second);
    for (at, more) in places.into_iter().zip(second) {
        let text = &mut replies[at].text;
        text.push('\n');
        text.push_str(&more.text);
    }
    spent.tell(made, set, &judge.name);
    judge.publish(job, made)?;
    Ok((replies, judge.name))
}

/// Who is asked about a benchmark.
struct Judge<'a> {
    loaded: &'a LoadedBench<'a>,
    /// The evaluation's set.
    set: &'a str,
    /// As judgments name it.
    name: String,
    by: By,
}

/// How the judge is asked.
enum By {
    /// Requests are sent, raw responses kept in the file.
    Endpoint(Box<Asker>, PathBuf),
    /// Its model is this process's.
    Folder(Box<LocalJudge>),
}

impl By {
    fn open(
        job: &Attempt<'_>,
        at: JudgeAt<'_>,
        (set, loaded): (&str, &LoadedBench<'_>),
    ) -> Result<Self, StageError> {
        Ok(match at {
            JudgeAt::Endpoint { base_url, .. } => {
                let runtime = job.file.judge_runtime.clone().unwrap_or_default();
                let file = job.answers_file(&responses(set))?;
                let key = job.endpoint_key(&runtime)?;
                let seed = loaded.eval.judge.seed;
                let asker = Asker::open(base_url, seed, &runtime, &file, key.as_deref())?;
                Self::Endpoint(Box::new(asker), file)
            }
            JudgeAt::Folder { path, precision } => {
                Self::Folder(Box::new(LocalJudge::find(job, path, precision)?))
            }
        })
    }
}

impl Judge<'_> {
    /// The replies to `asks`, which are asked for the `time`-th time.
    fn replies(
        &mut self,
        job: &mut Attempt<'_>,
        made: &mut StageOutput,
        (asks, time): (&[Ask], u64),
        before: usize,
    ) -> Result<Vec<ChatReply>, StageError> {
        let (bench, judge) = (&self.loaded.bench, &self.loaded.eval.judge);
        match &mut self.by {
            By::Endpoint(asker, _) => {
                let questions = asks.iter().map(|ask| {
                    asker.question(&bench.id(ask.question), body(self.loaded, &self.name, ask))
                });
                let questions: Vec<Question> = questions.collect();
                ask_endpoint(job, asker, &questions, self.loaded, before)
            }
            By::Folder(local) => {
                let conversations: Vec<&[(String, String)]> =
                    asks.iter().map(|ask| ask.messages.as_slice()).collect();
                let sampling = SamplingRecipe {
                    temperature: judge.temperature,
                    top_p: Share::WHOLE,
                    max_new_tokens: judge.max_tokens,
                };
                let seed = SeedTree::root(judge.seed.unwrap_or(0)).child("eval/judge");
                let questions = Questions {
                    conversations: &conversations,
                    sampling: &sampling,
                    tokens: bench.verdict_tokens(),
                    seed: &seed.index(time),
                    file: &format!("{}-judge-{time}", self.set),
                    before,
                };
                let (replies, without_room) = local.replies(job, made, &questions)?;
                if without_room > 0 {
                    made.count("judge_without_room", without_room);
                    made.notes.push(format!(
                        "`{}`: {} longer than the judge has positions, without a verdict",
                        self.set,
                        counted(without_room, "question")
                    ));
                }
                Ok(replies)
            }
        }
    }

    /// Raw responses as an artifact; of a local judge judgments hold all that it said.
    fn publish(&self, job: &Attempt<'_>, made: &mut StageOutput) -> Result<(), StageError> {
        match &self.by {
            By::Endpoint(_, file) => job.publish_answers(made, file, &responses(self.set)),
            By::Folder(_) => Ok(()),
        }
    }
}

/// Name of the file, and artifact, with the raw responses of an endpoint.
fn responses(set: &str) -> String {
    format!("{set}.judge.jsonl")
}

fn body(loaded: &LoadedBench<'_>, name: &str, ask: &Ask) -> Value {
    let judge = &loaded.eval.judge;
    let sampling = ChatSampling {
        temperature: judge.temperature.into(),
        max_tokens: judge.max_tokens.get(),
        top_logprobs: loaded.bench.top_logprobs(),
    };
    chat_request(name, &ask.messages, sampling)
}

fn reply(said: ChatReply) -> Reply {
    Reply {
        text: said.text,
        first_token: said.first_token,
    }
}

fn ask_endpoint(
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
