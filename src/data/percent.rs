//! Values filled into a text: the operator `%`, the filter `format` and the method `format` of Python.
//!
//! Numbers are formatted by the engine, which knows all their forms. What is not known here is refused.

use super::guard::fail;
use super::repr::{repr_of, text_of};
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, State};

/// Digits of a width or precision: more are of no use to a template.
const MAX_DIGITS: usize = 4;

/// Values for `%`.
pub(super) struct Arguments {
    values: std::vec::IntoIter<Value>,
    /// What `%(key)s` asks.
    mapping: Option<Value>,
    /// Whether all values must be used.
    all: bool,
}

impl Arguments {
    /// Those on the right of the operator.
    pub(super) fn of_operator(right: Value) -> Result<Self, Error> {
        let tuple = right.is_tuple();
        let mapping = (right.kind() == ValueKind::Map).then(|| right.clone());
        // Python takes a list for a mapping, which may have more than is asked for.
        let all = tuple || !matches!(right.kind(), ValueKind::Map | ValueKind::Seq);
        let values: Vec<Value> = if tuple {
            right.try_iter()?.collect()
        } else {
            vec![right]
        };
        Ok(Self {
            values: values.into_iter(),
            mapping,
            all,
        })
    }

    /// Those of the filter.
    pub(super) fn of_filter(mut args: Vec<Value>) -> Result<Self, Error> {
        match args.last() {
            Some(last) if last.is_kwargs() => {
                let named = args.pop().unwrap_or_default();
                if !args.is_empty() {
                    return Err(fail("format: arguments are given by place and by name"));
                }
                Self::of_operator(named)
            }
            _ => Self::of_operator(Value::from(minijinja::value::Tuple::from(args))),
        }
    }

    fn next(&mut self, key: Option<&str>) -> Result<Value, Error> {
        let found = match (key, &self.mapping) {
            (Some(key), Some(mapping)) => {
                let value = mapping.get_item(&Value::from(key))?;
                (!value.is_undefined()).then_some(value)
            }
            (Some(_), None) => return Err(fail("format: a mapping is needed")),
            (None, _) => self.values.next(),
        };
        found.ok_or_else(|| fail("format: there are not enough values"))
    }
}

/// A text with each `%…` replaced.
pub(super) fn percent(state: &State, text: &str, mut args: Arguments) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        if let Some(behind) = rest[at..].strip_prefix("%%") {
            out.push('%');
            rest = behind;
            continue;
        }
        let (field, behind) = Field::read(&rest[at + 1..])?;
        rest = behind;
        let value = args.next(field.key)?;
        let written = field.write(state, &value)?;
        pay(state, written.len())?;
        out.push_str(&written);
    }
    if args.all && args.values.next().is_some() {
        return Err(fail("format: not all values are used"));
    }
    out.push_str(rest);
    Ok(out)
}

/// Pays for bytes before there are more of them.
fn pay(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + bytes as u64 / 64)
}

/// `%(key)-5.3s`.
struct Field<'t> {
    key: Option<&'t str>,
    flags: &'t str,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

