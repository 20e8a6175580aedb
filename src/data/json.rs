//! `json.dumps` with the options that the filter `tojson` of transformers takes.

use super::guard::fail;
use super::params::options;
use super::repr::{float_text, number_text};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, State};
use std::fmt::Write as _;

/// Lists within lists deeper than this are not written: each level is a call.
const MAX_DEPTH: usize = 100;
/// Blanks of indentation a level.
const MAX_INDENT: i64 = 1000;

/// The filter `tojson`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = options(args.into_values(), names)?;
    let indent = indent.map(indentation).transpose()?;
    let (item, key) = match separators {
        Some(pair) => pair_of_strings(&pair)?,
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut json = Json {
        item,
        key,
        indent,
        ascii: ensure_ascii.is_some_and(|v| v.is_true()),
        sorted: sort_keys.is_some_and(|v| v.is_true()),
        out: String::new(),
    };
    json.write(state, value, 0)?;
    Ok(Value::from(json.out))
}

fn indentation(indent: Value) -> Result<String, Error> {
    if let Some(text) = indent.as_str() {
        return Ok(text.to_owned());
    }
    match i64::try_from(indent.clone()) {
        Ok(width) if indent.is_integer() && width <= MAX_INDENT => {
            Ok(" ".repeat(usize::try_from(width).unwrap_or(0)))
        }
        _ => Err(fail(format!(
            "tojson: `indent` is neither a string nor a number up to {MAX_INDENT}"
        ))),
    }
}

fn pair_of_strings(pair: &Value) -> Result<(String, String), Error> {
    let parts: Vec<Value> = pair.try_iter()?.take(3).collect();
    match &parts[..] {
        [item, key] if item.as_str().is_some() && key.as_str().is_some() => {
            Ok((item.to_string(), key.to_string()))
        }
        _ => Err(fail("tojson: `separators` is not a pair of strings")),
    }
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
            ValueKind::String => self.string(state, value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                self.list(
                    state,
                    ['[', ']'],
                    depth,
                    value.try_iter()?,
                    |json, item, depth| json.write(state, &item, depth),
                )?;
            }
            ValueKind::Map => self.map(state, value, depth)?,
            kind => return Err(fail(format!("tojson: a value of kind {kind} has no JSON"))),
        }
        Ok(())
    }

    fn map(&mut self, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
        let mut pairs = Vec::new();
        for key in value.try_iter()? {
            state.consume_fuel(1)?;
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
            ['{', '}'],
            depth,
            pairs.into_iter(),
            |json, (name, value), depth| {
                json.string(state, &name)?;
                let separator = json.key.clone();
                json.push(state, &separator)?;
                json.write(state, &value, depth)
            },
        )
    }

    fn list<T>(
        &mut self,
        state: &State,
        [open, close]: [char; 2],
        depth: usize,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                let separator = self.item.clone();
                self.push(state, &separator)?;
            }
            empty = false;
            self.line(state, depth + 1)?;
            write(self, item, depth + 1)?;
        }
        if !empty {
            self.line(state, depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    /// Writes a text that is paid for before it is there.
    fn push(&mut self, state: &State, text: &str) -> Result<(), Error> {
        state.consume_fuel(text.len() as u64 / 64)?;
        self.out.push_str(text);
        Ok(())
    }

    fn line(&mut self, state: &State, depth: usize) -> Result<(), Error> {
        let Some(indent) = self.indent.clone() else {
            return Ok(());
        };
        self.out.push('\n');
        for _ in 0..depth {
            self.push(state, &indent)?;
        }
        Ok(())
    }

    fn string(&mut self, state: &State, text: &str) -> Result<(), Error> {
        state.consume_fuel(text.len() as u64 / 64)?;
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
        Ok(())
    }
}
