//! The two kinds of rows, and the forms of JSON objects that become one.
//!
//! | form | keys | becomes |
//! | --- | --- | --- |
//! | chat | `messages`; optional `system` | [`ChatRow`] |
//! | ShareGPT | `conversations`; optional `system` | [`ChatRow`] |
//! | Alpaca | `instruction`, `output`; optional `input`, `system` | [`ChatRow`]; instruction and input are joined by a line break |
//! | completion | `prompt`, and `completion` or `response`; optional `system` | [`ChatRow`] |
//! | preference | `chosen`, `rejected`; optional `prompt` or `conversations`, `system` | [`PairRow`] |
//!
//! A message has `role` and `content`, or `from` (`human`, `gpt`, `system`) and `value`. `prompt`,
//! `completion`, `chosen` and `rejected` are strings, messages or message lists; a string `prompt` is a
//! user turn. `chosen` and `rejected` may be the reply alone or the whole conversation; a whole
//! conversation must begin with the prompt, and without `prompt` what both have in common is the
//! prompt. Two transcripts (`Human: …`, an empty line, `Assistant: …`, as in HH-RLHF) are conversations.
//!
//! Null is absent, and so is an empty value of an optional key: a Parquet file cannot leave a column
//! out of single rows. `system` is the first turn of the conversation; where that has a system turn of
//! its own, the two must be equal. A reply with `weight` 0 (or `train`, `training`, `trainable` false)
//! is read by the model and is no target. Of a sampled reply that was cut off by its budget,
//! `chosen_finished` or `rejected_finished` is false: it has no end token to learn.

use super::error::DataError;
use super::parquet::NOT_UTF8;
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
    /// Whether a reply is a target; only a row's own flag makes it false.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub train: bool,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_yes(train: &bool) -> bool {
    *train
}

/// The text of turns, each with its role: by it rows of one prompt are told.
pub(crate) fn turns_text(turns: &[Message]) -> String {
    let turns = turns.iter();
    turns
        .map(|m| format!("{}\n{}\n", m.role, m.content))
        .collect()
}

impl Message {
    /// A message of `role`.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.to_owned(),
            content: content.into(),
            train: true,
        }
    }
}

/// A conversation to learn from; it has at least one assistant turn and no empty one.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRow {
    /// The row's own `id`, else made of its line; unique among the rows loaded together,
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
    /// `conversations`.
    Conversations,
    /// `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt` and `completion` or `response`.
    Completion,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
}

const CHAT_FORMS: &str = "`messages`, `conversations`, `instruction` with `output`, `prompt` with \
                          `completion` or `response`; other names can be given with `columns`";
const PAIR_FORMS: &str = "`chosen` with `rejected` and, unless they hold it, `prompt`; other names can \
                          be given with `columns`";

/// Whether a value says nothing: null, empty, or made of such alone.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_absent),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a row has a value under `key` that says something.
pub(super) fn has(raw: &Map<String, Value>, key: &str) -> bool {
    raw.get(key).is_some_and(|value| !is_absent(value))
}

/// The form of a chat file, told by the keys of its first row.
pub(super) fn chat_schema(path: &str, first: &Map<String, Value>) -> Result<Schema, DataError> {
    let form = |has: &dyn Fn(&str) -> bool| {
        if has("messages") {
            Some(Schema::Messages)
        } else if has("conversations") && !(has("chosen") && has("rejected")) {
            Some(Schema::Conversations)
        } else if has("instruction") && has("output") {
            Some(Schema::Alpaca)
        } else if has("prompt") && (has("completion") || has("response")) {
            Some(Schema::Completion)
        } else {
            None
        }
    };
    // Empty values tell the form of a row that has no other.
    let told = form(&|key| has(first, key)).or_else(|| form(&|key| first.contains_key(key)));
    if let Some(schema) = told {
        return Ok(schema);
    }
    Err(unknown(path, "chat data", first, CHAT_FORMS))
}

