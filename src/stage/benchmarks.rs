//! Chat benchmarks within the `eval` stage: the model answers, a judge behind an endpoint scores.
//!
//! Answers are kept in `work/` turn by turn and raw responses one by one, so that an attempt that follows asks neither
//! the model nor the judge again.

use crate::arch::Pass;
use crate::base::fs::{create_dir, read_to_string};
use crate::base::{SeedTree, counted, is_as_written, with_check, write_atomic};
use crate::config::spec::{JudgedEval, NonNegative, SamplingRecipe, Share};
use crate::data::{Message, TextFormat};
use crate::eval::SetResult;
use crate::eval::judged::{Ask, Bench, Judgments, Reply, Said, measure};
use crate::generate::Generator;
use crate::judge::{Asker, ChatReply, ChatSampling, Question, chat_reply, chat_request};
use crate::stage::attempt::Attempt;
use crate::stage::engine::Asked;
use crate::stage::error::StageError;
use crate::stage::output::StageOutput;
use crate::stage::sample::Draw;
use crate::train::TrainError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// A benchmark, read before anything is measured.
pub(super) struct LoadedBench<'a> {
    pub(super) eval: &'a JudgedEval,
    pub(super) bench: Bench,
}

impl<'a> LoadedBench<'a> {
    /// Reads the files of a benchmark.
    pub(super) fn read(job: &Attempt<'_>, eval: &'a JudgedEval) -> Result<Self, StageError> {
        let most = eval.max_questions.map_or(usize::MAX, NonZeroUsize::get);
        let bench = Bench::read(&job.context.root, &eval.benchmark, most)?;
        Ok(Self { eval, bench })
    }

    /// Turns that the model answers.
    fn turns(&self) -> usize {
        (0..self.bench.len())
            .map(|at| self.bench.user_turns(at).len())
            .sum()
    }

    /// Units of progress: turns that the model answers, and replies of the judge.
    pub(super) fn units(&self) -> usize {
        self.turns() + self.bench.len() * self.eval.benchmark.requests_a_question()
    }
}

