//! A sweep file as JSON schema, made from the types and their comments: what `lions schema` prints,
//! what `docs/reference.md` is written from, and the paths that axes and messages know.

use crate::config::diagnose::{LONGEST_WORD, nearest};
use crate::config::removed::SETS;
use crate::config::shape::FileShape;
use crate::config::spec::TrialConfig;
use crate::config::usual::usual;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Stands in a path for a name that the user chooses, or for the number of a list's element.
const ANY: &str = "*";

/// The schema of a trial's configuration, complete.
pub(crate) fn trial_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<TrialConfig>);
    &SCHEMA
}

/// The schema of a sweep file with all that it extends.
pub(crate) fn file_schema() -> Value {
    schema_of::<FileShape>()
}

/// The schema of one file: any key may stand in another file, and any value may be a preset's.
/// Draft 7, every part in its place, for editors.
pub fn editor_schema() -> Value {
    let mut schema = file_schema();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, part) in properties {
            if name != "presets" {
                open(part);
            }
        }
    }
    for path in SETS {
        let path = path.replace('.', "/properties/");
        let sets = format!("/properties/base/properties/{path}/additionalProperties");
        if let Some(set) = schema.pointer_mut(&sets) {
            let left_out = json!({
                "const": false, "description": "The set that a file below gives is left out.",
            });
            *set = json!({ "anyOf": [set.take(), left_out] });
        }
    }
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
        root.insert("title".to_owned(), json!("lions sweep"));
        let draft = "http://json-schema.org/draft-07/schema#";
        root.insert("$schema".to_owned(), json!(draft));
    }
    schema
}

/// The part of the schema at a path such as `dpo.recipe.beta`.
///
/// # Errors
/// There is no such path: the valid one that was probably meant.
pub fn field_schema(path: &str) -> Result<Value, Option<String>> {
    let parts = parts_at(trial_schema(), path);
    parts.into_iter().next().ok_or_else(|| nearest_path(path))
}

/// The parts at a path: several where tables of several kinds have it.
fn parts_at(schema: &Value, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    walk(schema, &mut Vec::new(), &mut |at, part| {
        let same = |(known, given): (&String, &str)| known == ANY || known == given;
        let parts = path.split('.');
        if at.len() == parts.clone().count() && at.iter().zip(parts).all(same) {
            found.push(part.clone());
        }
    });
    found
}

/// What may stand at a path of a trial or of a sweep file, as a hint.
pub(crate) fn field_hint(path: &str) -> Option<String> {
    if let Some(hint) = usual(path) {
        return Some(hint.to_owned());
    }
    let mut parts = parts_at(trial_schema(), path);
    if parts.is_empty() {
        parts = parts_at(&file_schema(), path);
    }
    let part = parts.first()?;
    let key = path.rsplit('.').next().unwrap_or(path);
    let mut words = choice_names(part);
    let alone = parts.iter().filter_map(|part| part.get("const")?.as_str());
    words.extend(alone.map(str::to_owned));
    if !words.is_empty() {
        return Some(format!("valid are {}", quoted(&words)));
    }
    match part.get("type").and_then(Value::as_str)? {
        "boolean" => Some("write `true` or `false`".to_owned()),
        "string" => Some(format!("write `{key} = \"…\"`")),
        "object" => {
            let keys = keys(part);
            (!keys.is_empty()).then(|| format!("it is a table of {}", quoted(&keys)))
        }
        "array" => {
            let items = part.get("items")?;
            let (words, keys) = (choice_names(items), keys(items));
            Some(match (words.as_slice(), keys.as_slice()) {
                ([], []) => format!("write `{key} = […]`"),
                ([], keys) => format!("write `{key} = [{{ {} = … }}]`", keys.join(" = …, ")),
                (words, _) => format!("write a list of {}", quoted(words)),
            })
        }
        _ => None,
    }
}

/// Most names that a hint lists.
const LISTED: usize = 16;

