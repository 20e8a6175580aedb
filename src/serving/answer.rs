//! A checked request, a session, and the answer to the client.

use super::api_error::ApiError;
use super::client::{Client, Stream};
use super::request::{Asked, Prompts, Request};
use super::shapes::{Head, Usage, chat_logprobs, completion_logprobs};
use crate::base::Shutdown;
use crate::generate::GenerateError;
use crate::rundir::FailureClass;
use crate::stage::{Ask, Finish, Session, StageError, TokenLogp, Written};
use serde_json::Value;

/// What is to be answered.
pub(super) struct Answering<'a> {
    pub(super) session: &'a mut Session,
    pub(super) head: &'a Head,
    pub(super) request: &'a Request,
    /// Where the request names none.
    pub(super) seed: u64,
    /// Ends replies.
    pub(super) shutdown: &'a Shutdown,
}

/// The prompts as tokens, and what an answer gives back of them.
struct Prepared {
    prompts: Vec<Vec<u32>>,
    /// Their texts, where they are given back.
    echoed: Vec<String>,
    /// How likely they are, where that is asked for, too.
    scores: Vec<Vec<TokenLogp>>,
}

impl Answering<'_> {
    /// Answers the client; what it cost, or with what it was refused.
    pub(super) fn answer(mut self, client: Client) -> Result<Usage, ApiError> {
        let prepared = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => {
                client.refuse(&error);
                return Err(error);
            }
        };
        if self.request.stream {
            return self.stream(&prepared, client.stream());
        }
        match self.whole(&prepared) {
            Ok((choices, usage)) => {
                client.answer(200, &self.head.wrap(false, choices, Some(usage)));
                Ok(usage)
            }
            Err(error) => {
                let error = api_error(&error);
                client.refuse(&error);
                Err(error)
            }
        }
    }

    fn prepare(&mut self) -> Result<Prepared, ApiError> {
        let refused = |error: StageError| api_error(&error);
        let request = self.request;
        let mut prepared = Prepared {
            prompts: Vec::new(),
            echoed: Vec::new(),
            scores: Vec::new(),
        };
        let session = &*self.session;
        let mut echoes = false;
        match &request.asked {
            Asked::Chat(turns) => prepared
                .prompts
                .push(session.encode_chat(turns).map_err(refused)?),
            Asked::Completion { prompts, echo } => {
                echoes = *echo;
                prepared.prompts = tokens_of(session, prompts).map_err(refused)?;
            }
        }
        self.check(&prepared.prompts)?;
        if !echoes {
            return Ok(prepared);
        }
        prepared.echoed = match &request.asked {
            Asked::Completion {
                prompts: Prompts::Text(text),
                ..
            } => vec![text.clone()],
            Asked::Completion {
                prompts: Prompts::Texts(texts),
                ..
            } => texts.clone(),
            _ => {
                let texts = prepared.prompts.iter().map(|tokens| session.decode(tokens));
                texts.collect::<Result<_, _>>().map_err(refused)?
            }
        };
        if let Some(top) = request.top {
            prepared.scores = self
                .session
                .score(&prepared.prompts, top)
                .map_err(refused)?;
        }
        Ok(prepared)
    }

    /// Refuses prompts that the model cannot read, or behind which it has no room.
    fn check(&self, prompts: &[Vec<u32>]) -> Result<(), ApiError> {
        let (limit, vocabulary) = (self.session.max_positions(), self.session.vocab_size());
        let writes = self.request.max_tokens != Some(0);
        for tokens in prompts {
            if tokens.is_empty() {
                return Err(ApiError::bad("prompt", "the prompt has no token"));
            }
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                let wrong =
                    format!("the model knows {vocabulary} tokens, and {token} is none of them");
                return Err(ApiError::bad("prompt", wrong));
            }
            if tokens.len() + usize::from(writes) > limit {
                return Err(ApiError::too_long(tokens.len(), limit));
            }
        }
        Ok(())
    }

    /// Writes the replies, if any are to be written.
    fn write(
        &mut self,
        prompts: &[Vec<u32>],
        tell: &mut dyn FnMut(&crate::stage::Piece<'_>) -> bool,
    ) -> Result<Vec<Written>, StageError> {
        let request = self.request;
        if request.max_tokens == Some(0) {
            let nothing = Written {
                text: String::new(),
                tokens: 0,
                logps: Vec::new(),
                finish: Finish::Length,
            };
            return Ok(vec![nothing; prompts.len() * request.n]);
        }
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let sampling = request.sampling(self.session.max_positions() - longest);
        let ask = Ask {
            prompts,
            samples: request.n,
            sampling: &sampling,
            until: &request.stop,
            chat: self.head.chat,
            seed: request.seed.unwrap_or(self.seed),
            top: request.top,
        };
        self.session.write(&ask, tell)
    }

    fn whole(&mut self, prepared: &Prepared) -> Result<(Vec<Value>, Usage), StageError> {
        let shutdown = self.shutdown;
        let replies = self.write(&prepared.prompts, &mut |_| !shutdown.requested())?;
        let usage = Self::usage(prepared, &replies);
        let choices = replies.iter().enumerate().map(|(index, reply)| {
            let prompt = index / self.request.n;
            let echoed = prepared.echoed.get(prompt).map_or("", String::as_str);
            let logprobs = self.logprobs(prepared, prompt, &reply.logps);
            let text = format!("{echoed}{}", reply.text);
            self.head.choice(index, &text, logprobs, reply.finish)
        });
        Ok((choices.collect(), usage))
    }

    fn usage(prepared: &Prepared, replies: &[Written]) -> Usage {
        Usage {
            prompt: prepared.prompts.iter().map(Vec::len).sum(),
            completion: replies.iter().map(|reply| reply.tokens).sum(),
        }
    }

    /// Log-probabilities of a choice from its beginning, if they are asked for.
    fn logprobs(&self, prepared: &Prepared, prompt: usize, written: &[TokenLogp]) -> Value {
        if self.request.top.is_none() {
            return Value::Null;
        }
        if self.head.chat {
            return chat_logprobs(self.session, written);
        }
        let Some(scores) = prepared.scores.get(prompt) else {
            return completion_logprobs(self.session, None, written, 0);
        };
        let first = prepared.prompts[prompt].first().copied();
        let all: Vec<TokenLogp> = scores.iter().chain(written).cloned().collect();
        completion_logprobs(self.session, first, &all, 0)
    }

    fn stream(mut self, prepared: &Prepared, client: Stream) -> Result<Usage, ApiError> {
        let (head, n) = (self.head, self.request.n);
        let send = |choice: Value| client.send(&head.wrap(true, vec![choice], None));
        for index in 0..prepared.prompts.len() * n {
            if head.chat {
                let mut first = head.part(index, Some(""), Value::Null, None);
                first["delta"]["role"] = "assistant".into();
                send(first);
            } else if let Some(text) = prepared.echoed.get(index / n) {
                let logprobs = self.logprobs(prepared, index / n, &[]);
                send(head.part(index, Some(text), logprobs, None));
            }
        }
        // A session is borrowed while it writes, and names tokens afterwards: log-probabilities come with the end.
        let shutdown = self.shutdown;
        let replies = self.write(&prepared.prompts, &mut |piece| {
            if !piece.text.is_empty() {
                let index = piece.prompt * n + piece.sample;
                send(head.part(index, Some(piece.text), Value::Null, None));
            }
            client.listens() && !shutdown.requested()
        });
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => {
                let error = api_error(&error);
                client.send(&error.json());
                client.end();
                return Err(error);
            }
        };
        for (index, reply) in replies.iter().enumerate() {
            let logprobs = match (self.request.top, head.chat) {
                (None, _) => Value::Null,
                (Some(_), true) => chat_logprobs(self.session, &reply.logps),
                (Some(_), false) => {
                    let echoed = prepared.echoed.get(index / n);
                    let offset = echoed.map_or(0, |text| text.chars().count());
                    completion_logprobs(self.session, None, &reply.logps, offset)
                }
            };
            send(head.part(index, None, logprobs, Some(reply.finish)));
        }
        let usage = Self::usage(prepared, &replies);
        if self.request.usage {
            client.send(&head.wrap(true, Vec::new(), Some(usage)));
        }
        client.end();
        Ok(usage)
    }
}

fn tokens_of(session: &Session, prompts: &Prompts) -> Result<Vec<Vec<u32>>, StageError> {
    match prompts {
        Prompts::Text(text) => Ok(vec![session.encode(text)?]),
        Prompts::Texts(texts) => texts.iter().map(|text| session.encode(text)).collect(),
        Prompts::Tokens(tokens) => Ok(vec![tokens.clone()]),
        Prompts::TokenLists(lists) => Ok(lists.clone()),
    }
}

fn api_error(error: &StageError) -> ApiError {
    match error {
        StageError::Generate(GenerateError::PromptTooLong { len, limit, .. }) => {
            ApiError::too_long(*len, *limit)
        }
        StageError::NoChat(_) | StageError::Data(_) => {
            ApiError::bad("messages", error.chain_text())
        }
        _ if error.class() == FailureClass::User => ApiError::bad(None, error.chain_text()),
        _ => ApiError::status(500, "engine", error.chain_text()),
    }
}