/// Whether a row is one of preference data.
pub(super) fn is_pair(row: &Map<String, Value>) -> bool {
    let both = row.contains_key("chosen") && row.contains_key("rejected");
    both && (has(row, "chosen") || has(row, "rejected"))
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
    raw.retain(|_, value| !value.is_null());
    told_to_templates(&raw)?;
    let id = take_id(row, &mut raw)?;
    let system = take_optional(&mut raw, "system")?;
    let mut messages = match schema {
        Schema::Messages => take_messages(&mut raw, "messages")?,
        Schema::Conversations => take_messages(&mut raw, "conversations")?,
        Schema::Alpaca => alpaca(&mut raw)?,
        Schema::Completion | Schema::Preference => completion(&mut raw)?,
    };
    let system = common_system(system, [messages.as_slice()])?;
    begin_with(&mut messages, system);
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
    raw.retain(|_, value| !value.is_null());
    told_to_templates(&raw)?;
    let id = take_id(row, &mut raw)?;
    let system = take_optional(&mut raw, "system")?;
    let key = if !has(&raw, "prompt") && has(&raw, "conversations") {
        "conversations"
    } else {
        "prompt"
    };
    let asked = raw.contains_key(key);
    let mut prompt = if has(&raw, key) {
        Some(take_turns(&mut raw, key, "user")?)
    } else {
        raw.remove(key);
        None
    };
    let transcripts = ["chosen", "rejected"].map(|key| {
        let text = raw.get(key).and_then(Value::as_str);
        text.and_then(transcript)
    });
    let (mut chosen, mut rejected) = match (transcripts, &prompt) {
        ([Some(chosen), Some(rejected)], None) => {
            raw.remove("chosen");
            raw.remove("rejected");
            (chosen, rejected)
        }
        _ => (
            take_turns(&mut raw, "chosen", "assistant")?,
            take_turns(&mut raw, "rejected", "assistant")?,
        ),
    };
    let system = common_system(
        system,
        [prompt.as_deref().unwrap_or_default(), &chosen, &rejected],
    )?;
    for turns in prompt.iter_mut().chain([&mut chosen, &mut rejected]) {
        let reply_alone = turns.first().is_some_and(|m| m.role == "assistant");
        if !reply_alone {
            begin_with(turns, system.clone());
        }
    }
    for (key, half) in [("chosen", &chosen), ("rejected", &rejected)] {
        if half.last().is_some_and(|m| !m.train) {
            return Err(format!(
                "`{key}` is marked as no target, but both replies of a pair are"
            ));
        }
    }
    let turns = prompt.iter_mut().chain([&mut chosen, &mut rejected]);
    turns.flatten().for_each(|m| m.train = true);
    let (prompt, chosen, rejected) = match prompt {
        Some(prompt) => {
            let chosen = without_prompt(&prompt, chosen, "chosen")?;
            let rejected = without_prompt(&prompt, rejected, "rejected")?;
            (prompt, chosen, rejected)
        }
        None => common_prompt(chosen, rejected, asked)?,
    };
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

/// Columns that TRL hands to the chat template, which would write other text for them.
const TOLD: [&str; 2] = ["tools", "chat_template_kwargs"];

/// Refuses a row whose text would be another one elsewhere, where templates are told of such columns.
fn told_to_templates(raw: &Map<String, Value>) -> Result<(), String> {
    let says = |key: &str| {
        let text = raw.get(key).and_then(Value::as_str).map(str::trim);
        has(raw, key) && !matches!(text, Some("[]" | "{}" | "null"))
    };
    match TOLD.into_iter().find(|key| says(key)) {
        None => Ok(()),
        Some(key) => Err(format!(
            "`{key}` is not supported: a chat template that is told of it may write another text; take the \
             column out of the file if the turns alone are meant"
        )),
    }
}

/// The row's `id`, else `row-<row>`.
fn take_id(row: usize, raw: &mut Map<String, Value>) -> Result<String, String> {
    match raw.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id),
        Some(Value::Number(id)) => Ok(id.to_string()),
        None | Some(Value::Null | Value::String(_)) => Ok(format!("row-{row}")),
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

/// An optional string; an empty value means absent.
fn take_optional(raw: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    if has(raw, key) {
        return take_string(raw, key).map(Some);
    }
    raw.remove(key);
    Ok(None)
}

/// The system text of a row: that of its column and those that its conversations begin with, which
/// must be equal.
fn common_system<'m>(
    column: Option<String>,
    conversations: impl IntoIterator<Item = &'m [Message]>,
) -> Result<Option<Message>, String> {
    let mut system = column.map(|text| Message::new("system", text));
    for first in conversations.into_iter().filter_map(<[Message]>::first) {
        if first.role != "system" {
            continue;
        }
        match &system {
            Some(known) if known.content != first.content => {
                return Err("it has two different system texts".to_owned());
            }
            Some(_) => {}
            None => system = Some(first.clone()),
        }
    }
    Ok(system)
}

/// Puts the system turn in front of a conversation that does not begin with it.
fn begin_with(turns: &mut Vec<Message>, system: Option<Message>) {
    let has = turns.first().is_some_and(|m| m.role == "system");
    turns.splice(0..0, system.filter(|_| !has));
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

/// A string as one message of `role`, a message, or a message list. A transcript that ends where the
/// assistant is to speak is the turns before.
fn take_turns(raw: &mut Map<String, Value>, key: &str, role: &str) -> Result<Vec<Message>, String> {
    match raw.get(key) {
        Some(Value::String(text)) => {
            let open = |turns: &Vec<Message>| {
                let last = turns.last();
                last.is_some_and(|m| m.role == "assistant" && m.content.is_empty())
            };
            if let Some(mut turns) = transcript(text).filter(open) {
                turns.pop();
                raw.remove(key);
                return Ok(turns);
            }
            Ok(vec![Message::new(role, take_string(raw, key)?)])
        }
        Some(Value::Object(_)) => {
            let value = raw.remove(key).unwrap_or_default();
            let turn = message(value).map_err(|e| format!("`{key}`: {e}"))?;
            Ok(vec![turn])
        }
        _ => take_messages(raw, key),
    }
}

/// The turns of a text in which each begins with `Human:` or `Assistant:` after an empty line; none if
/// it is another text.
fn transcript(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, &str); 2] = [("Human:", "user"), ("Assistant:", "assistant")];
    let mut turns: Vec<Message> = Vec::new();
    for (i, part) in text.trim_start().split("\n\n").enumerate() {
        let speaker = SPEAKERS
            .iter()
            .find_map(|(name, role)| Some((part.strip_prefix(name)?, role)));
        match (speaker, turns.last_mut()) {
            (Some((rest, role)), _) => turns.push(Message::new(role, rest)),
            (None, Some(turn)) => turn.content = format!("{}\n\n{part}", turn.content),
            (None, None) => return None,
        }
        if i == 0 && turns[0].role != "user" {
            return None;
        }
    }
    for turn in &mut turns {
        turn.content = turn.content.trim().to_owned();
    }
    (turns.len() > 1).then_some(turns)
}

