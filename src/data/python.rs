//! What chat templates use of Jinja2 and Python: filters, tests, and how values are written.
//!
//! The engine has most of it. Here is what it lacks, and what it does otherwise than Jinja2 3.1 with
//! transformers' settings; `tests/golden/make_template_corpus.py` compares the two.

use super::expression::{MARKUP_FILTERS, escaping};
use super::guard::{self, DATE, PLAIN, REMAINDER, TEXT, fail, pay_for_made};
use super::json::tojson;
use super::methods::{Side, lines, method, pad, strip};
use super::params::{arguments, options};
use super::percent::{Arguments, percent};
use super::repr::{is_space, text_of};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, Output, State};

/// Filters of the engine that Jinja2 has not, or that do something else there.
const FOREIGN: [&str; 7] = ["attr", "bool", "chain", "lines", "pprint", "split", "zip"];

/// Gives `env` the filters, tests, methods and the way of writing values that Python has.
pub(super) fn install(env: &mut Environment<'static>) {
    guard::install(env);
    env.set_unknown_method_callback(method);
    env.set_formatter(write_value);
    for name in FOREIGN {
        env.remove_filter(name);
    }
    env.add_function(PLAIN, plain);
    env.add_function(TEXT, text);
    env.add_function(REMAINDER, remainder);
    env.add_function(DATE, |_: Rest<ValueOrKwargs>| Err::<Value, _>(fail(DATE)));
    env.add_filter("tojson", tojson);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("join", join);
    env.add_filter("map", map);
    env.add_filter("indent", indent);
    env.add_filter("format", format);
    env.add_filter("truncate", truncate);
    env.add_filter("string", |state: &State, v: &Value| text_of(state, v));
    env.add_filter("upper", |state: &State, v: &Value| {
        text_of(state, v).map(|text| text.to_uppercase())
    });
    env.add_filter("lower", |state: &State, v: &Value| {
        text_of(state, v).map(|text| text.to_lowercase())
    });
    env.add_filter("trim", |state: &State, v: &Value, chars: Option<String>| {
        text_of(state, v).map(|text| strip(&text, chars.as_deref(), true, true).to_owned())
    });
    env.add_filter("title", |state: &State, v: &Value| {
        text_of(state, v).map(|text| title(&text))
    });
    env.add_filter("wordcount", |state: &State, v: &Value| {
        text_of(state, v).map(|text| words(&text))
    });
    env.add_filter(
        "center",
        |state: &State, v: &Value, width: Option<usize>| {
            pad(
                state,
                &text_of(state, v)?,
                width.unwrap_or(80),
                ' ',
                Side::Both,
            )
        },
    );
    env.add_filter("e", escape);
    env.add_filter("escape", escape);
    env.add_test("iterable", |v: &Value| {
        !matches!(
            v.kind(),
            ValueKind::None | ValueKind::Number | ValueKind::Bool | ValueKind::Plain
        )
    });
    env.add_test("sequence", |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined
        )
    });
    env.add_test("number", |v: &Value| {
        matches!(v.kind(), ValueKind::Number | ValueKind::Bool)
    });
}

/// Writes a value into the output as `str()` does.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Undefined | ValueKind::None | ValueKind::Bool => {
            minijinja::escape_formatter(out, state, value)
        }
        _ => out.write_str(&text_of(state, value)?).map_err(Error::from),
    }
}

/// The value of a variable that goes on into another operation. Which of the filters made it `Markup` is not
/// known any more: `safe` is the one that templates use.
fn plain(value: Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Err(fail(escaping("safe")));
    }
    Ok(value)
}

/// An operand of `~`, which is plain text even if it was escaped.
fn text(state: &State, value: Value) -> Result<Value, Error> {
    if value.as_str().is_some() && !value.is_safe() {
        return Ok(value);
    }
    text_of(state, &value).map(Value::from)
}

/// The operator `%`.
fn remainder(state: &State, left: Value, right: Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        return percent(state, text, Arguments::of_operator(right)?).map(Value::from);
    }
    let sum = state.env().compile_expression("a % b")?;
    sum.eval(minijinja::context! { a => left, b => right })
}

/// The filter `format`.
fn format(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = Arguments::of_filter(args.into_values())?;
    percent(state, &text_of(state, value)?, args)
}

/// The filter `default`.
fn default(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [other, lax] = arguments(args.into_values(), ["default_value", "boolean"])?;
    if value.is_undefined() || (lax.is_some_and(|v| v.is_true()) && !value.is_true()) {
        return Ok(other.unwrap_or_else(|| Value::from("")));
    }
    Ok(value.clone())
}

/// `int()` as the filter has it: what is no number is the default.
fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default, base] = arguments(args.into_values(), ["default", "base"])?;
    let default = default.unwrap_or_else(|| Value::from(0));
    let base = base.map_or(Ok(10), u32::try_from)?;
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
            parse_int(text, base)
                .map(Value::from)
                .or_else(|| parse_float(text).and_then(whole))
        }
        _ => None,
    };
    Ok(found.unwrap_or(default))
}

/// `int(text, base)`.
fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = ungrouped(strip(text, None, true, true))?;
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
    if !(2..=36).contains(&base) || digits.starts_with(['+', '-']) {
        return None;
    }
    Some(sign * i128::from_str_radix(digits, base).ok()?)
}

