//! The source of a chat template, made ready for the engine.
//!
//! Jinja2 reads every kind of line end as one line feed, knows the block `generation` through
//! transformers, and has `%` of strings. The engine has none of these, so the source is read here, tag
//! by tag, and written anew; what is not understood stays as it is for the engine to judge.

use super::python::REMAINDER;
use std::ops::Range;

/// Stand in the rendered text for `{% generation %}` and `{% endgeneration %}`. Both are
/// noncharacters, which no text that is to be exchanged may contain.
pub(super) const OPEN: char = '\u{FDD0}';
/// See [`OPEN`].
pub(super) const CLOSE: char = '\u{FDD1}';
/// Stands for `strftime_now` where it is called.
pub(super) const DATE: &str = "_strftime_now";

/// Longer sources are no chat templates: the longest public ones have some 20 kB.
const MAX_SOURCE: usize = 1 << 20;
/// Blocks within blocks, and brackets within brackets: each level is a call of the engine's compiler.
const MAX_DEPTH: usize = 100;

/// A template as the engine reads it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: String,
    /// Whether it marks replies with `{% generation %}`.
    pub(super) marked: bool,
}

/// Rewrites a template, or says why it is none.
pub(super) fn prepare(source: &str) -> Result<Source, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!(
            "it has {} bytes, and {MAX_SOURCE} are the most",
            source.len()
        ));
    }
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.contains([OPEN, CLOSE]) {
        return Err("it contains the noncharacter U+FDD0 or U+FDD1".to_owned());
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let (mut marked, mut depth) = (false, 0usize);
    while let Some(at) = find_tag(rest) {
        out.push_str(&rest[..at]);
        let tag = &rest[at..];
        let Some(end) = tag_end(tag)? else {
            rest = tag;
            break;
        };
        rest = &tag[end..];
        let tag = &tag[..end];
        if tag.starts_with("{#") {
            out.push_str(tag);
            continue;
        }
        let (open, body, close) = split_tag(tag);
        let name = body.split_whitespace().next().unwrap_or("");
        if tag.starts_with("{%") {
            depth = depth_after(depth, name, body);
            if depth > MAX_DEPTH {
                return Err(format!("it has more than {MAX_DEPTH} blocks within blocks"));
            }
            match name {
                "raw" => {
                    // Nothing inside is a tag.
                    let end = raw_end(rest).unwrap_or(rest.len());
                    out.push_str(tag);
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                    continue;
                }
                // A block of its own, as in transformers: what is set in it is not seen behind it.
                "generation" => {
                    marked = true;
                    out.push_str(&format!(
                        "{open} with %}}{{% if true %}}{OPEN}{{% endif {close}"
                    ));
                    continue;
                }
                "endgeneration" => {
                    out.push_str(&format!(
                        "{open} if true %}}{CLOSE}{{% endif %}}{{% endwith {close}"
                    ));
                    continue;
                }
                _ => {}
            }
        }
        out.push_str(open);
        out.push_str(&expression(body));
        out.push_str(close);
    }
    out.push_str(rest);
    Ok(Source { text: out, marked })
}

/// Where the next tag or comment begins.
fn find_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let begins = |pair: &[u8]| matches!(pair, b"{%" | b"{{" | b"{#");
    bytes.windows(2).position(begins)
}

/// Where a tag that begins at the start of `tag` ends; none if it does not.
fn tag_end(tag: &str) -> Result<Option<usize>, String> {
    if tag.starts_with("{#") {
        return Ok(tag.find("#}").map(|at| at + 2));
    }
    let bytes = tag.as_bytes();
    let close: &[u8] = if tag.starts_with("{{") { b"}}" } else { b"%}" };
    let (mut at, mut open) = (2, 0usize);
    while at < bytes.len() {
        let braces = close == b"}}" && open > 0;
        if bytes[at..].starts_with(close) && !braces {
            return Ok(Some(at + 2));
        }
        match bytes[at] {
            quote @ (b'"' | b'\'') => match string_end(bytes, at, quote) {
                Some(end) => at = end,
                None => return Ok(None),
            },
            b'(' | b'[' | b'{' => {
                open += 1;
                at += 1;
            }
            b')' | b']' | b'}' => {
                open = open.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
        if open > MAX_DEPTH {
            return Err(format!(
                "it has more than {MAX_DEPTH} brackets within brackets"
            ));
        }
    }
    Ok(None)
}

/// Behind the string literal that begins at `at`.
fn string_end(bytes: &[u8], at: usize, quote: u8) -> Option<usize> {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' => end += 2,
            b if b == quote => return Some(end + 1),
            _ => end += 1,
        }
    }
    None
}