/// Lets the model answer and the judge judge; `before` units of other sets are done.
pub(super) fn run(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    model: &mut Asked,
    format: &TextFormat,
    (set, loaded): (&str, &LoadedBench<'_>),
    before: usize,
) -> Result<SetResult, StageError> {
    let LoadedBench { eval, bench } = loaded;
    let replies = answer(job, made, model, format, (set, loaded), before)?;
    let asks = bench.asks(&replies)?;
    let said = judge(job, made, (set, loaded), asks, before + loaded.turns())?;

    // The run is the model's name: what it was trained from stands in the run's own files.
    let name = job.file.run.short().to_owned();
    let mut judgments = bench.judgments((&name, &eval.judge.model), &replies, &said)?;
    let measured = measure(set, bench, &mut judgments)?;
    let answers = bench.answers(&name, &replies)?;
    match &judgments {
        Judgments::MtBench(rows) => {
            job.write_lines(made, &format!("{set}.judgments.jsonl"), rows)?
        }
        Judgments::ArenaHard(rows) => {
            job.write_lines(made, &format!("{set}.judgments.jsonl"), rows)?;
        }
        // AlpacaEval's files are JSON lists.
        Judgments::AlpacaEval(rows) => {
            job.write_lines(made, &format!("{set}.annotations.json"), &[rows])?;
        }
    }
    match bench {
        Bench::AlpacaEval(_) => {
            job.write_lines(made, &format!("{set}.outputs.json"), &[answers])?
        }
        _ => job.write_lines(made, &format!("{set}.answers.jsonl"), &answers)?,
    }
    made.count("judge_without_verdict", measured.without_verdict);
    made.notes.extend(measured.notes);
    Ok(measured.result)
}

/// The model's replies, (question, turn), turn after turn.
fn answer(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    model: &mut Asked,
    format: &TextFormat,
    (set, loaded): (&str, &LoadedBench<'_>),
    before: usize,
) -> Result<Vec<Vec<Said>>, StageError> {
    let bench = &loaded.bench;
    let questions: Vec<Vec<&str>> = (0..bench.len()).map(|at| bench.user_turns(at)).collect();
    let turns = questions.iter().map(Vec::len).max().unwrap_or(0);
    let mut replies: Vec<Vec<Said>> = vec![Vec::new(); bench.len()];
    let mut done = before;
    for turn in 0..turns {
        let asked: Vec<usize> = (0..bench.len())
            .filter(|at| questions[*at].len() > turn)
            .collect();
        let file = format!("{set}-turn-{}.json", turn + 1);
        let kept = job
            .newest_work(&file)
            .and_then(|path| Turn::read(&read_to_string(&path).ok()?));
        let said = match kept.filter(|kept| kept.replies.len() == asked.len()) {
            Some(kept) => kept.replies,
            None => {
                let mut prompts = Vec::with_capacity(asked.len());
                for at in &asked {
                    let messages = conversation(&questions[*at][..=turn], &replies[*at]);
                    prompts.push((*at, format.encode_prompt(&messages)?));
                }
                let generator = model.generator(job)?;
                let drawn = draw(job, made, generator, format, (loaded, turn, &prompts), done)?;
                keep(
                    job,
                    &file,
                    &Turn {
                        replies: drawn.clone(),
                    },
                )?;
                spend(made, model, &prompts, &drawn);
                drawn
            }
        };
        for (at, said) in asked.iter().zip(said) {
            replies[*at].push(said.into());
        }
        done += asked.len();
        job.report(done)?;
    }
    Ok(replies)
}

/// The turns before a reply: what the user said, and the model's own replies to all but the last.
fn conversation(user: &[&str], replies: &[Said]) -> Vec<Message> {
    let mut messages = Vec::with_capacity(2 * user.len());
    for (at, text) in user.iter().enumerate() {
        messages.push(Message::new("user", (*text).to_owned()));
        if at + 1 < user.len() {
            let reply = replies.get(at).map_or("", |said| said.text.as_str());
            messages.push(Message::new("assistant", reply.to_owned()));
        }
    }
    messages
}

/// A reply as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Drawn {
    text: String,
    tokens: usize,
    finished: bool,
}

impl From<Drawn> for Said {
    fn from(drawn: Drawn) -> Self {
        Self {
            text: drawn.text,
            tokens: drawn.tokens,
        }
    }
}

/// The replies to a turn; the file carries a digest of itself.
#[derive(Serialize, Deserialize)]
struct Turn {
    replies: Vec<Drawn>,
}

impl Turn {
    fn read(text: &str) -> Option<Self> {
        let turn = serde_json::from_str(text).ok()?;
        (is_as_written(text) == Some(true)).then_some(turn)
    }
}

fn keep(job: &Attempt<'_>, file: &str, turn: &Turn) -> Result<(), StageError> {
    create_dir(&job.work())?;
    let text = with_check(&serde_json::to_string(turn)?);
    Ok(write_atomic(&job.work().join(file), text.as_bytes())?)
}

/// Samples the replies to a turn. Questions of one temperature are drawn together. A conversation that leaves no room for
/// a reply gets an empty one, as a model that fails has it elsewhere.
fn draw(
    job: &mut Attempt<'_>,
    made: &mut StageOutput,
    generator: &mut dyn Generator,
    format: &TextFormat,
    (loaded, turn, prompts): (&LoadedBench<'_>, usize, &[(usize, Vec<u32>)]),
    before: usize,
) -> Result<Vec<Drawn>, StageError> {
    let LoadedBench { eval, bench } = loaded;
    let own = eval.temperature.map(f64::from);
    let mut by_temperature: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let limit = generator.max_positions();
    for (place, (at, tokens)) in prompts.iter().enumerate() {
        if tokens.len() < limit {
            let temperature = own.unwrap_or_else(|| bench.temperature(*at));
            by_temperature
                .entry(temperature.to_bits())
                .or_default()
                .push(place);
        }
    }
    let empty = Drawn {
        text: String::new(),
        tokens: 0,
        finished: false,
    };
    let mut drawn = vec![empty; prompts.len()];
    let seed = SeedTree::root(eval.seed)
        .child("eval/judged")
        .index(turn as u64);
    let mut done = before;
    for (index, (bits, places)) in by_temperature.iter().enumerate() {
        let sampling = SamplingRecipe {
            temperature: f64::from_bits(*bits)
                .try_into()
                .unwrap_or(NonNegative::ZERO),
            top_p: Share::WHOLE,
            max_new_tokens: eval.max_new_tokens,
        };
        let tokens: Vec<Vec<u32>> = places
            .iter()
            .map(|place| prompts[*place].1.clone())
            .collect();
        let group = Draw {
            prompts: &tokens,
            samples: 1,
            sampling: &sampling,
            seed: &seed.index(index as u64),
            before: done,
        };
        for completion in job.draw(generator, format, &group)? {
            drawn[places[completion.prompt]] = Drawn {
                text: format.decode(&completion.tokens)?.trim().to_owned(),
                tokens: completion.tokens.len(),
                finished: completion.finished,
            };
        }
        done += places.len();
    }
    let without_room = prompts
        .iter()
        .filter(|(_, tokens)| tokens.len() >= limit)
        .count();
    if without_room > 0 {
        made.notes.push(format!(
            "turn {}: {} of {limit} tokens or more got no reply",
            turn + 1,
            counted(without_room, "conversation")
        ));
    }
    made.count("replies_without_room", without_room);
    made.count(
        "replies_cut",
        drawn.iter().filter(|d| !d.finished).count() - without_room,
    );
    Ok(drawn)
}

/// Adds what the replies to a turn have cost.
fn spend(made: &mut StageOutput, model: &Asked, prompts: &[(usize, Vec<u32>)], drawn: &[Drawn]) {
    let mut pass = Pass::default();
    let mut positions = 0;
    for ((_, prompt), reply) in prompts
        .iter()
        .zip(drawn)
        .filter(|(_, d)| d.finished || d.tokens > 0)
    {
        positions += prompt.len() + reply.tokens;
        // The end token is drawn, too.
        let tokens = (reply.tokens + usize::from(reply.finished)) as f64;
        pass.add_samples(prompt.len() as f64, [tokens]);
    }
    made.spend(&model.config, positions, &pass);
}

/// The judge's replies, in the order of `asks`.
fn judge(
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
    create_dir(&job.work())?;
    let path = job.work().join(format!("{set}.requests.jsonl"));
    let lines = bodies.iter().enumerate().map(|(at, body)| {
        let line = json!({
            "custom_id": format!("{set}-{at}"), "method": "POST", "url": "/v1/chat/completions", "body": body,
        });
        format!("{line}\n")
    });
    write_atomic(&path, lines.collect::<String>().as_bytes())?;
    Ok(StageError::Dry {
        requests: bodies.len(),
        path,
    })
}
