//! The two kinds of rows, and the forms of JSON objects that become one.
//!
//! | form | keys | becomes |
//! | --- | --- | --- |
//! | chat | `messages` | [`ChatRow`] |
//! | Alpaca | `instruction`, `output`; optional `input`, `system` | [`ChatRow`]; instruction and input are joined by a line break |
//! | completion | `prompt`, and `completion` or `response` | [`ChatRow`] |
//! | preference | `chosen`, `rejected`; optional `prompt`, `system` | [`PairRow`] |
//!
//! `prompt`, `completion`, `chosen` and `rejected` are strings or message lists. `chosen` and
//! `rejected` may be the reply alone or the whole conversation; a whole conversation must begin
//! with the prompt, and without `prompt` what both have in common is the prompt. Of a sampled reply
//! that was cut off by its budget, `chosen_finished` or `rejected_finished` is false: it has no end
//! token to learn.

use super::error::DataError;
use super::source::{RawRow, kind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Key of a preference row: false where the preferred reply has no end.
pub const CHOSEN_FINISHED: &str = "chosen_finished";
/// Key of a preference row: false where the other reply has no end.
pub const REJECTED_FINISHED: &str = "rejected_finished";

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The file, as the recipe names it.
    pub path: String,
    /// Line (JSONL) or row (Parquet), from 1.
    pub row: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path, self.row)
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.to_owned(),
            content: content.into(),
        }
    }
}

/// A conversation to learn from; it has at least one assistant turn and no empty one.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRow {
    /// The row's own `id`, else made from file and line; unique among the rows loaded together,
    /// except for rows that a mixture repeats.
    pub id: String,
    /// The turns.
    pub messages: Vec<Message>,
    /// The keys that the form does not name, for example `constraints`.
    pub extra: Value,
    /// File and line.
    pub origin: Origin,
}

impl ChatRow {
    /// The turns before the last assistant turn: what a sampler is given.
    pub fn prompt(&self) -> &[Message] {
        let last = self.messages.iter().rposition(|m| m.role == "assistant");
        &self.messages[..last.unwrap_or(self.messages.len())]
    }
}

/// A preference pair: two different replies to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRow {
    /// As [`ChatRow::id`].
    pub id: String,
    /// The turns before the replies.
    pub prompt: Vec<Message>,
    /// The preferred reply: assistant turn first, and last.
    pub chosen: Vec<Message>,
    /// The other reply.
    pub rejected: Vec<Message>,
    /// The keys that the form does not name, for example `meta`.
    pub extra: Value,
    /// File and line.
    pub origin: Origin,
}

/// The form of a file's rows, fixed by its first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schema {
    /// `messages`.
    Messages,
    /// `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt` and `completion` or `response`.
    Completion,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
}

const CHAT_FORMS: &str =
    "`messages`, `instruction` with `output`, `prompt` with `completion` or `response`";
const PAIR_FORMS: &str = "`chosen` with `rejected` and, unless they hold it, `prompt`";

/// The form of a chat file, told by the keys of its first row.
pub(super) fn chat_schema(path: &str, first: &Map<String, Value>) -> Result<Schema, DataError> {
    let has = |key: &str| first.contains_key(key);
    if has("messages") {
        Ok(Schema::Messages)
    } else if has("instruction") && has("output") {
        Ok(Schema::Alpaca)
    } else if has("prompt") && (has("completion") || has("response")) {
        Ok(Schema::Completion)
    } else {
        Err(unknown(path, "chat data", first, CHAT_FORMS))
    }
}

/// The form of a preference file.
pub(super) fn pair_schema(path: &str, first: &Map<String, Value>) -> Result<Schema, DataError> {
    if first.contains_key("chosen") && first.contains_key("rejected") {
        return Ok(Schema::Preference);
    }
    Err(unknown(path, "preference data", first, PAIR_FORMS))
}

fn unknown(
    path: &str,
    wanted: &'static str,
    first: &Map<String, Value>,
    known: &'static str,
) -> DataError {
    DataError::UnknownSchema {
        path: path.to_owned(),
        wanted,
        keys: first.keys().cloned().collect(),
        known,
    }
}