fn quoted(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(|name| format!("`{name}`"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The keys that a table must have, or all of one that need not have any.
fn keys(table: &Value) -> Vec<String> {
    let needed = table.get("required").and_then(Value::as_array);
    let needed = needed.into_iter().flatten().filter_map(Value::as_str);
    let needed: Vec<String> = needed.map(str::to_owned).collect();
    if !needed.is_empty() {
        return needed;
    }
    let all = table.get("properties").and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

/// The words of a choice, then those that take a value, as they are written.
fn choice_names(schema: &Value) -> Vec<String> {
    let branches = choices(schema).into_iter().flatten();
    let mut names: Vec<String> = Vec::new();
    for branch in branches.clone() {
        let word = branch.get("const").into_iter();
        let all = branch.get("enum").and_then(Value::as_array);
        let words = word
            .chain(all.into_iter().flatten())
            .filter_map(Value::as_str);
        names.extend(words.map(str::to_owned));
    }
    for branch in branches {
        let keys = keys(branch);
        if let [key] = keys.as_slice()
            && !names.contains(key)
        {
            names.push(format!("{{ {key} = … }}"));
        }
    }
    names
}

/// All paths, tables and leaves; `*` for a chosen name or a list's element.
pub(super) fn paths() -> &'static BTreeSet<String> {
    static PATHS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let mut paths = BTreeSet::new();
        walk(trial_schema(), &mut Vec::new(), &mut |path, _| {
            paths.insert(path.join("."));
        });
        paths.remove("");
        paths
    });
    &PATHS
}

/// How many parts of a dotted path are known, all of them if it is valid.
pub(crate) fn known_prefix(path: &str) -> usize {
    let parts: Vec<&str> = path.split('.').collect();
    let agree = |known: &String| {
        let known = known.split('.').zip(&parts);
        known
            .take_while(|(known, part)| *known == ANY || known == *part)
            .count()
    };
    paths().iter().map(agree).max().unwrap_or_default()
}

/// The names that may follow these parts of a path.
pub(crate) fn names_below(prefix: &[&str]) -> Vec<&'static str> {
    let below = |path: &'static String| {
        let mut parts = path.split('.');
        let agrees = |want: &&str| {
            parts
                .next()
                .is_some_and(|part| part == ANY || part == *want)
        };
        prefix.iter().all(agrees).then(|| parts.next()).flatten()
    };
    let mut names: Vec<&str> = paths().iter().filter_map(below).collect();
    names.dedup();
    names
}

/// The valid path that ends in the same key as `wrong`, the nearest of several.
pub(crate) fn path_of_key(wrong: &str) -> Option<&'static str> {
    let tail = |path: &str| {
        path.rsplit('.')
            .next()
            .unwrap_or_default()
            .replace('_', "-")
    };
    let wrong_tail = tail(wrong);
    let same_tail = paths()
        .iter()
        .filter(|path| {
            tail(path) == wrong_tail && !path.contains(ANY) && wrong.len() <= LONGEST_WORD
        })
        // Of a parameter of several losses that of DPO's own, not of the first by name.
        .min_by_key(|path| {
            let distance = strsim::damerau_levenshtein(&without_loss(path), wrong);
            (distance, !path.contains(".loss.sigmoid."))
        });
    same_tail.map(String::as_str)
}

/// The valid path that is spelt like `wrong`.
pub(crate) fn path_alike(wrong: &str) -> Option<&'static str> {
    let valid = || paths().iter().map(String::as_str);
    (wrong.len() <= LONGEST_WORD)
        .then(|| nearest(wrong, valid()))
        .flatten()
}

/// The valid path that `wrong` was probably meant to be.
pub(crate) fn nearest_path(wrong: &str) -> Option<String> {
    path_of_key(wrong)
        .or_else(|| path_alike(wrong))
        .map(str::to_owned)
}

/// A path as it would be if parameters of losses stood beside them.
fn without_loss(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('.').collect();
    let loss = parts.iter().position(|part| *part == "loss");
    if let Some(at) = loss.filter(|at| at + 2 < parts.len()) {
        parts.remove(at + 1);
    }
    parts.join(".")
}