impl<'t> Field<'t> {
    /// What is behind a `%`, and what is behind that.
    fn read(text: &'t str) -> Result<(Self, &'t str), Error> {
        let (key, rest) = match text.strip_prefix('(') {
            Some(inner) => {
                let (key, rest) = inner
                    .split_once(')')
                    .ok_or_else(|| fail("format: a key has no end"))?;
                (Some(key), rest)
            }
            None => (None, text),
        };
        let (flags, rest) = run(rest, |c| "#0- +".contains(c));
        let (width, rest) = run(rest, |c| c.is_ascii_digit());
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (digits, rest) = run(rest, |c| c.is_ascii_digit());
                (Some(count(digits)?), rest)
            }
            None => (None, rest),
        };
        let rest = rest.trim_start_matches(['h', 'l', 'L']);
        let mut chars = rest.chars();
        let conversion = chars.next();
        let field = Self {
            key,
            flags,
            width: count(width)?,
            precision,
            conversion: conversion.ok_or_else(|| fail("format: a `%` ends the text"))?,
        };
        Ok((field, chars.as_str()))
    }

    fn write(&self, state: &State, value: &Value) -> Result<String, Error> {
        pay(state, self.width + self.precision.unwrap_or(0))?;
        let text = match self.conversion {
            's' => text_of(state, value)?,
            'r' => repr_of(state, value)?,
            'd' | 'i' | 'u' if self.precision.is_none() => {
                return self.number('d', &integer(value, true)?);
            }
            'o' | 'x' | 'X' if self.precision.is_none() => {
                return self.number(self.conversion, &integer(value, false)?);
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' if is_number(value) => {
                return self.number(self.conversion, &whole(value));
            }
            other => {
                return Err(fail(format!(
                    "format: `%{other}` of a value of kind {} is not known here",
                    value.kind()
                )));
            }
        };
        let kept: String = text
            .chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect();
        Ok(fill(
            &kept,
            self.width,
            ' ',
            if self.flags.contains('-') { '<' } else { '>' },
        ))
    }

    /// A number as the engine writes it.
    fn number(&self, conversion: char, value: &Value) -> Result<String, Error> {
        let width = if self.width > 0 {
            self.width.to_string()
        } else {
            String::new()
        };
        let precision = self.precision.map(|n| format!(".{n}")).unwrap_or_default();
        let field = format!("%{}{width}{precision}{conversion}", self.flags);
        format(FormatStyle::Printf, &field, std::slice::from_ref(value))
    }
}

/// The beginning of `text` that is made of such characters, and the rest.
fn run(text: &str, more: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !more(c)).unwrap_or(text.len()))
}

/// A width or precision; none is 0.
fn count(digits: &str) -> Result<usize, Error> {
    if digits.len() > MAX_DIGITS {
        return Err(fail(format!(
            "format: a width or precision has more than {MAX_DIGITS} digits"
        )));
    }
    Ok(digits.parse().unwrap_or(0))
}

fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

/// A truth value as the number that it is in Python.
fn whole(value: &Value) -> Value {
    if value.kind() == ValueKind::Bool {
        return Value::from(i64::from(value.is_true()));
    }
    value.clone()
}

/// A whole number; what is behind the point is left out where that is `cut`.
fn integer(value: &Value, cut: bool) -> Result<Value, Error> {
    if value.kind() == ValueKind::Bool || value.is_integer() {
        return Ok(whole(value));
    }
    let number = f64::try_from(value.clone())
        .ok()
        .filter(|_| cut && is_number(value));
    match number {
        // Beyond 2^100 a float's digits mean nothing to a template.
        Some(number) if number.abs() < 1e30 => Ok(Value::from(number.trunc() as i128)),
        _ => Err(fail(format!(
            "format: a value of kind {} is no whole number",
            value.kind()
        ))),
    }
}

/// A text filled up to a width, counted in characters.
fn fill(text: &str, width: usize, with: char, align: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let left = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    let filling = |n: usize| std::iter::repeat_n(with, n).collect::<String>();
    format!("{}{text}{}", filling(left), filling(missing - left))
}

/// `text.format(…)`.
pub(super) fn braces(state: &State, text: &str, args: &[Value]) -> Result<String, Error> {
    let (places, named) = match args.split_last() {
        Some((last, places)) if last.is_kwargs() => (places, Kwargs::try_from(last.clone())?),
        _ => (args, std::iter::empty::<(&str, Value)>().collect()),
    };
    let mut out = String::new();
    let mut rest = text;
    let mut places = Places {
        values: places,
        next: 0,
        told: false,
    };
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (mark, behind) = rest[at..].split_at(1);
        if let Some(behind) = behind.strip_prefix(mark) {
            out.push_str(mark);
            rest = behind;
            continue;
        }
        let inside = behind.split_once('}').filter(|_| mark == "{");
        let (inside, behind) = inside.ok_or_else(|| fail("format: a single brace"))?;
        if inside.contains('{') {
            return Err(fail("format: a width is given by an argument"));
        }
        rest = behind;
        let written = field(state, inside, &mut places, &named)?;
        pay(state, written.len())?;
        out.push_str(&written);
    }
    out.push_str(rest);
    Ok(out)
}

