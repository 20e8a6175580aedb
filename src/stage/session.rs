//! A checkpoint that is talked to, without a run: replies as they come, and how likely it finds given texts.

use crate::arch::DecoderConfig;
use crate::base::{Device, SeedTree, chain};
use crate::config::spec::{BosRule, Precision, SamplingRecipe};
use crate::data::{ContinuationTokenizer, DataError, Message, TextFormat, TokenBatch};
use crate::generate::{
    Completion, Drawn, GenerateError, SampleJob, StopTexts, TextStream, sample_watched,
};
use crate::model::ModelError;
use crate::stage::device::{DeviceAccess, open_device};
use crate::stage::engine::{Model, open_asked};
use crate::stage::error::StageError;
use serde::Serialize;
use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Numbers of logits that are looked at in one pass: a quarter of a gibibyte.
const LOGITS_AT_ONCE: usize = 1 << 26;

/// Tokens of a prompt that text behind it is decoded with, so that it flows on: enough that a character of several
/// tokens is among them.
const CONTEXT: usize = 6;

/// Which checkpoint is opened, and where.
#[derive(Debug)]
pub struct OpenModel<'a> {
    /// A folder in Hugging Face layout.
    pub model: &'a Path,
    /// A chat template in place of its own.
    pub chat_template: Option<&'a Path>,
    /// Number format.
    pub precision: Precision,
    /// Where it computes.
    pub device: Device,
    /// How that is reached.
    pub access: &'a DeviceAccess,
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Tokens of each prompt.
    pub prompts: &'a [Vec<u32>],
    /// Replies to each.
    pub samples: usize,
    /// Temperature, nucleus and budget.
    pub sampling: &'a SamplingRecipe,
    /// Texts that end a reply and are no part of it.
    pub until: &'a [String],
    /// Whether prompts are conversations: their end token ends a reply, which begins a text of its own. A text is ended
    /// by the tokenizer's end token, and flows on.
    pub chat: bool,
    /// The same seed, prompts and samples give the same replies.
    pub seed: u64,
    /// Most likely tokens that are told with each; none, and their log-probabilities are not told either.
    pub top: Option<usize>,
}

/// A token and how likely it was, nats, at temperature 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogp {
    /// Its id.
    pub token: u32,
    /// Its log-probability.
    pub logp: f64,
    /// The likeliest tokens at its place with theirs, likeliest first, as many as were asked for.
    pub top: Vec<(u32, f64)>,
}

/// A part of a reply, told as it comes.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Which prompt.
    pub prompt: usize,
    /// Which reply to it.
    pub sample: usize,
    /// Text that is certain now; may be empty.
    pub text: &'a str,
    /// The token that was drawn, if its log-probability was asked for and it is part of the reply.
    pub token: Option<&'a TokenLogp>,
}

/// Why a reply is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Finish {
    /// By an end token or a stop text.
    Stop,
    /// The budget is spent, or the model's positions are.
    Length,
    /// It was told to end.
    Interrupted,
}

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its text.
    pub text: String,
    /// Tokens drawn, without the end token.
    pub tokens: usize,
    /// They and their log-probabilities, if those were asked for.
    pub logps: Vec<TokenLogp>,
    /// Why it is over.
    pub finish: Finish,
}