/// A chat row from an object of form `schema`, or why it cannot be used.
pub(super) fn chat_row(
    path: &str,
    schema: Schema,
    (row, mut raw): RawRow,
) -> Result<ChatRow, String> {
    let id = take_id(path, row, &mut raw)?;
    let messages = match schema {
        Schema::Messages => take_messages(&mut raw, "messages")?,
        Schema::Alpaca => alpaca(&mut raw)?,
        Schema::Completion | Schema::Preference => completion(&mut raw)?,
    };
    check_conversation(&messages)?;
    Ok(ChatRow {
        id,
        messages,
        extra: Value::Object(raw),
        origin: Origin {
            path: path.to_owned(),
            row,
        },
    })
}

/// A preference pair from an object, or why it cannot be used.
pub(super) fn pair_row(path: &str, (row, mut raw): RawRow) -> Result<PairRow, String> {
    let id = take_id(path, row, &mut raw)?;
    let system = take_system(&mut raw)?;
    let prompt = if raw.contains_key("prompt") {
        Some(take_turns(&mut raw, "prompt", "user")?)
    } else {
        None
    };
    let chosen = take_turns(&mut raw, "chosen", "assistant")?;
    let rejected = take_turns(&mut raw, "rejected", "assistant")?;
    let (mut prompt, chosen, rejected) = match prompt {
        Some(prompt) => {
            let chosen = without_prompt(&prompt, chosen, "chosen")?;
            let rejected = without_prompt(&prompt, rejected, "rejected")?;
            (prompt, chosen, rejected)
        }
        None => common_prompt(chosen, rejected)?,
    };
    if let Some(system) = system {
        prompt.insert(0, system);
    }
    check_prompt(&prompt)?;
    if prompt.last().is_some_and(|m| m.role != "user") {
        return Err("the prompt does not end with a user turn".to_owned());
    }
    check_reply(&chosen, "chosen")?;
    check_reply(&rejected, "rejected")?;
    if same_text(&chosen, &rejected) {
        return Err("`chosen` and `rejected` are equal".to_owned());
    }
    Ok(PairRow {
        id,
        prompt,
        chosen,
        rejected,
        extra: Value::Object(raw),
        origin: Origin {
            path: path.to_owned(),
            row,
        },
    })
}

/// The row's `id`, else `<file stem>-<row>`.
fn take_id(path: &str, row: usize, raw: &mut Map<String, Value>) -> Result<String, String> {
    match raw.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id),
        Some(Value::Number(id)) => Ok(id.to_string()),
        None | Some(Value::Null) => {
            let stem = std::path::Path::new(path).file_stem();
            let stem = stem.map(|s| s.to_string_lossy().into_owned());
            Ok(format!("{}-{row}", stem.unwrap_or_default()))
        }
        Some(other) => Err(format!(
            "`id` must be a string or number, not {}",
            kind(&other)
        )),
    }
}

