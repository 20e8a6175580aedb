//! The words and signs within a tag of a template, told apart as the lexer of Jinja2 does.

use std::ops::Range;

/// Stand in the rendered text for `{% generation %}` and `{% endgeneration %}`. Both are
/// noncharacters, which no text that is to be exchanged may contain.
pub(super) const OPEN: char = '\u{FDD0}';
/// See [`OPEN`].
pub(super) const CLOSE: char = '\u{FDD1}';

/// Kinds of lexemes; white space is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Sign,
}

/// The lexemes of a tag and their places.
pub(super) fn lexemes(body: &str) -> Result<Vec<(Kind, Range<usize>)>, String> {
    let bytes = body.as_bytes();
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = body[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, end) = match c {
            '"' | '\'' => {
                let end = string_end(bytes, at).ok_or("a string in it has no end")?;
                (Kind::Text, end)
            }
            c if c.is_ascii_digit() => (Kind::Number, number_end(bytes, at)),
            c if in_name(c) => {
                let rest = &body[at..];
                let length = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
                (Kind::Name, at + length)
            }
            c => {
                let double = matches!(
                    body.get(at..at + 2),
                    Some("**" | "//" | "==" | "!=" | "<=" | ">=")
                );
                if !double && !"+-*/%.,:~|=<>()[]{}".contains(c) {
                    return Err(format!("`{}` has no place in a tag", c.escape_debug()));
                }
                (Kind::Sign, at + if double { 2 } else { 1 })
            }
        };
        out.push((kind, at..end));
        at = end;
    }
    Ok(out)
}

/// Behind the string literal whose quotation mark is at `at`; none if it does not end.
pub(super) fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = bytes[at];
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

/// Behind the number that begins at `at`.
fn number_end(bytes: &[u8], at: usize) -> usize {
    let run = |from: usize, more: fn(&u8) -> bool| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|b| more(b) || **b == b'_').count()
    };
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
    if bytes[at] == b'0' && is(at + 1, b"xXbBoO") {
        return run(at + 2, u8::is_ascii_hexdigit);
    }
    let mut end = run(at, u8::is_ascii_digit);
    // Behind a dot it is the place of an item: `a.1.0` is `a[1][0]`.
    if at > 0 && bytes[at - 1] == b'.' {
        return end;
    }
    if is(end, b".") && digit(end + 1) {
        end = run(end + 1, u8::is_ascii_digit);
    }
    let power = end + 1 + usize::from(is(end + 1, b"+-"));
    if is(end, b"eE") && digit(power) {
        end = run(power, u8::is_ascii_digit);
    }
    end
}

/// A string literal that the engine reads as Python reads `literal`; none if it does so anyway.
pub(super) fn rewritten(literal: &str) -> Result<Option<String>, String> {
    if !literal.contains('\\') {
        return Ok(None);
    }
    let text = unescaped(&literal[1..literal.len() - 1])?;
    if text.contains([OPEN, CLOSE]) {
        return Err("it writes the noncharacter U+FDD0 or U+FDD1".to_owned());
    }
    // Line breaks stay out of it: messages name lines.
    let quoted = text.replace('\\', "\\\\").replace('\'', "\\'");
    let quoted = quoted.replace('\n', "\\n").replace('\r', "\\r");
    Ok(Some(format!("'{quoted}'")))
}

/// What Python makes of the inside of a string literal.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        let c = chars.next().unwrap_or('\\');
        rest = chars.as_str();
        let simple = match c {
            '\n' => continue,
            '\\' | '\'' | '"' => c,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0'..='7' => {
                let octal = |c: char| c.is_digit(8);
                let more = rest.chars().take(2).take_while(|&c| octal(c)).count();
                let digits = format!("{c}{}", &rest[..more]);
                rest = &rest[more..];
                scalar(&digits, 8)?
            }
            'x' | 'u' | 'U' => {
                let width = match c {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits = rest.get(..width).unwrap_or("");
                rest = rest.get(width..).unwrap_or("");
                scalar(digits, 16)?
            }
            c if c == 'N' || !c.is_ascii() => {
                return Err(format!("a string in it has the escape `\\{c}`"));
            }
            c => {
                out.push('\\');
                c
            }
        };
        out.push(simple);
    }
    out.push_str(rest);
    Ok(out)
}

/// The character of this number.
fn scalar(digits: &str, radix: u32) -> Result<char, String> {
    let whole = !digits.starts_with('+');
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| whole);
    let found = number.and_then(char::from_u32);
    found.ok_or_else(|| format!("a string in it has an escape of no character: `{digits}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &str) -> Vec<&str> {
        let found = lexemes(body).unwrap();
        found.into_iter().map(|(_, place)| &body[place]).collect()
    }

    #[test]
    fn numbers_end_as_in_jinja() {
        assert_eq!(split("1.5e-3+2"), ["1.5e-3", "+", "2"]);
        assert_eq!(split("a.1.0"), ["a", ".", "1", ".", "0"]);
        assert_eq!(split("0x1F//1_000"), ["0x1F", "//", "1_000"]);
        assert_eq!(split("1.e"), ["1", ".", "e"]);
        assert_eq!(split("1e5e"), ["1e5", "e"]);
        assert!(lexemes("a $ b").unwrap_err().contains("`$`"));
        assert!(lexemes("'a").is_err());
    }

    // Expected: `eval` of Python 3.11.
    #[test]
    fn escapes_are_those_of_python() {
        let cases = [
            (r"'\n\t\\\''", "'\\n\t\\\\\\''"),
            (r"'\a\v\b\f'", "'\x07\x0b\x08\x0c'"),
            (r"'\/\d\q'", r"'\\/\\d\\q'"),
            (r"'\x41\u00e9\U0001F981\101\0'", "'Aé🦁A\0'"),
            ("'a\\\nb'", "'ab'"),
            (r#""\"it's\"""#, r#"'"it\'s"'"#),
        ];
        for (literal, want) in cases {
            assert_eq!(rewritten(literal).unwrap().unwrap(), want, "{literal}");
        }
        assert_eq!(rewritten("'plain'").unwrap(), None);
        for literal in [
            r"'\N{DASH}'",
            r"'\x4'",
            r"'\ud800'",
            "'\\é'",
            r"'\ufdd0'",
            r"'\x+1'",
        ] {
            assert!(rewritten(literal).is_err(), "{literal}");
        }
    }
}
