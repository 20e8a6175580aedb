//! A benchmark from its files to its numbers: what the model is asked, what the judge is asked, what both say in all.

use crate::base::fs::read_to_string;
use crate::config::spec::Benchmark;
use crate::eval::judged::alpaca::{self, Published};
use crate::eval::judged::arena;
use crate::eval::judged::error::JudgedError;
use crate::eval::judged::files::{
    AlpacaAnnotation, AlpacaOutput, ArenaAnswer, ArenaGame, ArenaJudgment, ArenaQuestion,
    ArenaTurn, MtAnswer, MtJudgment, MtQuestion, QuestionId, read_rows,
};
use crate::eval::judged::grammar::{ArenaVerdict, arena_verdict};
use crate::eval::judged::mt_bench::{self, JudgePrompt, JudgeRequest};
use std::collections::BTreeMap;
use std::path::Path;

/// A benchmark whose files were read.
#[derive(Clone, Debug)]
pub enum Bench {
    /// MT-Bench.
    MtBench(MtBench),
    /// Arena-Hard-Auto.
    ArenaHard(ArenaHard),
    /// AlpacaEval.
    AlpacaEval(AlpacaEval),
}

/// MT-Bench.
#[derive(Clone, Debug)]
pub struct MtBench {
    /// The questions.
    pub questions: Vec<MtQuestion>,
    /// Prompts of the judge.
    pub prompts: Vec<JudgePrompt>,
    /// Reference answers.
    pub references: Vec<MtAnswer>,
}

/// Arena-Hard-Auto.
#[derive(Clone, Debug)]
pub struct ArenaHard {
    /// The questions.
    pub questions: Vec<ArenaQuestion>,
    /// The baseline's answers.
    pub baseline: BTreeMap<QuestionId, String>,
    /// The judge's system turn.
    pub system: String,
    /// Its user turn.
    pub template: String,
}

/// AlpacaEval.
#[derive(Clone, Debug)]
pub struct AlpacaEval {
    /// Instructions with the baseline's replies.
    pub rows: Vec<AlpacaOutput>,
    /// The judge's turns.
    pub turns: Vec<(String, String)>,
    /// The tables for the length-controlled win rate.
    pub published: Option<Published>,
}

/// A reply of the model to one turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
}

/// What the judge is asked: turns of (role, text) about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Place of the question.
    pub question: usize,
    /// The turns.
    pub messages: Vec<(String, String)>,
}

/// What the judge said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// The likeliest first tokens with their log-probabilities, nats, where they were asked for.
    pub first_token: Vec<(String, f64)>,
}

/// Judgments of a whole benchmark, in the form of its own tool.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgments {
    /// A line a turn.
    MtBench(Vec<MtJudgment>),
    /// A line a question.
    ArenaHard(Vec<ArenaJudgment>),
    /// An element an instruction.
    AlpacaEval(Vec<AlpacaAnnotation>),
}

impl Bench {
    /// Reads the files of a benchmark below `root`; of its questions the first `most`.
    ///
    /// # Errors
    /// A file cannot be read or is of another form, or lacks what a question needs.
    pub fn read(root: &Path, benchmark: &Benchmark, most: usize) -> Result<Self, JudgedError> {
        Ok(match benchmark {
            Benchmark::MtBench(files) => {
                let references = files.references_path.as_ref();
                let references = references.map(|path| read_rows(&root.join(path)));
                let mut bench = MtBench {
                    questions: read_rows(&root.join(&files.questions_path))?,
                    prompts: read_rows(&root.join(&files.prompts_path))?,
                    references: references.transpose()?.unwrap_or_default(),
                };
                bench.questions.truncate(most);
                bench.check()?;
                Self::MtBench(bench)
            }
            Benchmark::ArenaHard(files) => {
                let answers: Vec<ArenaAnswer> = read_rows(&root.join(&files.baseline_path))?;
                let answered = answers.into_iter().filter_map(|answer| {
                    let text = answer.turns().first()?.content.clone();
                    Some((answer.question_id, text))
                });
                let mut bench = ArenaHard {
                    questions: read_rows(&root.join(&files.questions_path))?,
                    baseline: answered.collect(),
                    system: read_to_string(&root.join(&files.system_path))?
                        .trim_end()
                        .to_owned(),
                    template: read_to_string(&root.join(&files.prompt_path))?
                        .trim_end()
                        .to_owned(),
                };
                bench.questions.truncate(most);
                if let Some(question) = bench
                    .questions
                    .iter()
                    .find(|q| !bench.baseline.contains_key(&q.question_id))
                {
                    let path = &files.baseline_path;
                    let problem = format!("the baseline has no answer to it in `{path}`");
                    return Err(JudgedError::question(&question.question_id, problem));
                }
                Self::ArenaHard(bench)
            }
            Benchmark::AlpacaEval(files) => {
                let mut rows: Vec<AlpacaOutput> = read_rows(&root.join(&files.baseline_path))?;
                let instructions: Vec<String> =
                    rows.iter().map(|row| row.instruction.clone()).collect();
                let gamed = files.gamed_path.as_ref();
                let published = gamed.map(|path| Published::read(&root.join(path), &instructions));
                rows.truncate(most);
                Self::AlpacaEval(AlpacaEval {
                    rows,
                    turns: alpaca::prompt_turns(&read_to_string(&root.join(&files.prompt_path))?),
                    published: published.transpose()?,
                })
            }
        })
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        match self {
            Self::MtBench(bench) => bench.questions.len(),
            Self::ArenaHard(bench) => bench.questions.len(),
            Self::AlpacaEval(bench) => bench.rows.len(),
        }
    }

