//! What chat templates use of Python: methods of strings, filters, tests, and values as text.
//!
//! The engine has most of it. Here is what it lacks, and what it writes otherwise than Jinja2 3.1 with
//! transformers' settings does; `tests/golden/make_templates.py` compares the two.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::fmt::Write as _;

/// Lists within lists deeper than this are not written: each level is a call.
const MAX_DEPTH: usize = 100;

/// A refusal with this reason.
pub(super) fn fail(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// Arguments of a filter or method by the names of its parameters; null is as good as absent.
fn options<const N: usize>(
    args: Vec<Value>,
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let mut found = [const { None }; N];
    let mut named = None;
    for (i, arg) in args.into_iter().enumerate() {
        match Kwargs::try_from(arg.clone()) {
            Ok(pairs) if arg.is_kwargs() => named = Some(pairs),
            _ if i < N => found[i] = Some(arg),
            _ => return Err(Error::from(ErrorKind::TooManyArguments)),
        }
    }
    if let Some(named) = named {
        for (slot, name) in found.iter_mut().zip(names) {
            if let Some(value) = named.get::<Option<Value>>(name)? {
                *slot = Some(value);
            }
        }
        named.assert_all_used()?;
    }
    Ok(found.map(|value| value.filter(|v| !v.is_none())))
}

/// Gives `env` the filters, tests, methods and the way of writing values that Python has.
pub(super) fn install(env: &mut Environment<'static>) {
    env.set_unknown_method_callback(method);
    env.set_formatter(write_value);
    env.add_filter("tojson", tojson);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("string", text_of);
    env.add_filter("upper", |v: &Value| {
        Ok::<_, Error>(text_of(v)?.to_uppercase())
    });
    env.add_filter("lower", |v: &Value| {
        Ok::<_, Error>(text_of(v)?.to_lowercase())
    });
    env.add_filter("trim", trim);
    env.add_filter("title", title_filter);
    env.add_filter("truncate", truncate);
    env.add_filter("wordcount", wordcount);
    env.add_filter(
        "center",
        |state: &State, text: &Value, width: Option<usize>| {
            pad(state, &text_of(text)?, width.unwrap_or(80), ' ', Side::Both)
        },
    );
    env.add_filter("e", escape);
    env.add_filter("escape", escape);
    env.add_test("iterable", |v: &Value| !v.is_none() && v.try_iter().is_ok());
    env.add_test("sequence", |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::String
        )
    });
    env.add_test("number", |v: &Value| {
        matches!(v.kind(), ValueKind::Number | ValueKind::Bool)
    });
    env.add_filter(REMAINDER, remainder);
}

/// Writes a value into the output as `str()` does.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
            if !value.is_integer() =>
        {
            out.write_str(&text_of(value)?).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Whether a value holds no more than `left` others, of which this takes away what it finds.
fn holds_at_most(value: &Value, left: &mut u32, depth: usize) -> bool {
    if *left == 0 || depth > MAX_DEPTH {
        return false;
    }
    *left -= 1;
    match value.kind() {
        // A repeated list (`[1] * n`) is an iterable: it is written as the list that it stands for.
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            value.try_iter().is_ok_and(|mut items| {
                items.all(|item| {
                    let inner = if value.kind() == ValueKind::Map {
                        value.get_item(&item).unwrap_or_default()
                    } else {
                        item
                    };
                    holds_at_most(&inner, left, depth + 1)
                })
            })
        }
        _ => true,
    }
}

/// `str(value)`. A list may hold another one many times over, and so be written without end: the
/// error is that of a template which does not come to an end.
pub(super) fn text_of(value: &Value) -> Result<String, Error> {
    if !holds_at_most(value, &mut 1_000_000, 0) {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    Ok(match value.kind() {
        ValueKind::Number => number_text(value),
        ValueKind::Seq | ValueKind::Map if has_float(value, 0) => {
            let mut out = String::new();
            write_repr(&mut out, value, 0);
            out
        }
        _ => value.to_string(),
    })
}

/// A number as `str` and `repr` have it.
fn number_text(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float_text(number),
        _ => value.to_string(),
    }
}

