//! Methods of Python's strings, lists and dictionaries; what is not here is as the engine has it.

use super::guard::{fail, weigh};
use super::params::options;
use super::percent::braces;
use super::repr::is_space;
use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, State};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Calls a method that the engine does not know.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return match of_text(state, text, name, args)? {
            Some(result) => Ok(result),
            None => unknown_method_callback(state, value, name, args),
        };
    }
    match (value.kind(), name, args) {
        (ValueKind::Map | ValueKind::Seq, "copy", []) => Ok(value.clone()),
        (ValueKind::Seq, "index", [wanted]) => {
            weigh(state, value)?;
            let at = value.try_iter()?.position(|item| item == *wanted);
            at.map(Value::from)
                .ok_or_else(|| fail("the value is not in the list"))
        }
        (ValueKind::Seq, "count", _) => {
            weigh(state, value)?;
            unknown_method_callback(state, value, name, args)
        }
        (ValueKind::Map, "update" | "pop" | "setdefault" | "clear" | "popitem", _)
        | (
            ValueKind::Seq,
            "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse",
            _,
        ) => Err(fail(format!(
            "`{name}` changes a value, which transformers does not let a template do"
        ))),
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// The methods of strings that are not the engine's.
fn of_text(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let string = |i: usize| args.get(i).and_then(Value::as_str);
    let given = |i: usize| args.get(i).filter(|v| !v.is_none());
    let chars = given(0).and_then(Value::as_str);
    let by_chars = args.len() < 2 && (given(0).is_none() || chars.is_some());
    Ok(Some(match (name, args.len(), string(0)) {
        ("title", 0, _) => Value::from(title(text)),
        ("capitalize", 0, _) => Value::from(capitalize(text)),
        ("swapcase", 0, _) => Value::from(swapcase(text)),
        ("isspace", 0, _) => Value::from(!text.is_empty() && text.chars().all(is_space)),
        ("strip", ..) if by_chars => Value::from(strip(text, chars, true, true)),
        ("lstrip", ..) if by_chars => Value::from(strip(text, chars, true, false)),
        ("rstrip", ..) if by_chars => Value::from(strip(text, chars, false, true)),
        ("removeprefix", 1, Some(head)) => Value::from(text.strip_prefix(head).unwrap_or(text)),
        ("removesuffix", 1, Some(tail)) => Value::from(text.strip_suffix(tail).unwrap_or(text)),
        ("partition", 1, Some(by)) if !by.is_empty() => match text.split_once(by) {
            Some((a, b)) => tuple([a, by, b]),
            None => tuple([text, "", ""]),
        },
        ("rpartition", 1, Some(by)) if !by.is_empty() => match text.rsplit_once(by) {
            Some((a, b)) => tuple([a, by, b]),
            None => tuple(["", "", text]),
        },
        ("index", 1, Some(wanted)) => place(text, text.find(wanted))?,
        ("rindex", 1, Some(wanted)) => place(text, text.rfind(wanted))?,
        ("join", 1, _) => Value::from(join(state, text, &args[0])?),
        ("format", ..) => Value::from(braces(state, text, args)?),
        ("rsplit", ..) => rsplit(text, args)?,
        ("split", ..) => split(text, args)?,
        ("splitlines", ..) => {
            let [keep] = options(args.to_vec(), ["keepends"])?;
            lines(text, keep.is_some_and(|v| v.is_true()))
                .into_iter()
                .collect()
        }
        ("ljust", 1 | 2, _) => Value::from(justified(state, text, args, Side::Right)?),
        ("rjust", 1 | 2, _) => Value::from(justified(state, text, args, Side::Left)?),
        ("center", 1 | 2, _) => Value::from(justified(state, text, args, Side::Both)?),
        ("zfill", 1, _) => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let width = usize::try_from(args[0].clone())?.saturating_sub(sign.len());
            let digits = pad(state, digits, width, '0', Side::Left)?;
            Value::from(format!("{sign}{digits}"))
        }
        _ => return Ok(None),
    }))
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from).to_vec()))
}

/// The place of a character by that of its byte.
fn place(text: &str, byte: Option<usize>) -> Result<Value, Error> {
    let byte = byte.ok_or_else(|| fail("substring not found"))?;
    Ok(Value::from(text[..byte].chars().count()))
}

/// `str.strip` and its halves.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let out = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
    let text = if left {
        text.trim_start_matches(out)
    } else {
        text
    };
    if right {
        text.trim_end_matches(out)
    } else {
        text
    }
}

/// `str.title`: a word begins after every character that is no letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    out
}

/// `str.capitalize`: the first character in title case, the others in lower case.
fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return String::new();
    };
    // As a part of the text, so that a sigma at the end gets its own form.
    let rest = text.to_lowercase();
    let rest = &rest[first.to_lowercase().map(char::len_utf8).sum::<usize>()..];
    title_case(first) + rest
}