    /// Whether there is no question.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a question; of AlpacaEval, which has none, its place.
    pub fn id(&self, at: usize) -> String {
        match self {
            Self::MtBench(bench) => bench.questions[at].question_id.to_string(),
            Self::ArenaHard(bench) => bench.questions[at].question_id.to_string(),
            Self::AlpacaEval(_) => format!("{at}"),
        }
    }

    /// What the user says, turn by turn.
    pub fn user_turns(&self, at: usize) -> Vec<&str> {
        match self {
            Self::MtBench(bench) => bench.questions[at]
                .turns
                .iter()
                .map(String::as_str)
                .collect(),
            Self::ArenaHard(bench) => vec![&bench.questions[at].prompt],
            Self::AlpacaEval(bench) => vec![&bench.rows[at].instruction],
        }
    }

    /// The benchmark's own temperature of the replies to a question.
    pub fn temperature(&self, at: usize) -> f64 {
        match self {
            Self::MtBench(bench) => mt_bench::temperature(&bench.questions[at].category),
            Self::ArenaHard(_) | Self::AlpacaEval(_) => 0.0,
        }
    }

    /// How many likeliest first tokens the judge is asked for.
    pub fn top_logprobs(&self) -> Option<usize> {
        matches!(self, Self::AlpacaEval(_)).then_some(5)
    }

