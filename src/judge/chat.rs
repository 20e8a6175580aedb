//! Requests to a chat endpoint and what its responses say.

use crate::judge::verdict::excerpt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Sampling of a chat request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChatSampling {
    /// Softmax temperature.
    pub temperature: f64,
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// How many likeliest tokens are asked for in each place.
    pub top_logprobs: Option<usize>,
}

/// The body of a request: turns of (role, text).
pub fn chat_request(model: &str, messages: &[(String, String)], sampling: ChatSampling) -> Value {
    let messages = messages
        .iter()
        .map(|(role, text)| json!({"role": role, "content": text}));
    let messages: Vec<Value> = messages.collect();
    let mut body = json!({
        "model": model,
        "messages": messages,
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
    });
    if let Some(count) = sampling.top_logprobs {
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(count);
    }
    body
}

/// What a response says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text; empty where the model refused.
    pub text: String,
    /// The likeliest first tokens with their log-probabilities, nats.
    pub first_token: Vec<(String, f64)>,
    /// Tokens of the request, as the endpoint counts them; 0 if it does not say.
    pub prompt_tokens: u64,
    /// Tokens of the answer, likewise.
    pub completion_tokens: u64,
}

/// Reads a raw response. With `logprobs`, one without log-probabilities is refused: it would pass for no preference.
///
/// # Errors
/// What is wrong with it.
pub fn chat_reply(response: &str, logprobs: bool) -> Result<ChatReply, String> {
    let json: Value = serde_json::from_str(response)
        .map_err(|_| format!("the response is not JSON: `{}`", excerpt(response)))?;
    let choice = &json["choices"][0];
    let message = &choice["message"];
    let text = match &message["content"] {
        Value::String(text) => text.clone(),
        // A refusal, or what a filter cut away, is an answer: one without a verdict.
        Value::Null if message.is_object() => String::new(),
        _ => {
            let what = "the response has no `choices[0].message.content`";
            return Err(format!("{what}: `{}`", excerpt(response)));
        }
    };
    let tokens = choice["logprobs"]["content"][0]["top_logprobs"].as_array();
    if logprobs && tokens.is_none() && message["refusal"].is_null() {
        let what = "the response has no `top_logprobs`, which were asked for";
        return Err(format!("{what}: `{}`", excerpt(response)));
    }
    let tokens = tokens.into_iter().flatten();
    let tokens =
        tokens.filter_map(|t| Some((t["token"].as_str()?.to_owned(), t["logprob"].as_f64()?)));
    let count = |key: &str| json["usage"][key].as_u64().unwrap_or(0);
    Ok(ChatReply {
        text,
        first_token: tokens.collect(),
        prompt_tokens: count("prompt_tokens"),
        completion_tokens: count("completion_tokens"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLING: ChatSampling = ChatSampling {
        temperature: 0.0,
        max_tokens: 1,
        top_logprobs: Some(5),
    };

    #[test]
    fn a_request_holds_turns_and_sampling() {
        let turns = [
            ("system".to_owned(), "s".to_owned()),
            ("user".to_owned(), "q".to_owned()),
        ];
        let body = chat_request("j", &turns, SAMPLING);
        let want = json!({"model": "j", "temperature": 0.0, "max_tokens": 1, "logprobs": true, "top_logprobs": 5,
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]});
        assert_eq!(body, want);
        let plain = ChatSampling {
            top_logprobs: None,
            ..SAMPLING
        };
        assert_eq!(chat_request("j", &turns, plain).get("logprobs"), None);
    }

    #[test]
    fn text_tokens_and_usage_are_read() {
        let response = json!({
            "choices": [{
                "message": {"role": "assistant", "content": "M"},
                "logprobs": {"content": [{"token": "M", "logprob": -0.1, "top_logprobs": [
                    {"token": "M", "logprob": -0.1}, {"token": "m", "logprob": -2.5}]}]},
            }],
            "usage": {"prompt_tokens": 40, "completion_tokens": 1},
        });
        let reply = chat_reply(&response.to_string(), true).unwrap();
        assert_eq!(
            reply.first_token,
            [("M".to_owned(), -0.1), ("m".to_owned(), -2.5)]
        );
        assert_eq!(
            (
                reply.text.as_str(),
                reply.prompt_tokens,
                reply.completion_tokens
            ),
            ("M", 40, 1)
        );
    }

    #[test]
    fn a_refusal_is_an_answer_and_what_is_none_says_why() {
        let refused = r#"{"choices": [{"message": {"content": null, "refusal": "I cannot."}}]}"#;
        assert_eq!(chat_reply(refused, true).unwrap(), ChatReply::default());
        for (response, logprobs, want) in [
            ("<html>busy</html>", false, "not JSON"),
            ("{}", false, "content"),
            (
                r#"{"choices": [{"message": {"content": 3}}]}"#,
                false,
                "content",
            ),
            (
                r#"{"choices": [{"message": {"content": "M"}}]}"#,
                true,
                "top_logprobs",
            ),
        ] {
            let error = chat_reply(response, logprobs).unwrap_err();
            assert!(error.contains(want), "{response}: {error}");
        }
    }
}