/// An open checkpoint.
pub struct Session {
    dir: PathBuf,
    config: DecoderConfig,
    tokenizer: ContinuationTokenizer,
    /// The chat format, or why there is none: texts can be continued all the same.
    format: Result<TextFormat, DataError>,
    model: Box<dyn Model>,
    /// Positions of a scoring pass.
    at_once: usize,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a checkpoint.
    ///
    /// # Errors
    /// The folder is not that of a model, the named template does not fit, or the device refuses.
    pub fn open(open: &OpenModel<'_>) -> Result<Self, StageError> {
        let dir = open.model;
        let config = DecoderConfig::from_file(dir).map_err(ModelError::from)?;
        let tokenizer = ContinuationTokenizer::open(dir, BosRule::Tokenizer)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(StageError::Vocabulary {
                tokenizer: tokenizer.vocab_size(),
                model: config.vocab_size,
                path: dir.to_owned(),
            });
        }
        let format = TextFormat::open(dir, open.chat_template);
        let format = match (format, open.chat_template) {
            (Err(error), Some(_)) => return Err(error.into()),
            (format, _) => format,
        };
        let gpu = open_device(open.device, open.access)?;
        Ok(Self {
            dir: dir.to_owned(),
            tokenizer,
            format,
            model: open_asked(gpu, dir, &config, open.precision)?,
            config,
            at_once: open.device.usual_micro_batch(),
        })
    }

    /// Positions that the model holds.
    pub fn max_positions(&self) -> usize {
        self.config.max_positions
    }

    /// Ids that the model knows are below.
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    /// Tokens of a text that is to be continued, as the tokenizer begins texts.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, StageError> {
        Ok(self.tokenizer.encode(text)?)
    }

    /// Tokens of a conversation up to where the next reply begins.
    ///
    /// # Errors
    /// The model has no chat template, or it refuses the conversation.
    pub fn encode_chat(&self, turns: &[Message]) -> Result<Vec<u32>, StageError> {
        match &self.format {
            Ok(format) => Ok(format.encode_prompt(turns)?),
            Err(error) => Err(StageError::NoChat(chain(error))),
        }
    }

    /// Text of tokens without special ones.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, StageError> {
        Ok(self.tokenizer.decode(tokens)?)
    }

    /// Text of one token, special ones by name.
    pub fn token_text(&self, token: u32) -> String {
        self.tokenizer.token_text(token)
    }

    /// Writes replies, ordered by prompt and sample. `tell` gets each as it comes and answers whether to go on; where it
    /// does not, replies end with what they have.
    ///
    /// # Errors
    /// A prompt is longer than the model holds, or the device refuses.
    pub fn write(
        &mut self,
        ask: &Ask<'_>,
        tell: &mut dyn FnMut(&Piece<'_>) -> bool,
    ) -> Result<Vec<Written>, StageError> {
        let until = StopTexts::new(&self.tokenizer, ask.until)?;
        let mut stop: Vec<u32> = self.tokenizer.eos_token().into_iter().collect();
        if let (true, Ok(format)) = (ask.chat, &self.format) {
            stop.push(format.end_token());
        }
        let job = SampleJob {
            prompts: ask.prompts,
            samples: ask.samples,
            recipe: ask.sampling,
            stop: &stop,
            until: Some(&until),
            seed: &SeedTree::root(ask.seed),
            batch: usize::MAX,
        };
        let replies = Replies::begin(ask, &self.tokenizer, tell);
        let replies = RefCell::new(replies);
        let drawn = sample_watched(
            &mut *self.model,
            &job,
            &mut |drawn| replies.borrow_mut().take(drawn),
            &mut |_| replies.borrow().on,
        );
        let replies = replies.into_inner();
        match drawn {
            Ok(completions) => replies.finished(&completions),
            Err(GenerateError::Stopped) => replies.finished(&[]),
            Err(error) => Err(error.into()),
        }
    }

    /// How likely the model finds each token of each text behind those before it; of the first nothing is known. With
    /// `top` the likeliest tokens at each place.
    ///
    /// # Errors
    /// A text has no token or more than the model holds, one lies outside the vocabulary, or the device refuses.
    pub fn score(
        &mut self,
        texts: &[Vec<u32>],
        top: usize,
    ) -> Result<Vec<Vec<TokenLogp>>, StageError> {
        let limit = self.config.max_positions;
        let too_long = texts.iter().position(|text| text.len() > limit);
        if let Some(prompt) = too_long {
            let len = texts[prompt].len();
            return Err(GenerateError::PromptTooLong { prompt, len, limit }.into());
        }
        let mut scored = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut positions = 0;
            let fits = rest.iter().take_while(|text| {
                positions += text.len();
                positions <= self.at_once
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            let mut batch = TokenBatch::new();
            for text in now {
                batch.push_segment("", text, |_| true, 0, 0);
            }
            let mut logps = self.model.token_logps(&batch)?.into_iter();
            for text in now {
                let own = text.iter().skip(1).zip(logps.by_ref());
                let own = own.map(|(&token, logp)| TokenLogp {
                    token,
                    logp,
                    top: Vec::new(),
                });
                scored.push(own.collect::<Vec<_>>());
            }
            rest = later;
        }
        if top > 0 {
            for (text, scores) in texts.iter().zip(&mut scored) {
                self.add_top(text, scores, top)?;
            }
        }
        Ok(scored)
    }

    fn add_top(
        &mut self,
        text: &[u32],
        scores: &mut [TokenLogp],
        top: usize,
    ) -> Result<(), StageError> {
        let vocabulary = self.config.vocab_size;
        let chunk = (LOGITS_AT_ONCE / vocabulary).max(1);
        for start in (0..scores.len()).step_by(chunk) {
            let rows: Range<usize> = start..(start + chunk).min(scores.len());
            let logits = self.model.logits_at(text, rows.clone())?;
            for (score, logits) in scores[rows].iter_mut().zip(logits.chunks_exact(vocabulary)) {
                score.top = likeliest(logits, top);
                // The same number, however it was summed: whoever looks for a greedy token compares them.
                let own = score
                    .top
                    .iter_mut()
                    .find(|(token, _)| *token == score.token);
                if let Some((_, logp)) = own {
                    *logp = score.logp;
                }
            }
        }
        Ok(())
    }
}

/// Replies that are being written.
struct Replies<'a> {
    samples: usize,
    top: Option<usize>,
    replies: Vec<(TextStream<'a>, Written)>,
    tell: &'a mut dyn FnMut(&Piece<'_>) -> bool,
    on: bool,
    failed: Option<DataError>,
}

