//! Regular expressions as Python's `re` reads them.
//!
//! Scores and filters of other tools are defined by patterns of `re`, so the pattern is rewritten where the engine's
//! words mean something else: `\s`, `\w` and `\b` are those of Python's `str`, `$` also stands before a last line
//! feed, `{` that begins no count and `[` in a class are themselves. Two things stay different: an empty match right
//! behind another match is not found, and patterns of Python that the engine has not are refused.

use fancy_regex::{Captures, Regex};
use std::ops::Range;

/// What the flags of `re` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `re.IGNORECASE`.
    pub ignore_case: bool,
    /// `re.MULTILINE`.
    pub multiline: bool,
    /// `re.DOTALL`.
    pub dot_all: bool,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Characters of `\w`: `str.isalnum` and the low line.
const WORD: &str = r"\p{L}\p{N}_";
/// Characters of `\s`: `str.isspace`.
const SPACE: &str = r"\s\x1c-\x1f";

impl Pattern {
    /// Compiles `source`.
    ///
    /// # Errors
    /// It is none; the text says why.
    pub fn new(source: &str, flags: Flags) -> Result<Self, String> {
        let mut letters = String::new();
        for (on, letter) in [
            (flags.ignore_case, 'i'),
            (flags.multiline, 'm'),
            (flags.dot_all, 's'),
        ] {
            letters.extend(on.then_some(letter));
        }
        let body = rewritten(source, flags.multiline);
        let whole = if letters.is_empty() {
            body
        } else {
            format!("(?{letters}){body}")
        };
        Regex::new(&whole)
            .map(Self)
            .map_err(|e| format!("`{source}` is no pattern that can be used: {e}"))
    }

    /// Whether `re.search` finds something.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn is_in(&self, text: &str) -> Result<bool, String> {
        self.0.is_match(text).map_err(|e| slow(&e))
    }

    /// The matches, as byte ranges.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn matches(&self, text: &str) -> Result<Vec<Range<usize>>, String> {
        let found = self.0.find_iter(text).map(|m| m.map(|m| m.range()));
        found.collect::<Result<_, _>>().map_err(|e| slow(&e))
    }

    /// The matches as `re.findall` gives them: of a pattern without groups the match, else its groups.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn find_all(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let mut all = Vec::new();
        for found in self.0.captures_iter(text) {
            all.push(groups(&found.map_err(|e| slow(&e))?));
        }
        Ok(all)
    }

    /// The groups of every match, the whole match first; absent ones took no part in it.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn groups(&self, text: &str) -> Result<Vec<Vec<Option<Range<usize>>>>, String> {
        let mut all = Vec::new();
        for found in self.0.captures_iter(text) {
            let found = found.map_err(|e| slow(&e))?;
            all.push(
                (0..found.len())
                    .map(|i| found.get(i).map(|m| m.range()))
                    .collect(),
            );
        }
        Ok(all)
    }

    /// `re.sub` by a text, in which `\1` and `\g<name>` stand for groups.
    ///
    /// # Errors
    /// The pattern takes too long on this text, or the text names a group that there is not.
    pub fn replace(&self, text: &str, by: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for found in self.0.captures_iter(text) {
            let found = found.map_err(|e| slow(&e))?;
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&text[done..whole.start()]);
            expand(&found, by, &mut out)?;
            done = whole.end();
        }
        out.push_str(&text[done..]);
        Ok(out)
    }

    /// `re.split`, of a pattern without groups.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn split<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, String> {
        let mut parts = Vec::new();
        let mut done = 0;
        for found in self.matches(text)? {
            parts.push(&text[done..found.start]);
            done = found.end;
        }
        parts.push(&text[done..]);
        Ok(parts)
    }
}

fn slow(error: &fancy_regex::Error) -> String {
    format!("a pattern cannot be searched for in this text: {error}")
}

fn groups(found: &Captures<'_>) -> Vec<String> {
    let text = |i: usize| {
        found
            .get(i)
            .map_or(String::new(), |m| m.as_str().to_owned())
    };
    match found.len() {
        0 | 1 => vec![text(0)],
        n => (1..n).map(text).collect(),
    }
}