/// Whether a container holds a fraction, the one kind of value that the engine writes otherwise.
fn has_float(value: &Value, depth: usize) -> bool {
    let fraction = |v: &Value| v.kind() == ValueKind::Number && !v.is_integer();
    if depth > MAX_DEPTH {
        return false;
    }
    match value.kind() {
        ValueKind::Seq => value
            .try_iter()
            .is_ok_and(|mut items| items.any(|v| fraction(&v) || has_float(&v, depth + 1))),
        ValueKind::Map => value.try_iter().is_ok_and(|mut keys| {
            keys.any(|k| {
                let v = value.get_item(&k).unwrap_or_default();
                fraction(&k) || fraction(&v) || has_float(&v, depth + 1)
            })
        }),
        _ => false,
    }
}

/// `repr(value)` of containers of floats; the rest as the engine writes it.
fn write_repr(out: &mut String, value: &Value, depth: usize) {
    let items = |value: &Value| value.try_iter().map(Vec::from_iter).unwrap_or_default();
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match value.kind() {
        ValueKind::Seq => {
            let items = items(value);
            let (open, close) = if value.is_tuple() {
                ('(', ')')
            } else {
                ('[', ']')
            };
            out.push(open);
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, item, depth + 1);
            }
            out.push_str(if value.is_tuple() && items.len() == 1 {
                ","
            } else {
                ""
            });
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in items(value).iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, key, depth + 1);
                out.push_str(": ");
                write_repr(out, &value.get_item(key).unwrap_or_default(), depth + 1);
            }
            out.push('}');
        }
        ValueKind::Number => out.push_str(&number_text(value)),
        _ => _ = write!(out, "{value:?}"),
    }
}

/// `repr` of a float: the shortest digits that read back, in powers of ten from 1e16 and below 1e-4.
fn float_text(number: f64) -> String {
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

/// Python's white space: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The `|trim` filter and `str.strip`.
fn trim(value: &Value, chars: Option<String>) -> Result<String, Error> {
    let text = text_of(value)?;
    Ok(strip(&text, chars.as_deref(), true, true).to_owned())
}

fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
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

/// `int()` as the filter has it: what is no number is the default.
fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default, base] = options(args.into_values(), ["default", "base"])?;
    let default = default.unwrap_or_else(|| Value::from(0));
    let base = base.map(u32::try_from).transpose()?;
    let whole = |number: f64| {
        // Beyond 2^100 a float's digits mean nothing to a template.
        (number.is_finite() && number.abs() < 1e30).then(|| Value::from(number.trunc() as i128))
    };
    let found = match value.kind() {
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => whole(f64::try_from(value.clone())?),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let text = strip(text, None, true, true).replace('_', "");
            let base = base.unwrap_or(10);
            let (sign, digits) = match text.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, text.strip_prefix('+').unwrap_or(&text)),
            };
            let prefix = match base {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            let lower = digits.to_ascii_lowercase();
            let digits = lower.strip_prefix(prefix).unwrap_or(&lower);
            let number = (2..=36)
                .contains(&base)
                .then(|| i128::from_str_radix(digits, base));
            match number {
                Some(Ok(number)) if !digits.starts_with(['+', '-']) => {
                    Some(Value::from(sign * number))
                }
                _ => parse_float(&text).and_then(whole),
            }
        }
        _ => None,
    };
    Ok(found.unwrap_or(default))
}

/// `float()` as the filter has it.
fn float(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default] = options(args.into_values(), ["default"])?;
    let found = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => parse_float(value.as_str().unwrap_or_default()),
        _ => None,
    };
    Ok(found.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

fn parse_float(text: &str) -> Option<f64> {
    strip(text, None, true, true).parse().ok()
}

/// `str.title`: a word begins after every character that is no letter.
fn python_title(text: &str) -> String {
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

/// The `|title` filter: a word begins after white space, a hyphen or an opening bracket.
fn title_filter(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    let mut first = true;
    for c in text_of(value)?.chars() {
        let between = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        match (between, first) {
            (true, _) => out.push(c),
            (false, true) => out.extend(c.to_uppercase()),
            (false, false) => out.extend(c.to_lowercase()),
        }
        first = between;
    }
    Ok(out)
}

fn truncate(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, killwords, end, leeway] = options(args.into_values(), names)?;
    let length = length.map_or(Ok(255), usize::try_from)?;
    let leeway = leeway.map_or(Ok(5), usize::try_from)?;
    let killwords = killwords.is_some_and(|v| v.is_true());
    let end = end.map_or_else(|| Ok("...".to_owned()), |v| text_of(&v))?;
    let text = text_of(value)?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let Some(room) = length.checked_sub(end.chars().count()) else {
        return Err(fail("truncate: `length` is less than that of `end`"));
    };
    let cut: String = text.chars().take(room).collect();
    let kept = if killwords {
        cut.as_str()
    } else {
        cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept)
    };
    Ok(format!("{kept}{end}"))
}

