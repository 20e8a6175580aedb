//! Requests: what they may hold, and what that means.

use super::api_error::ApiError;
use crate::config::spec::{NonNegative, SamplingRecipe, Share};
use crate::data::Message;
use serde::Deserialize;
use serde_json::Value;
use std::num::NonZeroUsize;

/// Replies to one request at most: each is a row of a batch.
const MOST_CHOICES: usize = 256;
/// Likeliest tokens that are told at most; OpenAI's limit.
const MOST_TOP: usize = 20;
/// Stop texts at most; each is looked for behind every token.
const MOST_STOPS: usize = 16;
/// Tokens of a completion where the request names no number; OpenAI's.
const COMPLETION_TOKENS: usize = 16;

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// The prompts of a completion.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompts {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Token ids.
    Tokens(Vec<u32>),
    /// Lists of token ids.
    TokenLists(Vec<Vec<u32>>),
}

/// What both kinds of requests have.
#[derive(Clone, Debug, Deserialize)]
struct Common {
    model: Option<String>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<usize>,
    stop: Option<Stop>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct CompletionBody {
    #[serde(flatten)]
    common: Common,
    prompt: Option<Prompts>,
    logprobs: Option<usize>,
    echo: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct ChatBody {
    #[serde(flatten)]
    common: Common,
    messages: Option<Vec<ChatMessage>>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    max_completion_tokens: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<Content>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// Texts to continue.
    Completion {
        /// The texts.
        prompts: Prompts,
        /// Whether they are given back before what continues them.
        echo: bool,
    },
    /// A conversation.
    Chat(Vec<Message>),
}

/// A checked request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// Budget of a reply; none: what the model has room for.
    pub(super) max_tokens: Option<usize>,
    pub(super) temperature: NonNegative,
    pub(super) top_p: Share,
    pub(super) n: usize,
    pub(super) stop: Vec<String>,
    pub(super) seed: Option<u64>,
    pub(super) stream: bool,
    /// Whether a stream ends with what it cost.
    pub(super) usage: bool,
    /// Likeliest tokens told with each, if log-probabilities are.
    pub(super) top: Option<usize>,
}

impl Request {
    /// Temperature, nucleus and budget, which is at most `room`.
    pub(super) fn sampling(&self, room: usize) -> SamplingRecipe {
        let budget = self.max_tokens.unwrap_or(room).min(room);
        SamplingRecipe {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: NonZeroUsize::new(budget).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Whether a field has a value at which it does nothing.
type IsIdle = fn(&Value) -> bool;

/// Fields that are known and must have a value at which they do nothing.
const UNSUPPORTED: &[(&str, IsIdle)] = &[
    ("best_of", |v| v == 1),
    ("frequency_penalty", is_zero),
    ("presence_penalty", is_zero),
    ("logit_bias", |v| {
        v.as_object().is_some_and(serde_json::Map::is_empty)
    }),
    ("suffix", |v| v == ""),
    ("tools", |v| v.as_array().is_some_and(Vec::is_empty)),
    ("functions", |v| v.as_array().is_some_and(Vec::is_empty)),
    ("response_format", |v| v["type"] == "text"),
];

fn is_zero(value: &Value) -> bool {
    value.as_f64().is_some_and(|x| x.abs() <= 0.0)
}

/// Reads the body of a completion or, with `chat`, of a chat. `served` is the model's name.
///
/// # Errors
/// It is no JSON or not as it must be, asks for another model, or for what is not supported.
pub(super) fn read_request(body: &[u8], chat: bool, served: &str) -> Result<Request, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad(None, format!("the body is no JSON: {error}")))?;
    for (name, harmless) in UNSUPPORTED {
        if value
            .get(*name)
            .is_some_and(|v| !v.is_null() && !harmless(v))
        {
            return Err(ApiError::bad(*name, format!("`{name}` is not supported")));
        }
    }
    let odd = |error: serde_json::Error| {
        ApiError::bad(None, format!("the body is not as it must be: {error}"))
    };
    if chat {
        chat_request(serde_json::from_value(value).map_err(odd)?, served)
    } else {
        completion_request(serde_json::from_value(value).map_err(odd)?, served)
    }
}

fn completion_request(body: CompletionBody, served: &str) -> Result<Request, ApiError> {
    let prompts = body
        .prompt
        .ok_or_else(|| ApiError::bad("prompt", "`prompt` is missing"))?;
    let count = match &prompts {
        Prompts::Text(_) | Prompts::Tokens(_) => 1,
        Prompts::Texts(texts) => texts.len(),
        Prompts::TokenLists(lists) => lists.len(),
    };
    let echo = body.echo.unwrap_or(false);
    let max_tokens = body.common.max_tokens.unwrap_or(COMPLETION_TOKENS);
    let asked = Asked::Completion { prompts, echo };
    request(
        body.common,
        asked,
        (count, Some(max_tokens), body.logprobs),
        served,
    )
}

fn chat_request(body: ChatBody, served: &str) -> Result<Request, ApiError> {
    let messages = body.messages.unwrap_or_default();
    if messages.is_empty() {
        return Err(ApiError::bad("messages", "`messages` is missing or empty"));
    }
    let turns = messages
        .into_iter()
        .map(message)
        .collect::<Result<_, _>>()?;
    let top = match (body.logprobs, body.top_logprobs) {
        (Some(true), top) => Some(top.unwrap_or(0)),
        (_, None | Some(0)) => None,
        _ => {
            return Err(ApiError::bad(
                "top_logprobs",
                "`top_logprobs` wants `logprobs` to be true",
            ));
        }
    };
    let max_tokens = body.max_completion_tokens.or(body.common.max_tokens);
    if max_tokens == Some(0) {
        return Err(ApiError::bad(
            "max_tokens",
            "`max_tokens` must be 1 or more",
        ));
    }
    request(
        body.common,
        Asked::Chat(turns),
        (1, max_tokens, top),
        served,
    )
}

fn message(message: ChatMessage) -> Result<Message, ApiError> {
    let role = match message.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant") => role,
        other => {
            let wrong = format!("the role `{other}` is not supported");
            return Err(ApiError::bad("messages", wrong));
        }
    };
    let text = match message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut all = String::new();
            for part in parts {
                let text = part.text.filter(|_| part.r#type == "text");
                all.push_str(&text.ok_or_else(|| {
                    ApiError::bad(
                        "messages",
                        format!("parts of type `{}` are not supported", part.r#type),
                    )
                })?);
            }
            all
        }
    };
    Ok(Message::new(role, text))
}

fn request(
    common: Common,
    asked: Asked,
    (prompts, max_tokens, top): (usize, Option<usize>, Option<usize>),
    served: &str,
) -> Result<Request, ApiError> {
    if let Some(model) = common.model.filter(|model| model != served) {
        let message = format!("the model `{model}` is not served here; `{served}` is");
        return Err(ApiError::status(404, "model_not_found", message));
    }
    let n = common.n.unwrap_or(1);
    if n == 0 || prompts == 0 || n.saturating_mul(prompts) > MOST_CHOICES {
        let wrong =
            format!("a request has 1 to {MOST_CHOICES} choices, not {prompts} prompts times {n}");
        return Err(ApiError::bad("n", wrong));
    }
    if top.is_some_and(|top| top > MOST_TOP) {
        return Err(ApiError::bad(
            "logprobs",
            format!("at most {MOST_TOP} tokens are told at each place"),
        ));
    }
    let stop = match common.stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Several(texts)) => texts,
    };
    if stop.len() > MOST_STOPS {
        return Err(ApiError::bad(
            "stop",
            format!("at most {MOST_STOPS} stop texts are looked for"),
        ));
    }
    Ok(Request {
        asked,
        max_tokens,
        temperature: NonNegative::try_from(common.temperature.unwrap_or(1.0))
            .map_err(|error| ApiError::bad("temperature", format!("`temperature` {error}")))?,
        top_p: Share::try_from(common.top_p.unwrap_or(1.0))
            .map_err(|error| ApiError::bad("top_p", format!("`top_p` {error}")))?,
        n,
        stop,
        seed: common.seed.map(i64::cast_unsigned),
        stream: common.stream.unwrap_or(false),
        usage: common
            .stream_options
            .and_then(|o| o.include_usage)
            .unwrap_or(false),
        top,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value, chat: bool) -> Result<Request, ApiError> {
        read_request(body.to_string().as_bytes(), chat, "tiny")
    }

    fn refused(body: Value, chat: bool) -> (u16, Value) {
        let error = read(body, chat).unwrap_err();
        (error.status, error.json()["error"]["param"].clone())
    }

    #[test]
    fn prompts_are_texts_or_tokens_one_or_several() {
        for (prompt, want) in [
            (json!("a"), Prompts::Text("a".to_owned())),
            (
                json!(["a", "b"]),
                Prompts::Texts(vec!["a".to_owned(), "b".to_owned()]),
            ),
            (json!([1, 2]), Prompts::Tokens(vec![1, 2])),
            (
                json!([[1], [2, 3]]),
                Prompts::TokenLists(vec![vec![1], vec![2, 3]]),
            ),
        ] {
            let got = read(json!({"model": "tiny", "prompt": prompt}), false).unwrap();
            let Asked::Completion { prompts, echo } = got.asked else {
                panic!("no completion");
            };
            assert_eq!(
                (prompts, echo, got.max_tokens, got.n),
                (want, false, Some(16), 1)
            );
        }
    }

    #[test]
    fn a_chat_has_turns_of_text() {
        let body = json!({"messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ], "logprobs": true, "top_logprobs": 2, "stop": "x", "seed": -1, "max_completion_tokens": 5});
        let got = read(body, true).unwrap();
        let Asked::Chat(turns) = got.asked else {
            panic!("no chat");
        };
        assert_eq!(
            turns,
            [
                Message::new("system", "Be brief."),
                Message::new("user", "ab")
            ]
        );
        assert_eq!(
            (got.top, got.seed, got.max_tokens),
            (Some(2), Some(u64::MAX), Some(5))
        );
    }

    #[test]
    fn what_is_not_supported_or_out_of_range_is_refused_and_named() {
        let with = |key: &str, value: Value| {
            let mut body = json!({"prompt": "a"});
            body[key] = value;
            refused(body, false)
        };
        assert_eq!(with("model", json!("other")).0, 404);
        assert_eq!(with("temperature", json!(-1)), (400, json!("temperature")));
        assert_eq!(with("top_p", json!(0)), (400, json!("top_p")));
        assert_eq!(with("n", json!(0)), (400, json!("n")));
        assert_eq!(with("n", json!(1000)), (400, json!("n")));
        assert_eq!(with("logprobs", json!(21)), (400, json!("logprobs")));
        assert_eq!(
            with("logit_bias", json!({"5": 1})),
            (400, json!("logit_bias"))
        );
        assert_eq!(with("best_of", json!(2)), (400, json!("best_of")));
        assert_eq!(with("prompt", json!({})).0, 400);
        assert_eq!(with("prompt", json!([])), (400, json!("n")));
        assert_eq!(with("prompt", Value::Null), (400, json!("prompt")));
        assert_eq!(with("stop", json!(vec!["a"; 17])), (400, json!("stop")));
        assert!(
            read(
                json!({"prompt": "a", "best_of": 1, "presence_penalty": 0.0, "user": "u"}),
                false
            )
            .is_ok()
        );
        let chat = |messages: Value| refused(json!({"messages": messages}), true);
        assert_eq!(chat(json!([])), (400, json!("messages")));
        assert_eq!(
            chat(json!([{"role": "tool", "content": "a"}])),
            (400, json!("messages"))
        );
        assert_eq!(
            chat(json!([{"role": "user", "content": [{"type": "image_url"}]}])),
            (400, json!("messages"))
        );
        assert_eq!(read_request(b"{", false, "tiny").unwrap_err().status, 400);
    }
}
