//! Answers in the form that OpenAI's clients read.

use crate::stage::{Finish, Session, TokenLogp};
use serde_json::{Map, Value, json};

/// What all parts of an answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) chat: bool,
    /// Unique in this process.
    pub(super) id: u64,
    /// Seconds since 1970.
    pub(super) created: i64,
    pub(super) model: String,
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    pub(super) completion: usize,
}

impl Usage {
    pub(super) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

impl Head {
    /// An answer, or a part of one that is streamed.
    pub(super) fn wrap(&self, part: bool, choices: Vec<Value>, usage: Option<Usage>) -> Value {
        let (prefix, object) = match (self.chat, part) {
            (false, _) => ("cmpl", "text_completion"),
            (true, false) => ("chatcmpl", "chat.completion"),
            (true, true) => ("chatcmpl", "chat.completion.chunk"),
        };
        let mut answer = json!({
            "id": format!("{prefix}-{}", self.id), "object": object, "created": self.created,
            "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            answer["usage"] = usage.json();
        }
        answer
    }

    /// A whole choice.
    pub(super) fn choice(
        &self,
        index: usize,
        text: &str,
        logprobs: Value,
        finish: Finish,
    ) -> Value {
        let mut choice =
            json!({"index": index, "logprobs": logprobs, "finish_reason": reason(finish)});
        if self.chat {
            choice["message"] = json!({"role": "assistant", "content": text, "refusal": null});
        } else {
            choice["text"] = json!(text);
        }
        choice
    }

    /// A part of a choice; `finish` with the last one.
    pub(super) fn part(
        &self,
        index: usize,
        text: Option<&str>,
        logprobs: Value,
        finish: Option<Finish>,
    ) -> Value {
        let mut choice = json!({
            "index": index, "logprobs": logprobs, "finish_reason": finish.map(reason),
        });
        if self.chat {
            choice["delta"] = text.map_or_else(|| json!({}), |text| json!({"content": text}));
        } else {
            choice["text"] = json!(text.unwrap_or_default());
        }
        choice
    }
}

fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        // OpenAI has no word for a server that stops.
        Finish::Length | Finish::Interrupted => "length",
    }
}

/// Log-probabilities as a completion has them. `first` is a token of which nothing is known; texts begin at `offset`
/// characters.
pub(super) fn completion_logprobs(
    session: &Session,
    first: Option<u32>,
    scores: &[TokenLogp],
    mut offset: usize,
) -> Value {
    let mut tokens: Vec<String> = Vec::new();
    let mut offsets = Vec::new();
    let mut place = |token: u32| {
        let text = session.token_text(token);
        offsets.push(offset);
        offset += text.chars().count();
        tokens.push(text);
    };
    first.into_iter().for_each(&mut place);
    scores.iter().for_each(|score| place(score.token));
    let unknown = first.iter().map(|_| Value::Null);
    let logps: Vec<Value> = unknown
        .clone()
        .chain(scores.iter().map(|s| json!(s.logp)))
        .collect();
    let top = |score: &TokenLogp| {
        let mut map = Map::new();
        // Two tokens may have one text: the likelier one, which comes first, has it.
        for (token, logp) in &score.top {
            map.entry(session.token_text(*token))
                .or_insert_with(|| json!(logp));
        }
        Value::Object(map)
    };
    let tops: Vec<Value> = unknown.chain(scores.iter().map(top)).collect();
    json!({"tokens": tokens, "token_logprobs": logps, "top_logprobs": tops, "text_offset": offsets})
}

/// Log-probabilities as a chat has them.
pub(super) fn chat_logprobs(session: &Session, scores: &[TokenLogp]) -> Value {
    let told = |token: u32, logp: f64| {
        let text = session.token_text(token);
        json!({"token": text, "logprob": logp, "bytes": text.as_bytes()})
    };
    let content = scores.iter().map(|score| {
        let mut entry = told(score.token, score.logp);
        let top = score.top.iter().map(|(token, logp)| told(*token, *logp));
        entry["top_logprobs"] = top.collect();
        entry
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}
