//! Replies as they are written: what is asked for, what is told of each, and why it is over.

use crate::config::spec::SamplingRecipe;
use crate::data::{ContinuationTokenizer, DataError};
use crate::generate::{Completion, Drawn, TextStream};
use crate::stage::error::StageError;
use serde::Serialize;

/// Tokens of a prompt that text behind it is decoded with, so that it flows on: enough that a character of several
/// tokens is among them.
const CONTEXT: usize = 6;

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

/// Replies that are being written.
pub(super) struct Replies<'a> {
    samples: usize,
    top: Option<usize>,
    all: Vec<(TextStream<'a>, Written)>,
    tell: &'a mut dyn FnMut(&Piece<'_>) -> bool,
    /// Whether to go on.
    pub(super) on: bool,
    failed: Option<DataError>,
}

impl<'a> Replies<'a> {
    /// As many as are asked for, each without a token.
    pub(super) fn begin(
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
            all: replies,
            tell,
            on: true,
            failed: None,
        }
    }

    /// Takes a token that was drawn.
    pub(super) fn take(&mut self, drawn: &Drawn<'_>) {
        let (stream, written) = &mut self.all[drawn.prompt * self.samples + drawn.sample];
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
    pub(super) fn finished(
        mut self,
        completions: &[Completion],
    ) -> Result<Vec<Written>, StageError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        for (at, (stream, written)) in self.all.iter_mut().enumerate() {
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
        Ok(self.all.into_iter().map(|(_, written)| written).collect())
    }
}

/// A drawn token and how likely it was.
fn token_logp(drawn: &Drawn<'_>, top: usize) -> TokenLogp {
    TokenLogp {
        token: drawn.token,
        logp: logp_of(drawn.logits, drawn.token),
        top: likeliest(drawn.logits, top),
    }
}

/// How likely one token is, nats.
pub(super) fn logp_of(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// The logarithm of the sum of the exponentials of finite numbers.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - most).exp()).sum();
    most + sum.ln()
}

/// The likeliest tokens and their log-probabilities; of equal ones the lower id is first.
pub(super) fn likeliest(logits: &[f32], top: usize) -> Vec<(u32, f64)> {
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