fn wordcount(value: &Value) -> Result<usize, Error> {
    let text = text_of(value)?;
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    Ok(words.filter(|word| !word.is_empty()).count())
}

fn escape(value: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for c in text_of(value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}

/// The filter that stands for the operator `%`, which the engine has for numbers only.
pub(super) const REMAINDER: &str = "_remainder";

fn remainder(state: &mut State, left: &Value, right: Value) -> Result<Value, Error> {
    if left.as_str().is_none() {
        let sum = state.env().compile_expression("a % b")?;
        return sum.eval(minijinja::context! { a => left, b => right });
    }
    let mut args = vec![left.clone()];
    if right.is_tuple() {
        args.extend(right.try_iter()?);
    } else if right.kind() == ValueKind::Map {
        let pairs = right.try_iter()?.map(|key| {
            let value = right.get_item(&key).unwrap_or_default();
            (key.to_string(), value)
        });
        args.push(pairs.collect::<Kwargs>().into());
    } else {
        args.push(right);
    }
    state.apply_filter("format", &args)
}

/// `json.dumps` with the options that transformers' filter takes.
fn tojson(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = options(args.into_values(), names)?;
    let indent = match indent {
        None => None,
        Some(v) if v.is_integer() => {
            let width = usize::try_from(i64::try_from(v)?).unwrap_or(0);
            Some(" ".repeat(width.min(100)))
        }
        Some(v) => match v.as_str() {
            Some(text) => Some(text.to_owned()),
            None => return Err(fail("tojson: `indent` is neither a number nor a string")),
        },
    };
    let default = if indent.is_some() { "," } else { ", " };
    let mut json = Json {
        item: default.to_owned(),
        key: ": ".to_owned(),
        indent,
        ascii: ensure_ascii.is_some_and(|v| v.is_true()),
        sorted: sort_keys.is_some_and(|v| v.is_true()),
        out: String::new(),
    };
    if let Some(pair) = separators {
        let parts: Vec<Value> = pair.try_iter()?.collect();
        match (
            parts.len(),
            parts.first().and_then(Value::as_str),
            parts.get(1).and_then(Value::as_str),
        ) {
            (2, Some(item), Some(key)) => (json.item, json.key) = (item.to_owned(), key.to_owned()),
            _ => return Err(fail("tojson: `separators` is not a pair of strings")),
        }
    }
    json.write(state, value, 0)?;
    Ok(Value::from(json.out))
}

struct Json {
    item: String,
    key: String,
    indent: Option<String>,
    ascii: bool,
    sorted: bool,
    out: String,
}

impl Json {
    fn write(&mut self, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(fail("tojson: lists within lists too deep"));
        }
        // As the engine pays for its own serialisation.
        state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => _ = write!(self.out, "{value}"),
            ValueKind::Number => {
                let number = f64::try_from(value.clone())?;
                let text = match number {
                    n if n.is_nan() => "NaN".to_owned(),
                    n if n.is_infinite() && n > 0.0 => "Infinity".to_owned(),
                    n if n.is_infinite() => "-Infinity".to_owned(),
                    n => float_text(n),
                };
                self.out.push_str(&text);
            }
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                state.consume_fuel(text.len() as u64 / 64)?;
                self.string(text);
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(state, '[', ']', depth, &items, |json, item, depth| {
                    json.write(state, item, depth)
                })?;
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    let name = match key.kind() {
                        ValueKind::String => key.to_string(),
                        ValueKind::None => "null".to_owned(),
                        ValueKind::Bool => key.to_string().to_lowercase(),
                        ValueKind::Number => number_text(&key),
                        kind => return Err(fail(format!("tojson: a key is of kind {kind}"))),
                    };
                    pairs.push((name, value.get_item(&key)?));
                }
                if self.sorted {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list(
                    state,
                    '{',
                    '}',
                    depth,
                    &pairs,
                    |json, (name, value), depth| {
                        json.string(name);
                        let separator = json.key.clone();
                        json.out.push_str(&separator);
                        json.write(state, value, depth)
                    },
                )?;
            }
            kind => return Err(fail(format!("tojson: a value of kind {kind} has no JSON"))),
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        state: &State,
        open: char,
        close: char,
        depth: usize,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(state, depth + 1)?;
            write(self, item, depth + 1)?;
        }
        if !items.is_empty() {
            self.line(state, depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, state: &State, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            state.consume_fuel((indent.len() * depth) as u64 / 64)?;
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Methods of Python's strings that the engine lacks or has otherwise; of the others its own.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return match (value.kind(), name, args) {
            (ValueKind::Map | ValueKind::Seq, "copy", []) => Ok(value.clone()),
            (ValueKind::Seq, "index", [wanted]) => {
                let at = value.try_iter()?.position(|item| item == *wanted);
                at.map(Value::from)
                    .ok_or_else(|| fail("the value is not in the list"))
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
        };
    };
    let string = |i: usize| args.get(i).and_then(Value::as_str);
    let chars = |i: usize| args.get(i).filter(|v| !v.is_none()).and_then(Value::as_str);
    Ok(match (name, args.len()) {
        ("title", 0) => Value::from(python_title(text)),
        ("swapcase", 0) => Value::from(swapcase(text)),
        ("strip", 0 | 1) => Value::from(strip(text, chars(0), true, true)),
        ("lstrip", 0 | 1) => Value::from(strip(text, chars(0), true, false)),
        ("rstrip", 0 | 1) => Value::from(strip(text, chars(0), false, true)),
        ("removeprefix", 1) if string(0).is_some() => Value::from(
            text.strip_prefix(string(0).unwrap_or_default())
                .unwrap_or(text),
        ),
        ("removesuffix", 1) if string(0).is_some() => Value::from(
            text.strip_suffix(string(0).unwrap_or_default())
                .unwrap_or(text),
        ),
        ("partition", 1) if string(0).is_some_and(|s| !s.is_empty()) => {
            let separator = string(0).unwrap_or_default();
            match text.split_once(separator) {
                Some((a, b)) => tuple([a, separator, b]),
                None => tuple([text, "", ""]),
            }
        }
        ("rpartition", 1) if string(0).is_some_and(|s| !s.is_empty()) => {
            let separator = string(0).unwrap_or_default();
            match text.rsplit_once(separator) {
                Some((a, b)) => tuple([a, separator, b]),
                None => tuple(["", "", text]),
            }
        }
        ("index", 1) if string(0).is_some() => {
            let at = text.find(string(0).unwrap_or_default());
            let at = at.ok_or_else(|| fail("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        ("rindex", 1) if string(0).is_some() => {
            let at = text.rfind(string(0).unwrap_or_default());
            let at = at.ok_or_else(|| fail("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        ("format", _) => {
            check_widths(text)?;
            return unknown_method_callback(state, value, name, args);
        }
        ("rsplit", _) => rsplit(text, args)?,
        ("split", _) => split(text, args)?,
        ("ljust" | "rjust" | "center", 1 | 2) => {
            let side = match name {
                "ljust" => Side::Right,
                "rjust" => Side::Left,
                _ => Side::Both,
            };
            let fill = string(1).and_then(|s| s.chars().next()).unwrap_or(' ');
            Value::from(pad(
                state,
                text,
                usize::try_from(args[0].clone())?,
                fill,
                side,
            )?)
        }
        ("zfill", 1) => {
            let width = usize::try_from(args[0].clone())?;
            let (sign, digits) = match text.chars().next() {
                Some('+' | '-') => text.split_at(1),
                _ => ("", text),
            };
            let width = width.saturating_sub(sign.len());
            Value::from(format!(
                "{sign}{}",
                pad(state, digits, width, '0', Side::Left)?
            ))
        }
        _ => return unknown_method_callback(state, value, name, args),
    })
}

/// Refuses widths of `str.format` that the engine would fill without asking for fuel.
fn check_widths(text: &str) -> Result<(), Error> {
    let wide = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() > 4);
    if wide {
        return Err(fail("a width of `format` has more than four digits"));
    }
    // `{:{}}`: nothing tells how wide before it is done.
    let nested = text
        .split(':')
        .skip(1)
        .any(|spec| spec.split('}').next().is_some_and(|s| s.contains('{')));
    if nested {
        return Err(fail("a width of `format` is given by an argument"));
    }
    Ok(())
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(minijinja::value::Tuple::from(
        parts.map(Value::from).to_vec(),
    ))
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

/// Where [`pad`] puts its filling.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Both,
}

/// `text` filled up to `width` characters.
fn pad(state: &State, text: &str, width: usize, fill: char, side: Side) -> Result<String, Error> {
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
