//! Regular expressions as Python's `re` reads them.
//!
//! Scores and filters of other tools are defined by patterns of `re`, so the pattern is rewritten where the engine's
//! words mean something else: `\s`, `\w` and `\b` are those of Python's `str`, `$` also stands before a last line
//! feed, `{` that begins no count and `[` in a class are themselves, and without regard to case `i` is also the Turkish
//! letters. Two things stay different: where an empty match was found no other is looked for, and patterns of Python that
//! the engine has not are refused.

use fancy_regex::{Captures, Regex, RegexBuilder};
use std::ops::Range;

/// What the flags of `re` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag there, too")]
pub struct Flags {
    /// `re.IGNORECASE`.
    pub ignore_case: bool,
    /// `re.MULTILINE`.
    pub multiline: bool,
    /// `re.DOTALL`.
    pub dot_all: bool,
    /// As Python's module `regex` reads patterns, not `re`: marks and joiners are part of words, fractions and superscripts
    /// are not, and the four separators of ASCII are no white space. NLTK takes it from 3.10 on.
    pub regex_module: bool,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Steps back in one search, after which a pattern counts as too slow: seconds.
const MOST_STEPS: usize = 100_000_000;

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
        let body = rewritten(source, flags);
        let whole = if letters.is_empty() {
            body
        } else {
            format!("(?{letters}){body}")
        };
        let built = RegexBuilder::new(&whole)
            .backtrack_limit(MOST_STEPS)
            .build();
        built
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
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let found = self.0.find_from_pos(text, at).map_err(|e| slow(&e))?;
            from = found.and_then(|found| {
                all.push(found.range());
                behind(text, &found.range())
            });
        }
        Ok(all)
    }

    /// The matches as `re.findall` gives them: of a pattern without groups the match, else its groups.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn find_all(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        Ok(self.all(text)?.iter().map(groups).collect())
    }

    /// The groups of every match, the whole match first; absent ones took no part in it.
    ///
    /// # Errors
    /// The pattern takes too long on this text.
    pub fn groups(&self, text: &str) -> Result<Vec<Vec<Option<Range<usize>>>>, String> {
        let ranges = |found: &Captures<'_>| {
            let places = 0..found.len();
            places.map(|i| found.get(i).map(|m| m.range())).collect()
        };
        Ok(self.all(text)?.iter().map(ranges).collect())
    }

    /// How many groups it has, the whole match not among them.
    pub fn group_count(&self) -> usize {
        self.0.captures_len().saturating_sub(1)
    }

    /// The matches with their groups. As in Python, an empty match may stand right behind another one.
    fn all<'t>(&self, text: &'t str) -> Result<Vec<Captures<'t>>, String> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let found = self.0.captures_from_pos(text, at).map_err(|e| slow(&e))?;
            from = found.and_then(|found| {
                let whole = found.get(0)?.range();
                all.push(found);
                behind(text, &whole)
            });
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
        for found in &self.all(text)? {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&text[done..whole.start()]);
            expand(found, by, &mut out)?;
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

/// Where the search behind a match goes on: at its end, behind an empty one a character further.
fn behind(text: &str, found: &Range<usize>) -> Option<usize> {
    if !found.is_empty() {
        return Some(found.end);
    }
    let next = text[found.end..].chars().next()?;
    Some(found.end + next.len_utf8())
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
fn rewritten(source: &str, flags: Flags) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut chars = source.char_indices().peekable();
    let mut in_class = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().map(|(_, c)| c);
                out.push_str(&escape(escaped, in_class, flags.regex_module));
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
            'i' | 'I' | '\u{130}' | '\u{131}'
                if flags.ignore_case && !names_group(&source[..at]) =>
            {
                let ranges =
                    source[..at].ends_with('-') || chars.peek().is_some_and(|n| n.1 == '-');
                if !in_class {
                    out.push_str(&format!("[{I_LETTERS}]"));
                } else if ranges {
                    out.push(c);
                } else {
                    out.push_str(I_LETTERS);
                }
            }
            '$' if !in_class && !flags.multiline => out.push_str(r"(?=\n?\z)"),
            '{' if !in_class && !is_count(&source[at..]) => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    out
}

/// What `i` is without regard to case: `re` takes the Turkish letters for it, too.
const I_LETTERS: &str = "iI\u{130}\u{131}";

/// Whether what follows stands between the signs of a group's beginning, such as `(?i:` or `(?P<first>`, or in a name.
fn names_group(before: &str) -> bool {
    let Some((_, inside)) = before.rsplit_once("(?") else {
        return false;
    };
    let name = inside.trim_start_matches('P');
    match name.strip_prefix(['<', '=', '>']) {
        Some(name) => !name.starts_with(['=', '!']) && !name.contains(['>', ')']),
        None => inside.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'),
    }
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

fn escape(escaped: Option<char>, in_class: bool, regex_module: bool) -> String {
    let class = |inside: &str| {
        if in_class {
            inside.to_owned()
        } else {
            format!("[{inside}]")
        }
    };
    match escaped {
        // The engine's words are those of that module.
        Some(c @ ('s' | 'S' | 'w' | 'W' | 'b' | 'B')) if regex_module => format!("\\{c}"),
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

    // Expected: `regex` 2026.5.9.
    #[test]
    fn words_and_spaces_of_the_module_regex_are_others() {
        let flags = Flags {
            regex_module: true,
            ..Flags::default()
        };
        let found = |source: &str, text: &str| {
            let found = Pattern::new(source, flags).unwrap();
            found.matches(text).unwrap().len()
        };
        for (text, words) in [
            ("हिन्दी", 1),
            ("e\u{301} x", 2),
            ("² ½ ①", 0),
            ("Ⅷ ⓐ ٣ a_b", 4),
            ("a\u{200d}b x\u{2040}y", 2),
        ] {
            assert_eq!(found(r"\w+", text), words, "{text}");
        }
        assert_eq!(found(r"\s", "\u{1c}\u{85}\u{a0}\u{b}"), 3);
        assert_eq!(found(r"\bx\b", "x\u{301} x"), 1);
    }

    // Expected: `re` of Python 3.11.
    #[test]
    fn case_and_empty_matches_are_those_of_python() {
        let flags = Flags {
            ignore_case: true,
            ..Flags::default()
        };
        let found = |source: &str, text: &str| {
            let pattern = Pattern::new(source, flags).unwrap();
            let found = pattern.matches(text).unwrap().into_iter();
            found.map(|at| text[at].to_owned()).collect::<Vec<_>>()
        };
        let turkish = "\u{131} \u{130} i I";
        assert_eq!(found("i", turkish), ["\u{131}", "\u{130}", "i", "I"]);
        assert_eq!(found("[hi]+", "H\u{130}"), ["H\u{130}"]);
        assert_eq!(found("(?P<i>x)(?i:i)", "xI"), ["xI"]);
        assert_eq!(found("k", "\u{212a}"), ["\u{212a}"]);
        assert_eq!(found("x*", "xx a"), ["xx", "", "", ""]);
        assert_eq!(pattern("x*").replace("abxd", "-").unwrap(), "-a-b--d-");
        assert_eq!(pattern("(a)(b)?").group_count(), 2);
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
