//! Which rows of an evaluation are not independent.
//!
//! Rows of one prompt are one cluster, unless the evaluation names a key of the data that says more: a topic,
//! an author, a document.

use crate::base::digest_bytes;
use crate::data::{Message, turns_text};
use serde_json::Value;

/// The key that makes each row a cluster of its own.
const EACH: &str = "id";

/// The cluster of the row `id` by its value under `key`, one of the keys that the form does not name.
///
/// # Errors
/// It has none there, or one that is no text, number or truth value; the text says so.
pub fn cluster_by(key: &str, id: &str, extra: &Value) -> Result<String, String> {
    if key == EACH {
        return Ok(id.to_owned());
    }
    match extra.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(Value::Null) | None => Err(format!("it has no `{key}`, by which rows are clustered")),
        Some(_) => Err(format!(
            "its `{key}`, by which rows are clustered, is neither text nor a number"
        )),
    }
}

/// The cluster of rows with this prompt: the beginning of its digest. A start token alone is no prompt.
pub(crate) fn prompt_cluster(tokens: &[u32]) -> Option<String> {
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    (tokens.len() > 1).then(|| short(&bytes.collect::<Vec<u8>>()))
}

/// As [`prompt_cluster`], of turns: all of them, each with its role.
pub(crate) fn turns_cluster(turns: &[Message]) -> Option<String> {
    let text = turns_text(turns);
    (!text.is_empty()).then(|| short(text.as_bytes()))
}

/// So many hex digits tell a million prompts apart.
const DIGITS: usize = 16;

fn short(bytes: &[u8]) -> String {
    let mut digest = digest_bytes(bytes).0;
    digest.truncate(DIGITS);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_clustered_by_a_key_or_refused() {
        let extra = json!({"topic": "sea", "day": 3, "list": [], "none": null});
        let by = |key| cluster_by(key, "r1", &extra);
        assert_eq!(by("topic"), Ok("sea".to_owned()));
        assert_eq!(by("day"), Ok("3".to_owned()));
        assert_eq!(by("id"), Ok("r1".to_owned()));
        assert!(by("none").unwrap_err().contains("has no `none`"));
        assert!(by("author").unwrap_err().contains("has no `author`"));
        assert!(
            by("list")
                .unwrap_err()
                .contains("neither text nor a number")
        );
    }

    #[test]
    fn a_start_token_is_no_prompt_and_roles_are_part_of_one() {
        assert_eq!((prompt_cluster(&[1]), turns_cluster(&[])), (None, None));
        assert_ne!(prompt_cluster(&[1, 2]), prompt_cluster(&[1, 3]));
        let turns = |role| turns_cluster(&[Message::new(role, "Go on.")]);
        assert_ne!(turns("user"), turns("system"));
    }
}