/// The alternatives of a schema: the branches of a one-of, or itself.
pub(crate) fn choices(schema: &Value) -> Option<&Vec<Value>> {
    let branches = schema.get("oneOf").or_else(|| schema.get("anyOf"));
    branches.and_then(Value::as_array)
}

/// Shows `visit` every part with its path, in the order of the types.
pub(crate) fn walk(
    schema: &Value,
    path: &mut Vec<String>,
    visit: &mut impl FnMut(&[String], &Value),
) {
    visit(path, schema);
    walk_inside(schema, path, visit);
}

fn walk_inside(schema: &Value, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], &Value)) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let named = properties.into_iter().flatten();
    let named = named.map(|(name, part)| (name.as_str(), part));
    let any = ["additionalProperties", "items"].map(|key| schema.get(key));
    let any = any.into_iter().flatten().filter(|part| part.is_object());
    for (name, part) in named.chain(any.map(|part| (ANY, part))) {
        path.push(name.to_owned());
        walk(part, path, visit);
        path.pop();
    }
    for branch in choices(schema).into_iter().flatten() {
        walk_inside(branch, path, visit);
    }
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema);
    schema
}

/// What TOML has not (null), what Rust has (formats, names of types), and choices that are a bare
/// word if all their parameters have defaults.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    for key in ["title", "format"] {
        object.remove(key);
    }
    object.retain(|key, value| key != "default" || !value.is_null());
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = plain(text);
    }
    if let Some(Value::Array(types)) = object.get("type") {
        let own: Vec<&Value> = types.iter().filter(|kind| *kind != "null").collect();
        if let [only] = own.as_slice() {
            let only = (*only).clone();
            object.insert("type".to_owned(), only);
        }
    }
    unwrap_option(object);
    for key in ["properties", "additionalProperties", "items"] {
        match object.get_mut(key) {
            Some(Value::Object(parts)) if key == "properties" => {
                parts.values_mut().for_each(tidy);
            }
            Some(part) => tidy(part),
            None => {}
        }
    }
    for key in ["oneOf", "anyOf"] {
        let Some(Value::Array(branches)) = object.get_mut(key) else {
            continue;
        };
        branches.iter_mut().for_each(tidy);
        let words: Vec<Value> = branches.iter().filter_map(as_word).collect();
        branches.extend(words);
    }
    if object.contains_key("properties") {
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

/// A comment on one line, without the brackets of links.
fn plain(comment: &str) -> String {
    let line = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace("[`", "`").replace("`]", "`")
}

/// `anyOf: [X, null]` is X.
fn unwrap_option(object: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = object.get_mut("anyOf") else {
        return;
    };
    branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = branches.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// The word alone for a choice `{ word = { … } }` that needs no parameter.
fn as_word(branch: &Value) -> Option<Value> {
    let properties = branch.get("properties")?.as_object()?;
    let (name, parameters) = properties.iter().next()?;
    let alone = properties.len() == 1 && branch.get("required").is_some();
    let free = parameters.get("properties").is_some() && parameters.get("required").is_none();
    let text = branch.get("description").cloned().unwrap_or_default();
    (alone && free).then(|| json!({ "const": name, "description": text }))
}

/// A value of one file of several: no key of a table is needed, and a preset may stand for it.
fn open(schema: &mut Value) {
    let preset = json!({
        "type": "object",
        "description": "A value of the `[presets]` of this file or one that it extends.",
        "properties": { "preset": { "type": "string" } },
        "required": ["preset"],
        "additionalProperties": false,
    });
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    for key in ["additionalProperties", "items"] {
        object.get_mut(key).into_iter().for_each(open);
    }
    if let Some(Value::Array(branches)) = object.get_mut("oneOf") {
        branches.iter_mut().for_each(open_choice);
        branches.push(preset);
        return;
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(open);
    }
    let is_table = object.get("type").is_some_and(|kind| kind == "object");
    if is_table {
        object.remove("required");
        let properties = object.entry("properties").or_insert_with(|| json!({}));
        properties["preset"] = preset["properties"]["preset"].clone();
    } else if object.contains_key("type") {
        let description = object.get("description").cloned();
        let own = std::mem::take(object);
        object.extend(description.map(|text| ("description".to_owned(), text)));
        object.insert("anyOf".to_owned(), json!([own, preset]));
    }
}

/// One branch of a choice: the word that chooses it stays needed.
fn open_choice(branch: &mut Value) {
    if let Some(Value::Object(properties)) = branch.get_mut("properties") {
        for part in properties.values_mut() {
            if part.get("const").is_none() {
                open(part);
            }
        }
    }
    let chooser = branch.get("properties").and_then(Value::as_object);
    let tagged = chooser.is_some_and(|all| all.values().any(|part| part.get("const").is_some()));
    if tagged {
        branch["required"] = json!(["kind"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_types_is_known_even_of_absent_options() {
        let known = |path: &str| paths().contains(path);
        for path in [
            "pipeline",
            "model.chat-template",
            "sft.recipe.batch.rows",
            "sft.recipe.monitor.every-steps",
            "dpo.recipe.limits.max-prompt-len",
            "dpo.runtime.micro-batch-tokens",
            "sft.runtime.recompute-layers",
            "eval.recipe.stories.*.sampling.top-p",
            "sft.recipe.data.*.fraction",
        ] {
            assert!(known(path), "`{path}` is not among {:?}", paths());
        }
        assert!(!known("dpo.beta"));
    }

    #[test]
    fn the_fields_of_every_choice_are_known() {
        for path in [
            "online-dpo.recipe.judge.pairrm.model-path",
            "online-dpo.recipe.judge.openai.temperature",
            "dpo.recipe.loss.simpo.gamma",
            "select.recipe.method.less.dimension",
        ] {
            assert!(
                paths().contains(path),
                "`{path}` is not among {:?}",
                paths()
            );
        }
    }

    #[test]
    fn a_hint_says_what_may_stand_at_a_path() {
        for (path, hint) in [
            (
                "sft.recipe.batching",
                "valid are `padded`, `concat`, `best-fit`",
            ),
            (
                "sft.recipe.duration",
                "valid are `{ epochs = … }`, `{ steps = … }`",
            ),
            ("sft.recipe.data", "write `data = [{ path = … }]`"),
            ("sft.recipe.data.0", "it is a table of `path`"),
            ("pipeline", "write a list of `sft`, `dpo`, `online-dpo`"),
            (
                "dpo.recipe.limits",
                "it is a table of `max-seq-len`, `max-prompt-len`, `truncation`",
            ),
            ("dpo.recipe.loss.simpo", "it is a table of `gamma`"),
            ("dpo.recipe.beta", "usual are 0.01 to 0.5"),
            (
                "dpo.recipe.lora.targets.1",
                "valid are `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj` and `down_proj`",
            ),
            ("model.path", "write `path = \"…\"`"),
            ("report.table.0.title", "write `title = \"…\"`"),
            (
                "report.figure.0.kind",
                "valid are `bars`, `lines`, `training`, `scaling`, `differences`, `layout`",
            ),
        ] {
            assert_eq!(field_hint(path).as_deref(), Some(hint), "{path}");
        }
        assert_eq!(field_hint("dpo.nothing"), None);
    }

    #[test]
    fn a_path_that_lacks_a_part_is_completed() {
        assert_eq!(nearest_path("dpo.beta").as_deref(), Some("dpo.recipe.beta"));
        assert_eq!(
            nearest_path("sft.recipe.learning-rate").as_deref(),
            Some("sft.recipe.optimizer.learning-rate")
        );
        assert_eq!(
            nearest_path("dpo.recipe.betta").as_deref(),
            Some("dpo.recipe.beta")
        );
    }
}
