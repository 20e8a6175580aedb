//! The schema for editors against the shipped sweeps.

use crate::config::schema::editor_schema;
use crate::config::tree::Node;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a validator of draft 7 says of `value`, for the words that the schema uses.
fn faults(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |ok: bool, what: &str| {
        if !ok {
            found.push(format!("{at}: {what}"));
        }
    };
    if let Some(word) = schema.get("const") {
        must(word == value, "another word");
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        must(words.contains(value), "no such word");
    }
    let fits = match schema.get("type").and_then(Value::as_str) {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("the type `{other}` at {at}"),
        None => true,
    };
    must(fits, "another type");
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64).zip(value.as_f64());
    must(
        bound("minimum").is_none_or(|(low, x)| x >= low),
        "too small",
    );
    must(
        bound("exclusiveMinimum").is_none_or(|(low, x)| x > low),
        "too small",
    );
    must(
        bound("maximum").is_none_or(|(high, x)| x <= high),
        "too large",
    );
    must(
        bound("exclusiveMaximum").is_none_or(|(high, x)| x < high),
        "too large",
    );
    for (key, one) in [("oneOf", true), ("anyOf", false)] {
        let Some(branches) = schema.get(key).and_then(Value::as_array) else {
            continue;
        };
        let tried: Vec<_> = branches.iter().map(|b| faults(b, value, at)).collect();
        let fitting = tried.iter().filter(|faults| faults.is_empty()).count();
        if fitting == 0 {
            // The branch that was meant fails deepest, and for another reason than its type.
            let meant = |faults: &&Vec<String>| {
                let depth = faults.iter().map(|f| f.matches('.').count()).max();
                (depth, !faults.iter().any(|f| f.ends_with("another type")))
            };
            found.extend(tried.iter().max_by_key(meant).unwrap().iter().cloned());
        } else if one && fitting > 1 {
            found.push(format!("{at}: several choices fit"));
        }
    }
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{at}: lacks {name}"));
        }
    }
    for (name, part) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        let own = schema.get("properties").and_then(|own| own.get(name));
        match (own, schema.get("additionalProperties")) {
            (Some(own), _) => found.extend(faults(own, part, &at)),
            (None, Some(Value::Bool(false))) => found.push(format!("{at}: no such key")),
            (None, Some(any)) => found.extend(faults(any, part, &at)),
            (None, None) => {}
        }
    }
    if let Some(items) = schema.get("items") {
        for (index, part) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(faults(items, part, &format!("{at}.{index}")));
        }
    }
    found
}

fn of_text(text: &str) -> Vec<String> {
    faults(
        &editor_schema(),
        &Node::parse(text, 0).unwrap().to_json(),
        "",
    )
}

fn shipped() -> Vec<PathBuf> {
    let sweeps = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps");
    let files = [sweeps.clone(), sweeps.join("base")];
    let files = files
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect()
}

#[test]
fn an_editor_finds_nothing_wrong_in_the_shipped_sweeps() {
    let files = shipped();
    assert!(files.len() > 10);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(of_text(&text), [""; 0], "{}", path.display());
    }
}

#[test]
fn an_editor_knows_both_names_of_a_schedule() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/base/mini.toml");
    let mini = std::fs::read_to_string(mini).unwrap();
    for (decay, known) in [("warmup-stable-decay", true), ("wsd", true), ("wds", false)] {
        let to = format!("decay = \"{decay}\"");
        let text = mini.replace("decay = \"linear\"", &to);
        assert!(text.contains(&to));
        assert_eq!(of_text(&text).is_empty(), known, "{decay}");
    }
}

#[test]
fn an_editor_knows_how_a_set_is_left_out() {
    let with = |value: &str| {
        let sets = format!("[base.eval.recipe.likelihood]\ntales = {value}\n");
        of_text(&sets)
    };
    assert_eq!(with("false"), [""; 0]);
    assert!(!with("true").is_empty() && !with("1").is_empty());
}

#[test]
fn an_editor_points_at_a_wrong_key_word_or_number() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/base/mini.toml");
    let mini = std::fs::read_to_string(mini).unwrap();
    for (from, to, fault) in [
        (
            "\nbeta = 0.1",
            "\nbetta = 0.1",
            ".base.dpo.recipe.betta: no such key",
        ),
        (
            "\nbeta = 0.1",
            "\nbeta = 0",
            ".base.dpo.recipe.beta: too small",
        ),
        (
            "loss = \"sigmoid\"",
            "loss = \"sigmoit\"",
            ".base.dpo.recipe.loss: another word",
        ),
        (
            "loss = \"sigmoid\"",
            "loss = { simpo = { gama = 1 } }",
            ".base.dpo.recipe.loss.simpo.gama: no such key",
        ),
        ("[base.model]", "[base.modell]", ".base.modell: no such key"),
    ] {
        assert!(mini.contains(from), "{from}");
        let found = of_text(&mini.replacen(from, to, 1));
        assert!(found.iter().any(|f| f == fault), "{to}: {found:?}");
    }
}