impl<'a> Replies<'a> {
    fn begin(
        ask: &Ask<'a>,
        tokenizer: &'a ContinuationTokenizer,
        tell: &'a mut dyn FnMut(&Piece<'_>) -> bool,
    ) -> Self {
        let mut replies = Vec::with_capacity(ask.prompts.len() * ask.samples);
        for prompt in ask.prompts {
            let known = if ask.chat { 0 } else { CONTEXT };
            let behind = &prompt[prompt.len().saturating_sub(known)..];
            for _ in 0..ask.samples {
                let written = Written {
                    text: String::new(),
                    tokens: 0,
                    logps: Vec::new(),
                    finish: Finish::Interrupted,
                };
                replies.push((TextStream::behind(tokenizer, ask.until, behind), written));
            }
        }
        Self {
            samples: ask.samples,
            top: ask.top,
            replies,
            tell,
            on: true,
            failed: None,
        }
    }

    fn take(&mut self, drawn: &Drawn<'_>) {
        let (stream, written) = &mut self.replies[drawn.prompt * self.samples + drawn.sample];
        if stream.stopped() {
            return;
        }
        let text = if drawn.stops {
            stream.end()
        } else {
            stream.push(drawn.token)
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                self.failed = Some(error);
                self.on = false;
                return;
            }
        };
        written.text.push_str(&text);
        let told = written.logps.len();
        if !drawn.stops {
            written.tokens += 1;
            let logp = self.top.map(|top| token_logp(drawn, top));
            written.logps.extend(logp);
        }
        let piece = Piece {
            prompt: drawn.prompt,
            sample: drawn.sample,
            text: &text,
            token: written.logps.get(told),
        };
        self.on &= (self.tell)(&piece);
    }

    /// The replies, of which `completions` came to an end.
    fn finished(mut self, completions: &[Completion]) -> Result<Vec<Written>, StageError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        for (at, (stream, written)) in self.replies.iter_mut().enumerate() {
            let text = stream.end()?;
            if !text.is_empty() {
                written.text.push_str(&text);
                let piece = Piece {
                    prompt: at / self.samples,
                    sample: at % self.samples,
                    text: &text,
                    token: None,
                };
                (self.tell)(&piece);
            }
            written.finish = match completions.get(at) {
                _ if stream.stopped() => Finish::Stop,
                Some(completion) if completion.finished => Finish::Stop,
                Some(_) => Finish::Length,
                None => Finish::Interrupted,
            };
        }
        Ok(self
            .replies
            .into_iter()
            .map(|(_, written)| written)
            .collect())
    }
}

/// A drawn token and how likely it was.
fn token_logp(drawn: &Drawn<'_>, top: usize) -> TokenLogp {
    let logit = f64::from(drawn.logits[drawn.token as usize]);
    TokenLogp {
        token: drawn.token,
        logp: logit - log_sum_exp(drawn.logits),
        top: likeliest(drawn.logits, top),
    }
}

/// The logarithm of the sum of the exponentials of finite numbers.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - most).exp()).sum();
    most + sum.ln()
}

/// The likeliest tokens and their log-probabilities; of equal ones the lower id is first.
fn likeliest(logits: &[f32], top: usize) -> Vec<(u32, f64)> {
    let top = top.min(logits.len());
    if top == 0 {
        return Vec::new();
    }
    let all = log_sum_exp(logits);
    let order = |a: &u32, b: &u32| {
        let (x, y) = (logits[*a as usize], logits[*b as usize]);
        y.total_cmp(&x).then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.select_nth_unstable_by(top - 1, order);
    ids.truncate(top);
    ids.sort_unstable_by(order);
    let logp = |id: u32| (id, f64::from(logits[id as usize]) - all);
    ids.into_iter().map(logp).collect()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