fn take_string(raw: &mut Map<String, Value>, key: &str) -> Result<String, String> {
    match raw.remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{key}` must be a string, not {}", kind(&other))),
        None => Err(format!("`{key}` is missing")),
    }
}

/// An optional string; null and empty mean absent.
fn take_optional(raw: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match raw.get(key) {
        None | Some(Value::Null) => {
            raw.remove(key);
            Ok(None)
        }
        Some(_) => Ok(Some(take_string(raw, key)?).filter(|text| !text.is_empty())),
    }
}

fn take_system(raw: &mut Map<String, Value>) -> Result<Option<Message>, String> {
    Ok(take_optional(raw, "system")?.map(|text| Message::new("system", text)))
}

/// A message list.
fn take_messages(raw: &mut Map<String, Value>, key: &str) -> Result<Vec<Message>, String> {
    match raw.remove(key) {
        Some(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| message(item).map_err(|e| format!("`{key}[{i}]`: {e}")))
            .collect(),
        Some(other) => Err(format!(
            "`{key}` must be a list of messages, not {}",
            kind(&other)
        )),
        None => Err(format!("`{key}` is missing")),
    }
}

/// A string as one message of `role`, or a message list.
fn take_turns(raw: &mut Map<String, Value>, key: &str, role: &str) -> Result<Vec<Message>, String> {
    if let Some(Value::String(_)) = raw.get(key) {
        return Ok(vec![Message::new(role, take_string(raw, key)?)]);
    }
    take_messages(raw, key)
}

fn message(value: Value) -> Result<Message, String> {
    let Value::Object(mut raw) = value else {
        return Err(format!("expected an object, found {}", kind(&value)));
    };
    for key in ["tool_calls", "function_call"] {
        if raw.get(key).is_some_and(|v| !v.is_null()) {
            return Err(format!("`{key}` is not supported"));
        }
    }
    let role = take_string(&mut raw, "role")?;
    if !["system", "user", "assistant"].contains(&role.as_str()) {
        return Err(format!(
            "unknown role `{role}`; known are `system`, `user` and `assistant`"
        ));
    }
    let content = take_string(&mut raw, "content")?;
    Ok(Message { role, content })
}

/// `instruction`, a line break and `input` if there is one; then `output`.
fn alpaca(raw: &mut Map<String, Value>) -> Result<Vec<Message>, String> {
    if raw
        .get("history")
        .and_then(Value::as_array)
        .is_some_and(|h| !h.is_empty())
    {
        return Err("`history` is not supported; write the turns as `messages`".to_owned());
    }
    let mut messages: Vec<Message> = take_system(raw)?.into_iter().collect();
    let mut user = take_string(raw, "instruction")?;
    if let Some(input) = take_optional(raw, "input")? {
        user = format!("{user}\n{input}");
    }
    messages.push(Message::new("user", user));
    messages.push(Message::new("assistant", take_string(raw, "output")?));
    Ok(messages)
}

fn completion(raw: &mut Map<String, Value>) -> Result<Vec<Message>, String> {
    let key = if raw.contains_key("completion") {
        "completion"
    } else {
        "response"
    };
    let mut messages: Vec<Message> = take_system(raw)?.into_iter().collect();
    messages.extend(take_turns(raw, "prompt", "user")?);
    messages.extend(take_turns(raw, key, "assistant")?);
    Ok(messages)
}

/// The reply of a half that may hold the whole conversation.
fn without_prompt(
    prompt: &[Message],
    half: Vec<Message>,
    key: &str,
) -> Result<Vec<Message>, String> {
    if half.first().is_some_and(|m| m.role == "assistant") {
        return Ok(half);
    }
    match half.strip_prefix(prompt) {
        Some(reply) => Ok(reply.to_vec()),
        None => Err(format!(
            "`{key}` is a conversation that does not begin with `prompt`"
        )),
    }
}

/// Splits two conversations where they part; the replies keep at least their last turn.
#[expect(clippy::type_complexity, reason = "prompt, chosen, rejected")]
fn common_prompt(
    chosen: Vec<Message>,
    rejected: Vec<Message>,
) -> Result<(Vec<Message>, Vec<Message>, Vec<Message>), String> {
    let pairs = chosen.iter().zip(&rejected);
    let same = pairs.take_while(|(a, b)| a == b).count();
    let common = same
        .min(chosen.len().saturating_sub(1))
        .min(rejected.len().saturating_sub(1));
    if common == 0 {
        return Err(
            "`prompt` is missing and `chosen` and `rejected` do not begin alike".to_owned(),
        );
    }
    Ok((
        chosen[..common].to_vec(),
        chosen[common..].to_vec(),
        rejected[common..].to_vec(),
    ))
}

fn check_conversation(messages: &[Message]) -> Result<(), String> {
    let Some(first) = messages.iter().position(|m| m.role == "assistant") else {
        return Err("no assistant turn".to_owned());
    };
    check_prompt(&messages[..first])?;
    let mut replies = messages.iter().filter(|m| m.role == "assistant");
    if replies.any(|m| m.content.trim().is_empty()) {
        return Err("empty response".to_owned());
    }
    Ok(())
}

fn check_prompt(prompt: &[Message]) -> Result<(), String> {
    let mut asked = prompt.iter().filter(|m| m.role == "user");
    match asked.next_back() {
        Some(last) if !last.content.trim().is_empty() => Ok(()),
        _ => Err("empty prompt".to_owned()),
    }
}

fn check_reply(reply: &[Message], key: &str) -> Result<(), String> {
    match reply {
        [only] if only.content.trim().is_empty() => Err(format!("empty response: `{key}`")),
        [only] if only.role == "assistant" => Ok(()),
        [_] => Err(format!("`{key}` is no assistant turn")),
        _ => Err(format!(
            "`{key}` has {} turns after the prompt, expected one",
            reply.len()
        )),
    }
}

fn same_text(a: &[Message], b: &[Message]) -> bool {
    let text = |m: &[Message]| {
        m.iter()
            .map(|m| m.content.trim().to_owned())
            .collect::<Vec<_>>()
    };
    text(a) == text(b)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