/// Writes a replacement with its groups.
fn expand(found: &Captures<'_>, by: &str, out: &mut String) -> Result<(), String> {
    let mut rest = by;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = if let Some(named) = rest.strip_prefix("g<") {
            named.split_once('>').ok_or("`\\g<` has no `>`")?
        } else {
            let end = rest.len().min(1);
            match rest.as_bytes().first() {
                Some(b'0'..=b'9') => rest.split_at(end),
                Some(b'n') => {
                    out.push('\n');
                    rest = &rest[1..];
                    continue;
                }
                Some(b'\\') => {
                    out.push('\\');
                    rest = &rest[1..];
                    continue;
                }
                _ => return Err(format!("`\\{rest}` is no group")),
            }
        };
        let group = match name.parse::<usize>() {
            Ok(number) if number < found.len() => found.get(number),
            Ok(number) => return Err(format!("the pattern has no group {number}")),
            Err(_) => found.name(name),
        };
        out.push_str(group.map_or("", |m| m.as_str()));
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

/// The pattern in the engine's words.
fn rewritten(source: &str, multiline: bool) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut chars = source.char_indices().peekable();
    let mut in_class = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().map(|(_, c)| c);
                out.push_str(&escape(escaped, in_class));
            }
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if(|(_, c)| *c == '^').is_some() {
                    out.push('^');
                }
                // A bracket that closes nothing is itself.
                if chars.next_if(|(_, c)| *c == ']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '$' if !in_class && !multiline => out.push_str(r"(?=\n?\z)"),
            '{' if !in_class && !is_count(&source[at..]) => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    out
}

/// Whether a text begins with `{3}`, `{3,}`, `{,3}` or `{3,4}`.
fn is_count(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else {
        return false;
    };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    digits(least) && digits(most) && !(least.is_empty() && most.is_empty())
}

fn escape(escaped: Option<char>, in_class: bool) -> String {
    let class = |inside: &str| {
        if in_class {
            inside.to_owned()
        } else {
            format!("[{inside}]")
        }
    };
    match escaped {
        Some('s') => class(SPACE),
        Some('S') => format!("[^{SPACE}]"),
        Some('w') => class(WORD),
        Some('W') => format!("[^{WORD}]"),
        Some('b') if !in_class => {
            format!("(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))")
        }
        Some('B') if !in_class => {
            format!("(?:(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}]))")
        }
        Some('Z') if !in_class => r"\z".to_owned(),
        // The engine's words for the ends of words.
        Some(c @ ('<' | '>')) => c.to_string(),
        // Python lets any sign be escaped, the engine those of ASCII.
        Some(c) if !c.is_ascii() || c == ' ' => c.to_string(),
        Some(c) => format!("\\{c}"),
        None => r"\".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(source: &str) -> Pattern {
        Pattern::new(source, Flags::default()).unwrap()
    }

    fn found<'t>(source: &str, text: &'t str) -> Vec<&'t str> {
        let found = pattern(source).matches(text).unwrap();
        found.into_iter().map(|at| &text[at]).collect()
    }

    // Expected: `re` of Python 3.11.
    #[test]
    fn words_spaces_and_ends_are_those_of_python() {
        assert_eq!(
            found(r"\w+", "don't a_b été हिन्दी"),
            ["don", "t", "a_b", "été", "ह", "न", "द"]
        );
        assert_eq!(found(r"a$", "a\na\n"), ["a"]);
        assert_eq!(found(r"\bcat\b", "cat, cats; Cat cat"), ["cat", "cat"]);
        assert_eq!(found(r"a\sb", "a\u{1c}b a b"), ["a\u{1c}b", "a b"]);
        assert_eq!(found("{name}", "x {name}"), ["{name}"]);
        assert_eq!(found("a{2}", "aaa"), ["aa"]);
        assert_eq!(found("[[a&&b]+", "[a&b"), ["[a&b"]);
        assert_eq!(found(r"\<<[^\n]+\>>", "<<x>>"), ["<<x>>"]);
        assert_eq!(found("c.t", "cat c\nt"), ["cat"]);
        assert!(Pattern::new("(", Flags::default()).is_err());
    }

    #[test]
    fn groups_replacements_and_pieces_are_those_of_python() {
        let digits = pattern(r"(-?[$0-9.,]{2,})|(-?[0-9]+)");
        let all = digits.find_all("x 7 and $12.50").unwrap();
        assert_eq!(all, [["", "7"], ["$12.50", ""]]);
        assert_eq!(pattern(r"(a)(b)").replace("abab", r"\2\1").unwrap(), "baba");
        assert_eq!(pattern(r"\.$").replace("7.", "").unwrap(), "7");
        assert_eq!(
            pattern(r"(?s).*#### ")
                .replace("a\n#### b\n#### 7", "")
                .unwrap(),
            "7"
        );
        let parts = pattern(r"\s?\*\*\*\s?")
            .split("a *** b***c")
            .map(|p| p.join("|"));
        assert_eq!(parts.unwrap(), "a|b|c");
    }
}
