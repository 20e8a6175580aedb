//! A checkpoint that is talked to, without a run: replies as they come, and how likely it finds given texts.

use crate::arch::DecoderConfig;
use crate::base::{Device, SeedTree, chain};
use crate::config::spec::{BosRule, Precision};
use crate::data::{ContinuationTokenizer, DataError, Message, TextFormat, TokenBatch};
use crate::generate::{GenerateError, SampleJob, StopTexts, sample_watched};
use crate::model::ModelError;
use crate::stage::device::{DeviceAccess, open_device};
use crate::stage::engine::{Model, open_asked};
use crate::stage::error::StageError;
use crate::stage::written::{Ask, Piece, Replies, TokenLogp, Written, likeliest};
use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Numbers of logits that are looked at in one pass: a quarter of a gibibyte.
const LOGITS_AT_ONCE: usize = 1 << 26;

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
        let mut stop = self.tokenizer.ends().to_vec();
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

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
