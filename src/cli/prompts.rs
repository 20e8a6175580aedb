//! Files of prompts.

use crate::base::fs::read_to_string;
use crate::cli::error::CommandError;
use crate::data::Message;
use serde_json::Value;
use std::path::Path;

/// What a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    /// A text.
    Text(String),
    /// A conversation that waits for a reply.
    Turns(Vec<Message>),
}

/// The prompts of a file: its lines if it is a `.txt`, else JSON lines. Empty lines are left out, and so is the reply
/// that a conversation ends with.
///
/// # Errors
/// It cannot be read, has no prompt, or a line is none.
pub(crate) fn read_prompts(path: &Path) -> Result<Vec<Prompt>, CommandError> {
    let text = read_to_string(path).map_err(CommandError::user)?;
    let plain = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("txt"));
    let mut prompts = Vec::new();
    for (number, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let prompt = if plain {
            Ok(Prompt::Text(line.to_owned()))
        } else {
            serde_json::from_str(line)
                .map_err(|error| format!("it is no JSON: {error}"))
                .and_then(|value| prompt_of(&value))
        };
        let wrong = |why: String| CommandError::user(format!("{}:{number}: {why}", path.display()));
        prompts.push(prompt.map_err(wrong)?);
    }
    if prompts.is_empty() {
        return Err(CommandError::user(format!(
            "`{}` has no prompt",
            path.display()
        )));
    }
    Ok(prompts)
}

fn prompt_of(value: &Value) -> Result<Prompt, String> {
    let what = match value {
        Value::Object(row) => row
            .get("prompt")
            .or_else(|| row.get("messages"))
            .ok_or("it has neither `prompt` nor `messages`")?,
        other => other,
    };
    match what {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(_) => {
            let turns: Vec<Message> =
                serde_json::from_value(what.clone()).map_err(|error| error.to_string())?;
            let asked = turns.iter().rposition(|turn| turn.role != "assistant");
            let asked = asked.ok_or("it has no turn to reply to")?;
            Ok(Prompt::Turns(turns[..=asked].to_vec()))
        }
        _ => Err("a prompt is a text or a list of messages".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_and_conversations_are_prompts() {
        let hello = Prompt::Text("Hello".to_owned());
        assert_eq!(prompt_of(&json!("Hello")), Ok(hello.clone()));
        assert_eq!(prompt_of(&json!({"prompt": "Hello"})), Ok(hello));
        let turns =
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]);
        let asked = Prompt::Turns(vec![Message::new("user", "Hi")]);
        assert_eq!(prompt_of(&json!({"messages": turns, "id": 3})), Ok(asked));
        for wrong in [
            json!(3),
            json!({"text": "x"}),
            json!({"prompt": 3}),
            json!([]),
            json!([{"role": 1}]),
        ] {
            assert!(prompt_of(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_that_is_no_prompt_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        crate::base::write_atomic(&path, b"\"a\"\n\n{\"prompt\": \"b\"}\nc\n").unwrap();
        let error = read_prompts(&path).unwrap_err().message();
        assert!(error.contains("p.jsonl:4: it is no JSON"), "{error}");
        let path = dir.path().join("p.txt");
        crate::base::write_atomic(&path, b"a\n\nc\n").unwrap();
        assert_eq!(read_prompts(&path).unwrap().len(), 2);
    }
}
