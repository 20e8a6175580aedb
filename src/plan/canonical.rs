//! The exact bytes that name a run: JSON with keys sorted by us and floats in shortest form.

use crate::plan::error::PlanError;
use serde_json::Value;
use std::fmt::Write as _;

/// Refuses what JSON cannot say.
///
/// Absent options must be skipped by the type: a `null` can only come from a number that is not
/// finite.
///
/// # Errors
/// A number is NaN or infinite; `what` and its dotted path are named.
pub(crate) fn finite(document: &Value, what: &str) -> Result<(), PlanError> {
    match find_null(document, String::new()) {
        Some(path) => Err(PlanError::NotFinite {
            what: what.to_owned(),
            path,
        }),
        None => Ok(()),
    }
}

fn find_null(value: &Value, path: String) -> Option<String> {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Null => Some(path),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find_null(item, below(&index.to_string()))),
        Value::Object(fields) => fields
            .iter()
            .find_map(|(name, value)| find_null(value, below(name))),
        _ => None,
    }
}

/// The canonical text: no spaces, keys in byte order, floats shortest round-trip with a point or an
/// exponent, so that an integer field and a float field of the same value differ in form only where
/// their types do.
pub(crate) fn canonical(value: &Value) -> String {
    let mut text = String::with_capacity(1024);
    write_value(value, &mut text);
    text
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(float)) => _ = write!(out, "{float:?}"),
            _ => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
        Value::String(text) => write_string(text, out),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
    }
}

/// JSON's own escapes; control characters as `\u00XX`.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_floats_shortest() {
        let value = json!({"b": 1.0, "a": [1, 0.1, 1e-5, 2e-3], "c": {"z": "q\"\n", "y": true}});
        assert_eq!(
            canonical(&value),
            r#"{"a":[1,0.1,1e-5,0.002],"b":1.0,"c":{"y":true,"z":"q\"\u000a"}}"#
        );
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_with_its_path() {
        let value = json!({"rates": [0.1, f64::NAN]});
        let error = finite(&value, "the recipe").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the recipe has a number that is not finite at `rates.1`"
        );
    }
}