    /// Texts of the first tokens that a verdict is read from; none where it is read from the reply.
    pub fn verdict_tokens(&self) -> &'static [&'static str] {
        match self {
            Self::AlpacaEval(_) => &alpaca::VERDICTS,
            Self::MtBench(_) | Self::ArenaHard(_) => &[],
        }
    }

    /// What the judge is asked about the replies, (question, turn).
    ///
    /// # Errors
    /// Something that a question needs is missing.
    pub fn asks(&self, replies: &[Vec<Said>]) -> Result<Vec<Ask>, JudgedError> {
        let mut asks = Vec::new();
        for (question, own) in replies.iter().enumerate().take(self.len()) {
            let messages = match self {
                Self::MtBench(bench) => {
                    let asked = bench.requests(question, own)?.into_iter();
                    asked
                        .map(|asked| system_and_user(&asked.system, asked.user))
                        .collect()
                }
                Self::ArenaHard(bench) => {
                    let users = bench.user_prompts(question, own).into_iter();
                    users
                        .map(|user| system_and_user(&bench.system, user))
                        .collect()
                }
                Self::AlpacaEval(bench) => {
                    let row = &bench.rows[question];
                    vec![alpaca::messages(
                        &bench.turns,
                        &row.instruction,
                        &row.output,
                        text(own),
                    )]
                }
            };
            asks.extend(
                messages
                    .into_iter()
                    .map(|messages| Ask { question, messages }),
            );
        }
        Ok(asks)
    }

    /// What the judge is asked once more, after a reply that holds no verdict; `None` if its tool does not ask.
    pub fn again(&self, ask: &Ask, reply: &Reply) -> Option<Ask> {
        let missing = arena_verdict(&reply.text) == ArenaVerdict::Missing;
        if !matches!(self, Self::ArenaHard(_)) || !missing {
            return None;
        }
        let mut ask = ask.clone();
        ask.messages
            .push(("assistant".to_owned(), reply.text.clone()));
        ask.messages
            .push(("user".to_owned(), arena::AGAIN.to_owned()));
        Some(ask)
    }

    /// The judgments that the judge's replies make, one a request of [`asks`](Self::asks), in its order.
    ///
    /// # Errors
    /// As [`asks`](Self::asks).
    pub fn judgments(
        &self,
        (model, judge): (&str, &str),
        replies: &[Vec<Said>],
        said: &[Reply],
    ) -> Result<Judgments, JudgedError> {
        let mut said = said.iter();
        let mut text_of_next = || said.next().map_or("", |reply| reply.text.as_str());
        Ok(match self {
            Self::MtBench(bench) => {
                let mut judged = Vec::new();
                for (at, question) in bench.questions.iter().enumerate() {
                    for asked in bench.requests(at, &replies[at])? {
                        let id = &question.question_id;
                        judged.push(mt_bench::judgment(id, model, judge, &asked, text_of_next()));
                    }
                }
                Judgments::MtBench(judged)
            }
            Self::ArenaHard(bench) => {
                let of = |(at, question): (usize, &ArenaQuestion)| {
                    let games = bench.user_prompts(at, &replies[at]).map(|user_prompt| {
                        let judgment = text_of_next().to_owned();
                        ArenaGame {
                            user_prompt,
                            score: arena_verdict(&judgment).label(),
                            judgment,
                        }
                    });
                    ArenaJudgment {
                        question_id: question.question_id.clone(),
                        model: model.to_owned(),
                        judge: judge.to_owned(),
                        games: games.to_vec(),
                    }
                };
                Judgments::ArenaHard(bench.questions.iter().enumerate().map(of).collect())
            }
            Self::AlpacaEval(bench) => {
                let rows = bench.rows.iter().zip(replies).zip(said);
                let of = |((row, own), reply): ((&AlpacaOutput, &Vec<Said>), &Reply)| {
                    let tokens = reply
                        .first_token
                        .iter()
                        .map(|(token, logp)| (token.as_str(), *logp));
                    AlpacaAnnotation {
                        instruction: row.instruction.clone(),
                        output_1: row.output.clone(),
                        generator_1: row.generator.clone(),
                        dataset: row.dataset.clone(),
                        output_2: text(own).to_owned(),
                        generator_2: model.to_owned(),
                        annotator: judge.to_owned(),
                        preference: alpaca::preference(&row.instruction, tokens),
                        raw_completion: reply.text.clone().into(),
                        glm_preference: None,
                    }
                };
                Judgments::AlpacaEval(rows.map(of).collect())
            }
        })
    }

    /// The model's answers in the form of the benchmark's own tool, one JSON value each.
    ///
    /// # Errors
    /// An answer cannot be written as JSON.
    pub fn answers(
        &self,
        model: &str,
        replies: &[Vec<Said>],
    ) -> Result<Vec<serde_json::Value>, serde_json::Error> {
        let answer = |at: usize| {
            let (id, own) = (self.id(at), &replies[at]);
            let answer_id = format!("{model}-{id}");
            match self {
                Self::MtBench(bench) => {
                    let question = bench.questions[at].question_id.clone();
                    let turns = own.iter().map(|said| said.text.clone()).collect();
                    serde_json::to_value(MtAnswer::new(question, model, answer_id, turns))
                }
                Self::ArenaHard(bench) => {
                    let question = bench.questions[at].question_id.clone();
                    let turns = own.iter().map(|said| ArenaTurn {
                        content: said.text.clone(),
                        token_len: said.tokens,
                    });
                    serde_json::to_value(ArenaAnswer::new(
                        question,
                        model,
                        answer_id,
                        turns.collect(),
                    ))
                }
                Self::AlpacaEval(bench) => serde_json::to_value(AlpacaOutput {
                    output: text(own).to_owned(),
                    generator: model.to_owned(),
                    ..bench.rows[at].clone()
                }),
            }
        };
        (0..self.len()).map(answer).collect()
    }
}

impl MtBench {
    /// Every question has its prompts and reference answers.
    fn check(&self) -> Result<(), JudgedError> {
        for (at, question) in self.questions.iter().enumerate() {
            if question.turns.is_empty() {
                return Err(JudgedError::question(
                    &question.question_id,
                    "it has no turns",
                ));
            }
            self.requests(at, &vec![Said::default(); question.turns.len()])?;
        }
        Ok(())
    }

    fn requests(&self, at: usize, replies: &[Said]) -> Result<Vec<JudgeRequest>, JudgedError> {
        let question = &self.questions[at];
        let turns = replies.iter().map(|said| said.text.clone()).collect();
        let answer = MtAnswer::new(question.question_id.clone(), "", String::new(), turns);
        mt_bench::requests(at, question, &answer, &self.references, &self.prompts)
    }
}

impl ArenaHard {
    fn user_prompts(&self, at: usize, replies: &[Said]) -> [String; 2] {
        let question = &self.questions[at];
        let baseline = self
            .baseline
            .get(&question.question_id)
            .map_or("", String::as_str);
        arena::user_prompts(&self.template, question, baseline, text(replies))
    }
}

/// The reply to the first turn.
fn text(replies: &[Said]) -> &str {
    replies.first().map_or("", |said| said.text.as_str())
}

fn system_and_user(system: &str, user: String) -> Vec<(String, String)> {
    let mut turns = vec![("user".to_owned(), user)];
    if !system.is_empty() {
        turns.insert(0, ("system".to_owned(), system.to_owned()));
    }
    turns
}