/// A number without the underlines between its digits; none if one stands elsewhere.
fn ungrouped(text: &str) -> Option<String> {
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!misplaced).then(|| text.replace('_', ""))
}

/// `float()` as the filter has it.
fn float(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default] = arguments(args.into_values(), ["default"])?;
    let found = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => parse_float(value.as_str().unwrap_or_default()),
        _ => None,
    };
    Ok(found.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

fn parse_float(text: &str) -> Option<f64> {
    ungrouped(strip(text, None, true, true))?.parse().ok()
}

/// The filter `join`.
fn join(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [separator, attribute] = options(args.into_values(), ["d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |v| text_of(state, &v))?;
    if value.is_none() {
        return Err(fail("join: there is no list"));
    }
    let mut out = String::new();
    for (i, item) in value.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(path) => attribute_of(item, path, None)?,
            None => item,
        };
        let text = match item.as_str() {
            Some(_) => None,
            None => Some(text_of(state, &item)?),
        };
        let text = text.as_deref().or(item.as_str()).unwrap_or_default();
        // Before it grows: a list may hold one long text many times.
        state.consume_fuel(1 + (separator.len() + text.len()) as u64 / 64)?;
        out.push_str(if i > 0 { separator.as_str() } else { "" });
        out.push_str(text);
    }
    Ok(out)
}

/// An item's attribute, whose path has dots; `other` where there is none.
fn attribute_of(mut item: Value, path: &Value, other: Option<&Value>) -> Result<Value, Error> {
    let parts = match path.as_str() {
        Some(path) => path.split('.').map(place_or_name).collect(),
        None => vec![path.clone()],
    };
    for part in parts {
        item = item.get_item(&part)?;
        if let (Some(other), true) = (other, item.is_undefined()) {
            item = other.clone();
        }
    }
    Ok(item)
}

fn place_or_name(part: &str) -> Value {
    part.parse::<usize>()
        .map_or_else(|_| Value::from(part), Value::from)
}

/// The filter `map`: an attribute of each item, or what a filter makes of it with the other arguments.
fn map(state: &mut State, value: Value, args: Rest<ValueOrKwargs>) -> Result<Vec<Value>, Error> {
    let mut args = args.into_values();
    if value.is_none() {
        return Err(fail("map: there is no list"));
    }
    let items = value.try_iter()?;
    let mut out = Vec::new();
    if args.first().is_none_or(Value::is_kwargs) {
        let [path, other] = options(args, ["attribute", "default"])?;
        let path = path.ok_or_else(|| fail("map: there is neither a filter nor an attribute"))?;
        for item in items {
            state.consume_fuel(1)?;
            out.push(attribute_of(item, &path, other.as_ref())?);
        }
        return Ok(out);
    }
    let name = args.remove(0);
    let name = name
        .as_str()
        .ok_or_else(|| fail("map: a filter is given by its name"))?;
    if MARKUP_FILTERS.contains(&name) {
        return Err(fail(format!("map: {}", escaping(name))));
    }
    for item in items {
        let all = [std::slice::from_ref(&item), &args[..]].concat();
        let made = state.apply_filter(name, &all)?;
        pay_for_made(state, &made)?;
        out.push(made);
    }
    Ok(out)
}

/// The filter `indent`.
fn indent(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [width, first, blank] = options(args.into_values(), ["width", "first", "blank"])?;
    let set = |v: Option<Value>| v.is_some_and(|v| v.is_true());
    let (first, blank) = (set(first), set(blank));
    let text = text_of(state, value)? + "\n";
    let lines = lines(&text, false);
    let indent = match width {
        Some(width) if width.as_str().is_some() => width.to_string(),
        width => {
            let width = width.map_or(Ok(4), i64::try_from)?;
            let width = usize::try_from(width).unwrap_or(0);
            state.consume_fuel(width as u64 / 64)?;
            " ".repeat(width)
        }
    };
    state.consume_fuel((lines.len() as u64).saturating_mul(1 + indent.len() as u64) / 64)?;
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        out.push_str(if i > 0 { "\n" } else { "" });
        let indented = if i == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        out.push_str(if indented { indent.as_str() } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

/// The `|title` filter: a word begins after white space, a hyphen or an opening bracket.
fn title(text: &str) -> String {
    let mut out = String::new();
    let mut first = true;
    for c in text.chars() {
        let between = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        match (between, first) {
            (true, _) => out.push(c),
            (false, true) => out.extend(c.to_uppercase()),
            (false, false) => out.extend(c.to_lowercase()),
        }
        first = between;
    }
    out
}

/// The filter `truncate`.
fn truncate(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, killwords, end, leeway] = options(args.into_values(), names)?;
    let length = length.map_or(Ok(255), usize::try_from)?;
    let leeway = leeway.map_or(Ok(5), usize::try_from)?;
    let killwords = killwords.is_some_and(|v| v.is_true());
    let end = end.map_or_else(|| Ok("...".to_owned()), |v| text_of(state, &v))?;
    let text = text_of(state, value)?;
    let Some(room) = length.checked_sub(end.chars().count()) else {
        return Err(fail("truncate: `length` is less than that of `end`"));
    };
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let cut: String = text.chars().take(room).collect();
    let kept = if killwords {
        cut.as_str()
    } else {
        cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept)
    };
    Ok(format!("{kept}{end}"))
}

fn words(text: &str) -> usize {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).count()
}

fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = String::new();
    for c in text_of(state, value)?.chars() {
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