/// The two ends of a tag with their signs for white space, and what is between.
fn split_tag(tag: &str) -> (&str, &str, &str) {
    let sign = |byte: Option<&u8>| matches!(byte, Some(b'-' | b'+'));
    let bytes = tag.as_bytes();
    let start = if sign(bytes.get(2)) && tag.len() > 4 {
        3
    } else {
        2
    };
    let mut end = tag.len() - 2;
    if end > start && sign(bytes.get(end - 1)) {
        end -= 1;
    }
    (&tag[..start], &tag[start..end], &tag[end..])
}

fn depth_after(depth: usize, name: &str, body: &str) -> usize {
    match name {
        "if" | "for" | "macro" | "call" | "filter" | "with" | "block" | "generation" => depth + 1,
        "set" if !body.contains('=') => depth + 1,
        name if name.starts_with("end") => depth.saturating_sub(1),
        _ => depth,
    }
}

/// Where the tag `endraw` begins.
fn raw_end(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        let tag = text[from + at + 2..]
            .trim_start_matches(['-', '+'])
            .trim_start();
        if tag.starts_with("endraw") {
            return Some(from + at);
        }
        from += at + 2;
    }
    None
}

/// Kinds of tokens that tell operands from operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Name,
    Number,
    Text,
    Sign,
}

fn tokens(body: &str) -> Vec<(Kind, Range<usize>)> {
    let bytes = body.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    let run = |from: usize, more: fn(char) -> bool| {
        let rest = &body[from..];
        from + rest.find(|c| !more(c)).unwrap_or(rest.len())
    };
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(c) = body[at..].chars().next() {
        let (kind, end) = match c {
            c if c.is_whitespace() => (Kind::Space, run(at, char::is_whitespace)),
            '"' | '\'' => {
                let end = string_end(bytes, at, bytes[at]).unwrap_or(body.len());
                (Kind::Text, end.min(body.len()))
            }
            c if c.is_ascii_digit() => (Kind::Number, run(at, in_name)),
            c if in_name(c) => (Kind::Name, run(at, in_name)),
            c => {
                let two = body.get(at..at + 2);
                let double = matches!(two, Some("**" | "//" | "==" | "!=" | "<=" | ">="));
                (Kind::Sign, at + if double { 2 } else { c.len_utf8() })
            }
        };
        out.push((kind, at..end));
        at = end;
    }
    out
}

/// The inside of a tag with calls of `strftime_now` and the operator `%` of strings replaced.
fn expression(body: &str) -> String {
    if !body.contains('%') && !body.contains("strftime_now") {
        return body.to_owned();
    }
    let all = tokens(body);
    // Places in `all` of what is no white space.
    let seen: Vec<usize> = (0..all.len())
        .filter(|&i| all[i].0 != Kind::Space)
        .collect();
    let text = |i: usize| seen.get(i).map_or("", |&at| &body[all[at].1.clone()]);
    let kind = |i: usize| seen.get(i).map_or(Kind::Space, |&at| all[at].0);
    let mut pieces: Vec<String> = all
        .iter()
        .map(|(_, r)| body[r.clone()].to_owned())
        .collect();
    for i in 0..seen.len() {
        if text(i) == "strftime_now" && text(i + 1) == "(" && (i == 0 || text(i - 1) != ".") {
            DATE.clone_into(&mut pieces[seen[i]]);
        }
        if text(i) != "%" || kind(i) != Kind::Sign || i == 0 {
            continue;
        }
        let literal = kind(i - 1) == Kind::Text;
        let ends = literal || matches!(kind(i - 1), Kind::Name) || matches!(text(i - 1), ")" | "]");
        // A remainder by a number is the engine's own.
        if !ends || (!literal && kind(i + 1) == Kind::Number) {
            continue;
        }
        let left = operand_start(i - 1, &text, &kind);
        let Some(right) = operand_end(i + 1, seen.len(), &text, &kind) else {
            continue;
        };
        let before = if left > 0 { text(left - 1) } else { "" };
        if matches!(before, "*" | "/" | "//" | "%" | "**") || matches!(text(right + 1), "**" | "is")
        {
            continue;
        }
        pieces[seen[i]] = format!("|{REMAINDER}(");
        pieces[seen[right]].push(')');
    }
    pieces.concat()
}

