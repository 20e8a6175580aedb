//! `docs/reference.md`: every field of a sweep file, written from the schema.

use crate::config::schema::{choices, file_schema, trial_schema};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// A table of fields and where it stands.
struct Section {
    places: Vec<String>,
    schema: Map<String, Value>,
}

/// The page.
pub(crate) fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut file = file_schema();
    if let Some(parts) = file.get_mut("properties").and_then(Value::as_object_mut) {
        parts.insert(
            "base".to_owned(),
            serde_json::json!({
                "type": "object", "description": "The trial's configuration, below.",
            }),
        );
    }
    page += "\n## A sweep file\n";
    write_sections(&mut page, &file, "");
    page += "\n## A trial's configuration\n\n\
        Tables below `base`, by the paths that axes take. `NAME` is a name of yours, `0` the number of a list's element.\n";
    write_sections(&mut page, trial_schema(), "");
    page
}

const HEAD: &str = "# Reference\n\n\
    Every field of a sweep file; written by a test from the types in `src/config` and their comments. `sweeps/README.md`\n\
    says how a file is put together, `lions schema` prints the same for editors. A field that is *needed* stands in the\n\
    sweep file or in one that it extends.\n";

fn write_sections(page: &mut String, schema: &Value, root: &str) {
    let mut sections = Vec::new();
    collect(schema, root, &mut sections);
    for section in &sections {
        let places: Vec<String> = section.places.iter().map(|at| format!("`{at}`")).collect();
        if places != ["``"] {
            _ = write!(page, "\n### {}\n", places.join(", "));
        }
        if let Some(text) = section.schema.get("description").and_then(Value::as_str) {
            _ = write!(page, "\n{text}\n");
        }
        page.push_str("\n| field | value | if absent | what it is |\n| --- | --- | --- | --- |\n");
        for (name, part) in fields(&section.schema) {
            let absent = absent(&section.schema, name, part);
            let value = cell(&value_words(part));
            let text = part.get("description").and_then(Value::as_str);
            let text = cell(text.unwrap_or_default());
            _ = writeln!(page, "| `{name}` | {value} | {absent} | {text} |");
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn fields(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten()
}

/// Every table at `path` and below, those that are alike once.
fn collect(schema: &Value, path: &str, sections: &mut Vec<Section>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let Some(object) = schema.as_object() else {
        return;
    };
    if let Some(branches) = choices(schema) {
        for branch in branches {
            match chooser(branch) {
                Some(kind) => add(branch, format!("{path}, kind = \"{kind}\""), sections),
                // `{ word = { … } }` is said by the list of choices, what it takes by a table.
                None => {
                    for (name, part) in branch.as_object().into_iter().flat_map(fields) {
                        collect(part, &below(name), sections);
                    }
                }
            }
        }
        return;
    }
    if object.contains_key("properties") {
        add(schema, path.to_owned(), sections);
        for (name, part) in fields(object) {
            collect(part, &below(name), sections);
        }
    }
    for (key, name) in [("additionalProperties", "NAME"), ("items", "0")] {
        if let Some(part) = object.get(key) {
            collect(part, &below(name), sections);
        }
    }
}

fn add(schema: &Value, place: String, sections: &mut Vec<Section>) {
    let Some(object) = schema.as_object() else {
        return;
    };
    let same = |section: &&mut Section| {
        let parts =
            |of: &Map<String, Value>| (of.get("properties").cloned(), of.get("required").cloned());
        parts(&section.schema) == parts(object)
    };
    match sections.iter_mut().find(same) {
        Some(section) => section.places.push(place),
        None => sections.push(Section {
            places: vec![place],
            schema: object.clone(),
        }),
    }
}

/// The word that `kind` has in this branch.
fn chooser(branch: &Value) -> Option<&str> {
    branch
        .get("properties")?
        .get("kind")?
        .get("const")?
        .as_str()
}

fn absent(table: &Map<String, Value>, name: &str, part: &Value) -> String {
    let needed = table.get("required").and_then(Value::as_array);
    if needed.is_some_and(|needed| needed.iter().any(|other| other == name)) {
        return "*needed*".to_owned();
    }
    match part.get("default") {
        Some(Value::Object(default)) if !default.is_empty() => "as its fields say".to_owned(),
        Some(Value::Bool(value)) => format!("`{value}`"),
        Some(Value::Number(value)) => format!("`{value}`"),
        _ => String::new(),
    }
}

/// What may stand there.
fn value_words(schema: &Value) -> String {
    if let Some(branches) = choices(schema) {
        return choice_words(branches);
    }
    let number = |key: &str| schema.get(key).filter(|bound| bound.is_number());
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => format!("whole number{}", range_words(number)),
        Some("number") => format!("number{}", range_words(number)),
        Some("string") => match schema.get("const").or_else(|| schema.get("enum")) {
            Some(Value::Array(words)) => words.iter().map(shown).collect::<Vec<_>>().join(", "),
            Some(word) => shown(word),
            None => "text".to_owned(),
        },
        Some("array") => match schema.get("items") {
            Some(items) if items.get("properties").is_some() => "list of tables".to_owned(),
            Some(items) => format!("list: {}", value_words(items)),
            None => "list".to_owned(),
        },
        Some("object") if schema.get("properties").is_some() => "table".to_owned(),
        Some("object") => match schema.get("additionalProperties") {
            Some(part) if part.get("properties").is_some() => "tables by name".to_owned(),
            Some(part) if part.is_object() => format!("table of names: {}", value_words(part)),
            _ => "table".to_owned(),
        },
        _ => schema.get("const").map_or("anything".to_owned(), shown),
    }
}

fn shown(value: &Value) -> String {
    format!("`{value}`")
}

/// Each choice on its own line, with what it means.
fn choice_words(branches: &[Value]) -> String {
    let words = |branch: &Value| {
        let means = branch.get("description").and_then(Value::as_str);
        let means = means.map_or(String::new(), |text| format!(": {text}"));
        let table = branch.as_object().and_then(|object| fields(object).next());
        match (branch.get("const"), branch.get("enum"), table) {
            (Some(word), ..) => shown(word) + &means,
            (_, Some(Value::Array(all)), _) => {
                all.iter().map(shown).collect::<Vec<_>>().join("<br>")
            }
            (.., Some((name, part))) if chooser(branch).is_none() => {
                let inner = if part.get("properties").is_some() {
                    "{ … }".to_owned()
                } else {
                    format!("({})", value_words(part))
                };
                format!("`{{ {name} =` {inner} `}}`{means}")
            }
            _ => value_words(branch) + &means,
        }
    };
    branches.iter().map(words).collect::<Vec<_>>().join("<br>")
}

/// The bounds in words, as in ", above 0 to 1".
fn range_words<'v>(bound: impl Fn(&str) -> Option<&'v Value>) -> String {
    let low = bound("minimum").map(ToString::to_string);
    let low = low.or_else(|| bound("exclusiveMinimum").map(|low| format!("above {low}")));
    let high = bound("maximum").map(ToString::to_string);
    let high = high.or_else(|| bound("exclusiveMaximum").map(|high| format!("below {high}")));
    match (low, high) {
        (Some(low), Some(high)) => format!(", {low} to {high}"),
        (Some(low), None) if low.starts_with("above") => format!(", {low}"),
        (Some(low), None) => format!(", {low} or more"),
        (None, Some(high)) => format!(", at most {high}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_reference_md_has_every_field() {
        let page = reference();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
        if std::fs::read_to_string(&path).unwrap_or_default() != page {
            crate::base::write_atomic(&path, page.as_bytes()).unwrap();
            panic!(
                "docs/reference.md was not up to date; `cargo test --lib docs_reference_md` has \
                 renewed it: look at it and commit it"
            );
        }
    }
}