/// `str.title` of one character (Unicode's title case).
fn title_case(c: char) -> String {
    let digraph = match c {
        'Ǆ'..='ǆ' => Some('ǅ'),
        'Ǉ'..='ǉ' => Some('ǈ'),
        'Ǌ'..='ǌ' => Some('ǋ'),
        'Ǳ'..='ǳ' => Some('ǲ'),
        // Greek with an iota below has one sign for a capital with the iota beside it.
        '\u{1f80}'..='\u{1faf}' => char::from_u32(u32::from(c) | 8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9),
        // Georgian has capitals, but none at the beginning of words.
        '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}' | 'ა'..='ჺ' | 'ჽ'..='ჿ' => Some(c),
        _ => None,
    };
    if let Some(digraph) = digraph {
        return digraph.to_string();
    }
    // What is written as several capitals keeps the first.
    let mut upper = c.to_uppercase();
    let first = upper.next().unwrap_or(c);
    let below = ('\u{1f00}'..='\u{1fff}').contains(&c);
    if c == 'ŉ' {
        return "ʼN".to_owned();
    }
    let rest = upper.flat_map(|c| match c {
        'Ι' if below => '\u{345}'.to_lowercase(),
        c => c.to_lowercase(),
    });
    std::iter::once(first).chain(rest).collect()
}

fn swapcase(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

/// `str.join`, of strings only.
fn join(state: &State, separator: &str, values: &Value) -> Result<String, Error> {
    if values.is_none() || values.is_undefined() {
        return Err(fail("join: there is no list"));
    }
    let mut out = String::new();
    for (i, value) in values.try_iter()?.enumerate() {
        let text = value
            .as_str()
            .ok_or_else(|| fail(format!("join: item {i} is of kind {}", value.kind())))?;
        // Before it grows: a list may hold one long text many times.
        state.consume_fuel(1 + (separator.len() + text.len()) as u64 / 64)?;
        out.push_str(if i > 0 { separator } else { "" });
        out.push_str(text);
    }
    Ok(out)
}

/// `str.splitlines`.
pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        out.push(&rest[..if keep { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

/// Where [`pad`] puts its filling.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// `ljust`, `rjust` and `center`: a width, and what fills.
fn justified(state: &State, text: &str, args: &[Value], side: Side) -> Result<String, Error> {
    let width = usize::try_from(args[0].clone())?;
    let fill = match args.get(1) {
        None => ' ',
        Some(fill) => match fill.as_str().map(|s| (s.chars().next(), s.chars().count())) {
            Some((Some(fill), 1)) => fill,
            _ => return Err(fail("what fills must be one character")),
        },
    };
    pad(state, text, width, fill, side)
}

/// `text` filled up to `width` characters.
pub(super) fn pad(
    state: &State,
    text: &str,
    width: usize,
    fill: char,
    side: Side,
) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    state.consume_fuel(missing as u64 / 16)?;
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // Python's rule for odd numbers.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let filling = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
    Ok(format!(
        "{}{text}{}",
        filling(left),
        filling(missing - left)
    ))
}

/// The separator (none: runs of white space) and the most splits of `split` and `rsplit`; they may be
/// given by name.
fn split_args(args: &[Value]) -> Result<(Option<String>, Option<usize>), Error> {
    let [by, most] = options(args.to_vec(), ["sep", "maxsplit"])?;
    let by = match by {
        None => None,
        Some(v) => match v.as_str() {
            Some("") => return Err(fail("empty separator")),
            Some(by) => Some(by.to_owned()),
            None => return Err(fail("a separator must be a string")),
        },
    };
    let most = most.map(i64::try_from).transpose()?;
    Ok((by, most.and_then(|n| usize::try_from(n).ok())))
}

fn split(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (by, most) = split_args(args)?;
    let most = most.unwrap_or(usize::MAX);
    let Some(by) = by else {
        let mut parts = Vec::new();
        let mut rest = strip(text, None, true, false);
        while !rest.is_empty() {
            let end = rest.find(is_space).filter(|_| parts.len() < most);
            let Some(end) = end else {
                parts.push(rest);
                break;
            };
            parts.push(&rest[..end]);
            rest = strip(&rest[end..], None, true, false);
        }
        return Ok(parts.into_iter().collect());
    };
    Ok(text.splitn(most.saturating_add(1), by.as_str()).collect())
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (by, most) = split_args(args)?;
    let most = most.unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    if let Some(by) = by {
        parts.extend(text.rsplitn(most.saturating_add(1), by.as_str()));
    } else {
        let mut rest = strip(text, None, false, true);
        while !rest.is_empty() {
            let begin = rest.rfind(is_space).filter(|_| parts.len() < most);
            let Some(at) = begin else {
                parts.push(rest);
                break;
            };
            let width = rest[at..].chars().next().map_or(1, char::len_utf8);
            parts.push(&rest[at + width..]);
            rest = strip(&rest[..at], None, false, true);
        }
    }
    parts.reverse();
    Ok(parts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: `str.splitlines` of Python 3.11.
    #[test]
    fn lines_end_as_in_python() {
        assert_eq!(lines("", false), [""; 0]);
        assert_eq!(lines("a\n", false), ["a"]);
        assert_eq!(
            lines("\na\r\nb\rc\x0bd\u{2028}", false),
            ["", "a", "b", "c", "d"]
        );
        assert_eq!(lines("a\r\n\nb", true), ["a\r\n", "\n", "b"]);
    }
}
