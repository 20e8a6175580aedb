//! Text of strangers, made fit to be shown; errors in one line; numbers as people read them.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;

/// An error with its causes in one line; a cause that says what was just said is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        source = cause.source();
    }
    text
}

/// Whether a character steers a terminal or the direction of text instead of being shown: control
/// characters but for tab and line feed, and the marks of bidirectional text.
pub fn steers(c: char) -> bool {
    let plain = matches!(c, '\t' | '\n');
    (c.is_control() && !plain)
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with U+FFFD for every character that would steer a terminal. What a server or a data row
/// sent goes through here before it becomes part of a message.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(steers) {
        let shown = |c| {
            if steers(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        Cow::Owned(text.chars().map(shown).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text with escapes for what would steer a terminal: a program reads the same values from it.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(steers) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if steers(c) {
            // All of them stand within strings and in the first plane.
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// `1 run`, `3 runs`, `2 replies`, `0 batches`: a count with its noun, which is English and given for one.
pub fn counted<N: Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    if n == N::from(1) {
        return format!("{n} {noun}");
    }
    let hissing = ["s", "x", "ch", "sh"];
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{n} {stem}ies"),
        _ if hissing.iter().any(|end| noun.ends_with(*end)) => format!("{n} {noun}es"),
        _ => format!("{n} {noun}s"),
    }
}

/// A measured value: `0.6931`, `-140.6070`, `3350`, `5.000e-7`.
///
/// Four decimals, which a learning rate would not survive: what is small or large has an exponent.
pub fn measured(value: f64) -> String {
    let size = value.abs();
    if size < 1e9 && value.fract() == 0.0 {
        // The sum of nothing is -0.
        return format!("{:.0}", if value == 0.0 { 0.0 } else { value });
    }
    if (1e-3..1e6).contains(&size) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_values_keep_their_digits() {
        let shown = [0.693_12, -140.607, 3350.0, 5e-7, -0.0, 1e38].map(measured);
        assert_eq!(
            shown,
            ["0.6931", "-140.6070", "3350", "5.000e-7", "0", "1.000e38"]
        );
    }

    #[test]
    fn one_thing_is_not_several() {
        let runs = [0_usize, 1, 2].map(|n| counted(n, "run"));
        assert_eq!(runs, ["0 runs", "1 run", "2 runs"]);
        let nouns = ["reply", "day", "batch", "evaluation row", "box"];
        assert_eq!(
            nouns.map(|noun| counted(2_u64, noun)),
            [
                "2 replies",
                "2 days",
                "2 batches",
                "2 evaluation rows",
                "2 boxes"
            ]
        );
        assert_eq!(counted(1_u64, "reply"), "1 reply");
    }

    #[test]
    fn json_holds_the_same_values_and_steers_nothing() {
        let value = serde_json::json!({"text": "a\u{9b}1m \u{202e}b\u{7f} \u{1b}[2J \u{5e2}"});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let safe = printable_json(&pretty);
        assert!(!safe.chars().any(steers), "{safe}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).unwrap(),
            value
        );
    }

    #[test]
    fn escapes_and_directions_are_replaced_and_other_text_stays() {
        let plain = "über 日本 👩‍🔬\tx\n";
        assert!(matches!(printable(plain), Cow::Borrowed(text) if text == plain));
        let nasty = "a\u{1b}]0;t\u{7}\r\u{8}\u{9b}1m\u{202e}b\u{7f}";
        assert_eq!(
            printable(nasty),
            "a\u{fffd}]0;t\u{fffd}\u{fffd}\u{fffd}\u{fffd}1m\u{fffd}b\u{fffd}"
        );
    }
}
