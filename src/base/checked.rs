//! JSON files that carry a digest of themselves, so that damage to one is noticed.

use crate::base::digest::digest_bytes;

/// What stands between the opening brace and the digest.
const KEY: &str = "\n  \"check\": \"";
const DIGITS: usize = 64;

/// The text of a JSON object with a first key `check`: a digest over the text without it.
pub fn with_check(object: &str) -> String {
    let Some(rest) = object.strip_prefix('{') else {
        return object.to_owned();
    };
    format!("{{{KEY}{}\",{rest}", digest_bytes(object.as_bytes()))
}

/// Whether a text is as [`with_check`] made it; nothing if it carries no digest.
pub fn is_as_written(text: &str) -> Option<bool> {
    let after = text.strip_prefix('{')?.strip_prefix(KEY)?;
    let (check, rest) = after.split_at_checked(DIGITS)?;
    let rest = rest.strip_prefix("\",")?;
    Some(digest_bytes(format!("{{{rest}").as_bytes()).0 == check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_of_a_checked_text_is_noticed() {
        let text = with_check("{\n  \"a\": 1.25\n}\n");
        assert_eq!(is_as_written(&text), Some(true));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["a"], 1.25);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_ne!(is_as_written(&changed), Some(true), "byte {at}");
        }
        assert_eq!(is_as_written("{\"a\": 1}"), None);
    }
}
