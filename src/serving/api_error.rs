//! A refusal in OpenAI's form.

use serde_json::{Value, json};

/// What a client is told instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    /// The HTTP status.
    pub(super) status: u16,
    message: String,
    /// The field that is wrong.
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl ApiError {
    /// A request that is wrong in one field, or as a whole.
    pub(super) fn bad(param: impl Into<Option<&'static str>>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            message: message.into(),
            param: param.into(),
            code: None,
        }
    }

    /// A text that is longer than the model holds.
    pub(super) fn too_long(tokens: usize, limit: usize) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::bad(
                None,
                format!(
                    "this model holds {limit} tokens, and the request has {tokens} before the reply begins"
                ),
            )
        }
    }

    /// Any other status.
    pub(super) fn status(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: Some(code),
            ..Self::bad(None, message)
        }
    }

    /// What is wrong.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn json(&self) -> Value {
        let kind = match self.status {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }})
    }
}
