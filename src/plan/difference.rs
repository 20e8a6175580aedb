//! Why a run is new: what sets it apart from the nearest known run.

use crate::plan::stage::RunId;
use serde_json::Value;
use std::collections::BTreeMap;

/// A field of an identity document that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Dotted path, for example `recipe.beta`.
    pub field: String,
    /// The value in the known run; absent if the field is new.
    pub old: Option<String>,
    /// The value in the new run; absent if the field is gone.
    pub new: Option<String>,
}

/// The known run of the same stage with the fewest differing fields, and those fields; of equally
/// near ones the first in `known`. No fields: the run itself is known.
pub fn nearest_difference(
    new_identity: &str,
    known: &[(RunId, String)],
) -> Option<(RunId, Vec<FieldChange>)> {
    let new = leaves(new_identity)?;
    let mut best: Option<(RunId, Vec<FieldChange>)> = None;
    for (run, identity) in known {
        let Some(old) = leaves(identity) else {
            continue;
        };
        if old.get("stage") != new.get("stage") {
            continue;
        }
        let changes = changes(&old, &new);
        if best
            .as_ref()
            .is_none_or(|(_, least)| changes.len() < least.len())
        {
            best = Some((run.clone(), changes));
        }
    }
    best
}

/// The fields in which two identity documents differ, but for the runs that they name: what those are made of differs,
/// or it is the same. `None` if one is no identity document.
pub fn recipe_difference(old: &str, new: &str) -> Option<Vec<FieldChange>> {
    let mut changes = changes(&leaves(old)?, &leaves(new)?);
    let names_run =
        |field: &str| field.starts_with("inputs.") && field.rsplit('.').next() == Some("run");
    changes.retain(|change| !names_run(&change.field));
    Some(changes)
}

fn leaves(identity: &str) -> Option<BTreeMap<String, String>> {
    let value: Value = serde_json::from_str(identity).ok()?;
    let mut found = BTreeMap::new();
    collect(&value, String::new(), &mut found);
    Some(found)
}

fn collect(value: &Value, path: String, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields
                .iter()
                .for_each(|(name, value)| collect(value, below(name), found));
        }
        Value::Array(items) if !items.is_empty() => {
            let indexed = items.iter().enumerate();
            indexed.for_each(|(index, value)| collect(value, below(&index.to_string()), found));
        }
        Value::String(text) => {
            found.insert(path, text.clone());
        }
        other => {
            found.insert(path, other.to_string());
        }
    }
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<FieldChange> {
    let mut fields: Vec<&String> = old.keys().chain(new.keys()).collect();
    fields.sort();
    fields.dedup();
    let differing = fields
        .into_iter()
        .filter(|field| old.get(*field) != new.get(*field));
    let change = |field: &String| FieldChange {
        field: field.clone(),
        old: old.get(field).cloned(),
        new: new.get(field).cloned(),
    };
    differing.map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_run_of_the_same_stage_is_told_with_its_fields() {
        let known = [
            (
                RunId("a".repeat(64)),
                r#"{"stage":"dpo","recipe":{"beta":0.5,"loss":"sigmoid"},"seed":2}"#.to_owned(),
            ),
            (
                RunId("b".repeat(64)),
                r#"{"stage":"dpo","recipe":{"beta":0.5,"loss":"sigmoid"},"seed":1}"#.to_owned(),
            ),
            (
                RunId("c".repeat(64)),
                r#"{"stage":"sft","recipe":{"beta":0.1,"loss":"sigmoid"},"seed":1}"#.to_owned(),
            ),
        ];
        let new = r#"{"stage":"dpo","recipe":{"beta":0.1,"loss":"sigmoid"},"seed":1}"#;
        let (run, changes) = nearest_difference(new, &known).unwrap();
        assert_eq!(run, known[1].0);
        let change = |field: &str, old: &str, new: &str| FieldChange {
            field: field.to_owned(),
            old: Some(old.to_owned()),
            new: Some(new.to_owned()),
        };
        assert_eq!(changes, [change("recipe.beta", "0.5", "0.1")]);
        assert_eq!(nearest_difference(&known[0].1, &known).unwrap().1, []);
        assert_eq!(nearest_difference(new, &known[2..]), None);
    }
}