/// Keys of a message that hold what a model thought before its reply.
const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Keys of a message that say whether it is a target.
const FLAGS: [&str; 4] = ["weight", "train", "training", "trainable"];

fn message(value: Value) -> Result<Message, String> {
    let Value::Object(mut raw) = value else {
        return Err(format!("expected an object, found {}", kind(&value)));
    };
    if raw.contains_key(NOT_UTF8) {
        return Err(NOT_UTF8.to_owned());
    }
    for key in ["tool_calls", "function_call"] {
        if has(&raw, key) {
            return Err(format!("`{key}` is not supported"));
        }
    }
    // Templates of models that think would write them, and others would leave them out.
    if let Some(key) = THOUGHTS.into_iter().find(|key| has(&raw, key)) {
        return Err(format!(
            "`{key}` is not supported; write thoughts into `content`, as the model does"
        ));
    }
    let mut train = true;
    for key in FLAGS {
        train &= match raw.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::Bool(flag)) => *flag,
            Some(value) if value.as_f64() == Some(0.0) => false,
            Some(value) if value.as_f64() == Some(1.0) => true,
            Some(value) => return Err(format!("`{key}` must be 0 or 1, not {value}")),
        };
    }
    let sharegpt = !has(&raw, "role") && has(&raw, "from");
    let (role, content) = if sharegpt {
        ("from", "value")
    } else {
        ("role", "content")
    };
    let named = take_string(&mut raw, role)?;
    let role = match named.as_str() {
        "human" if sharegpt => "user",
        "gpt" | "chatgpt" if sharegpt => "assistant",
        known @ ("system" | "user" | "assistant") => known,
        _ => {
            return Err(format!(
                "unknown role `{named}`; known are `system`, `user` and `assistant`"
            ));
        }
    };
    Ok(Message {
        train,
        ..Message::new(role, take_string(&mut raw, content)?)
    })
}

/// `instruction`, a line break and `input` if there is one; then `output`.
fn alpaca(raw: &mut Map<String, Value>) -> Result<Vec<Message>, String> {
    if has(raw, "history") {
        return Err("`history` is not supported; write the turns as `messages`".to_owned());
    }
    let mut user = take_string(raw, "instruction")?;
    if let Some(input) = take_optional(raw, "input")? {
        user = format!("{user}\n{input}");
    }
    let output = take_string(raw, "output")?;
    Ok(vec![
        Message::new("user", user),
        Message::new("assistant", output),
    ])
}

fn completion(raw: &mut Map<String, Value>) -> Result<Vec<Message>, String> {
    let key = if has(raw, "completion") || !raw.contains_key("response") {
        "completion"
    } else {
        "response"
    };
    let mut messages = take_turns(raw, "prompt", "user")?;
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
    asked: bool,
) -> Result<(Vec<Message>, Vec<Message>, Vec<Message>), String> {
    let reply_alone = |half: &[Message]| half.len() == 1 && half[0].role == "assistant";
    if reply_alone(&chosen) || reply_alone(&rejected) {
        return Err(if asked {
            "empty prompt".to_owned()
        } else {
            "`prompt` is missing, and a reply alone does not hold it: give `prompt`, or write `chosen` \
             and `rejected` as message lists of the whole conversation"
                .to_owned()
        });
    }
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
    let replies = || messages.iter().filter(|m| m.role == "assistant");
    if replies().any(|m| m.content.trim().is_empty()) {
        return Err("empty response".to_owned());
    }
    if !replies().any(|m| m.train) {
        return Err("every reply is marked as no target (`weight` 0)".to_owned());
    }
    Ok(())
}

fn check_prompt(prompt: &[Message]) -> Result<(), String> {
    let mut asked = prompt.iter().filter(|m| m.role == "user");
    match asked.next_back() {
        Some(last) if !last.content.trim().is_empty() => Ok(()),
        Some(_) => Err("empty prompt".to_owned()),
        None => Err("it begins with an assistant turn: there is no user turn before it".to_owned()),
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