/// The first token of the operand that ends with token `end`.
fn operand_start<'t>(
    end: usize,
    text: &impl Fn(usize) -> &'t str,
    kind: &impl Fn(usize) -> Kind,
) -> usize {
    let mut at = end;
    loop {
        if matches!(text(at), ")" | "]" | "}") && kind(at) == Kind::Sign {
            let mut open = 1;
            while open > 0 && at > 0 {
                at -= 1;
                match text(at) {
                    ")" | "]" | "}" if kind(at) == Kind::Sign => open += 1,
                    "(" | "[" | "{" if kind(at) == Kind::Sign => open -= 1,
                    _ => {}
                }
            }
            // What stands right before the bracket is called or indexed.
            let called = at > 0
                && (matches!(text(at - 1), ")" | "]")
                    || kind(at - 1) == Kind::Text
                    || (kind(at - 1) == Kind::Name && !is_keyword(text(at - 1))));
            if called {
                at -= 1;
                continue;
            }
        }
        if at > 1 && kind(at) == Kind::Name && matches!(text(at - 1), "." | "|") {
            at -= 2;
            continue;
        }
        return at;
    }
}

/// The last token of the operand that begins with token `start`.
fn operand_end<'t>(
    start: usize,
    len: usize,
    text: &impl Fn(usize) -> &'t str,
    kind: &impl Fn(usize) -> Kind,
) -> Option<usize> {
    let group = |open: usize| {
        let mut depth = 0usize;
        for at in open..len {
            if kind(at) == Kind::Sign {
                match text(at) {
                    "(" | "[" | "{" => depth += 1,
                    ")" | "]" | "}" => depth = depth.checked_sub(1)?,
                    _ => {}
                }
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    };
    let mut at = match kind(start) {
        Kind::Name | Kind::Number | Kind::Text => start,
        Kind::Sign if matches!(text(start), "(" | "[" | "{") => group(start)?,
        _ => return None,
    };
    loop {
        match text(at + 1) {
            "." | "|" if kind(at + 2) == Kind::Name => at += 2,
            "(" | "[" => at = group(at + 1)?,
            _ => return Some(at),
        }
    }
}

fn is_keyword(name: &str) -> bool {
    matches!(
        name,
        "if" | "elif" | "else" | "in" | "and" | "or" | "not" | "is" | "set" | "for"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_a_byte_order_mark_are_read_as_jinja_reads_them() {
        let source = prepare("\u{feff}a\r\nb\rc\n").unwrap();
        assert_eq!(source.text, "a\nb\nc\n");
    }

    #[test]
    fn a_tag_ends_outside_strings_and_brackets() {
        let kept = "{{ '}} %}' }}{% if x == \"%}\" %}{{ {'a': {'b': 1}} }}{# {{ #}{% raw %}{% generation %}{% endraw %}";
        let source = prepare(kept).unwrap();
        assert_eq!(source.text, kept);
        assert!(!source.marked);
    }

    #[test]
    fn a_remainder_of_strings_becomes_a_filter_and_one_of_numbers_stays() {
        let cases = [
            ("loop.index0 % 2 == 0", "loop.index0 % 2 == 0"),
            ("'%s' % x", "'%s' |_remainder( x)"),
            (
                "a ~ '%s|%s' % (x, y|trim) ~ b",
                "a ~ '%s|%s' |_remainder( (x, y|trim)) ~ b",
            ),
            (
                "m['f'].g(1) % m.x|trim ~ b",
                "m['f'].g(1) |_remainder( m.x|trim) ~ b",
            ),
            ("a * b % c", "a * b % c"),
            (
                "strftime_now('%d') ~ strftime_now",
                "_strftime_now('%d') ~ strftime_now",
            ),
        ];
        for (body, want) in cases {
            assert_eq!(expression(body), want);
        }
    }

    #[test]
    fn deep_and_long_sources_are_refused() {
        let deep = "{% if true %}".repeat(20_000);
        assert!(prepare(&deep).unwrap_err().contains("blocks within blocks"));
        let brackets = format!("{{{{ {}", "[".repeat(50_000));
        assert!(prepare(&brackets).unwrap_err().contains("brackets"));
        assert!(prepare(&"a".repeat(MAX_SOURCE + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_source_is_read_to_its_end(source in r#"([{}%#'"\\ a(\[.|-]|generation|raw|\{%|%\}){0,40}"#) {
            drop(prepare(&source));
        }
    }
}