/// Values by place, which fields count or name; Python does not let them do both.
struct Places<'a> {
    values: &'a [Value],
    next: usize,
    told: bool,
}

impl Places<'_> {
    fn get(&mut self, place: Option<usize>) -> Option<Value> {
        self.told |= place.is_some();
        if self.told && (place.is_none() || self.next > 0) {
            return None;
        }
        let at = place.unwrap_or(self.next);
        self.next += usize::from(place.is_none());
        self.values.get(at).cloned()
    }
}

/// The text of `name[key]!r:spec`.
fn field(
    state: &State,
    inside: &str,
    places: &mut Places,
    named: &Kwargs,
) -> Result<String, Error> {
    let (name, spec) = inside.split_once(':').unwrap_or((inside, ""));
    let (path, conversion) = name.split_once('!').unwrap_or((name, ""));
    let (first, keys) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    let mut value = if first.is_empty() {
        places.get(None)
    } else if let Ok(place) = first.parse::<usize>() {
        places.get(Some(place))
    } else if named.has(first) {
        Some(named.get::<Value>(first)?)
    } else {
        None
    };
    for key in keys.split_inclusive(']') {
        let key = key.strip_prefix('[').and_then(|key| key.strip_suffix(']'));
        let key = key.ok_or_else(|| fail("format: an attribute is asked for"))?;
        let key = key
            .parse::<usize>()
            .map_or_else(|_| Value::from(key), Value::from);
        value = match value {
            Some(value) => Some(value.get_item(&key)?).filter(|v| !v.is_undefined()),
            None => None,
        };
    }
    let value =
        value.ok_or_else(|| fail(format!("format: there is no value for `{{{inside}}}`")))?;
    match conversion {
        "" => with_spec(state, &value, spec),
        "s" => text_spec(state, &text_of(state, &value)?, spec),
        "r" => text_spec(state, &repr_of(state, &value)?, spec),
        other => Err(fail(format!("format: `!{other}` is not known here"))),
    }
}

/// `format(value, spec)`.
fn with_spec(state: &State, value: &Value, spec: &str) -> Result<String, Error> {
    match (value.as_str(), spec) {
        (Some(text), spec) => text_spec(state, text, spec),
        (None, "") => text_of(state, value),
        (None, spec) if is_number(value) => {
            for digits in spec.split(|c: char| !c.is_ascii_digit()) {
                pay(state, count(digits)?)?;
            }
            format(
                FormatStyle::StrFormat,
                &format!("{{:{spec}}}"),
                &[whole(value)],
            )
        }
        _ => Err(fail(format!(
            "format: `{spec}` for a value of kind {}",
            value.kind()
        ))),
    }
}

/// `format(text, spec)`.
fn text_spec(state: &State, text: &str, spec: &str) -> Result<String, Error> {
    let mut chars = spec.chars();
    let is_align = |c: Option<char>| c.filter(|&c| matches!(c, '<' | '>' | '^'));
    let (first, second) = (chars.next(), chars.next());
    let (with, align, rest) = match (first, is_align(second), is_align(first)) {
        (Some(with), Some(align), _) => (Some(with), align, chars.as_str()),
        (_, None, Some(align)) => (None, align, &spec[1..]),
        _ => (None, '<', spec),
    };
    // A zero before the width asks for zeros.
    let with = with.unwrap_or(if rest.starts_with('0') { '0' } else { ' ' });
    let (width, rest) = run(rest, |c| c.is_ascii_digit());
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (digits, rest) = run(rest, |c| c.is_ascii_digit());
            (count(digits)?, rest)
        }
        None => (usize::MAX, rest),
    };
    if !matches!(rest, "" | "s") {
        return Err(fail(format!("format: `{spec}` for a text")));
    }
    let width = count(width)?;
    pay(state, width)?;
    let kept: String = text.chars().take(precision).collect();
    Ok(fill(&kept, width, with, align))
}
