//! Values as text, as `str()` and `repr()` of Python write them.

use super::guard::{fail, own_name, weigh};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, State};

/// `str(value)`.
///
/// # Errors
/// There is not enough fuel for so large a value, or it is one that Python writes by its place in memory.
pub(super) fn text_of(state: &State, value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => repr_of(state, value),
    }
}

/// `repr(value)`.
///
/// # Errors
/// As [`text_of`].
pub(super) fn repr_of(state: &State, value: &Value) -> Result<String, Error> {
    weigh(state, value)?;
    let mut out = String::new();
    write_repr(&mut out, value)?;
    Ok(out)
}

/// The value has been weighed, which bounds how deep it is.
fn write_repr(out: &mut String, value: &Value) -> Result<(), Error> {
    if let Some(name) = own_name(value) {
        return Err(fail(format!(
            "a {} is written as text",
            name.to_lowercase()
        )));
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number_text(value)),
        ValueKind::String => quote(out, value.as_str().unwrap_or_default()),
        // What is made as it is gone through stands for the list that Python would have made.
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                write_repr(out, &item)?;
                count += 1;
            }
            out.push_str(if tuple && count == 1 { "," } else { "" });
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &key)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?)?;
            }
            out.push('}');
        }
        kind => return Err(fail(format!("a value of kind {kind} is written as text"))),
    }
    Ok(())
}

/// A number as `str` and `repr` have it.
pub(super) fn number_text(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float_text(number),
        _ => value.to_string(),
    }
}

/// `repr` of a float: the shortest digits that read back, in powers of ten from 1e16 and below 1e-4.
pub(super) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let short = format!("{number:e}");
    let (digits, power) = short.split_once('e').unwrap_or((&short, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    if (-4..16).contains(&power) {
        return format!("{number:?}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

/// `repr` of a string: in double quotes if it holds single ones only.
fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark || c == '\\' => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&match u32::from(c) {
                n @ ..=0xff => format!("\\x{n:02x}"),
                n @ ..=0xffff => format!("\\u{n:04x}"),
                n => format!("\\U{n:08x}"),
            }),
        }
    }
    out.push(mark);
}

/// `str.isprintable`: neither a control or format character nor a separator other than the blank.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library escapes the same characters; marks it escapes at the beginning only.
    let text: String = ['a', c].iter().collect();
    text.escape_debug().count() == 2
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's white space: Unicode's, and the four separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: `repr` of Python 3.11.
    #[test]
    fn strings_are_quoted_as_in_python() {
        let cases = [
            ("it's", "\"it's\""),
            ("'\"", r#"'\'"'"#),
            ("a\\b\n\r\t", r"'a\\b\n\r\t'"),
            ("\0\x7f\u{85}\u{a0}\u{ad}", r"'\x00\x7f\x85\xa0\xad'"),
            (
                "\u{200b}\u{2028}\u{feff}\u{e000}",
                r"'\u200b\u2028\ufeff\ue000'",
            ),
            ("\u{e0001}\u{1f981}", r"'\U000e0001🦁'"),
            ("Zu\u{308}rich 東京", "'Zu\u{308}rich 東京'"),
        ];
        for (text, want) in cases {
            let mut out = String::new();
            quote(&mut out, text);
            assert_eq!(out, want);
        }
    }
}
