//! `NAME = false`: an evaluation set that a file below gives is left out.

use crate::config::diagnose::{Diagnostic, suggest};
use crate::config::tree::{Key, Kind, Node};

/// The tables of named evaluation sets, below `[base]`.
pub(crate) const SETS: [&str; 5] = [
    "eval.recipe.likelihood",
    "eval.recipe.preference",
    "eval.recipe.stories",
    "eval.recipe.judged",
    "eval.recipe.tasks",
];

fn is_removed(value: &Node) -> bool {
    matches!(value.kind, Kind::Bool(false))
}

/// Takes the sets that are `false` out of a base with all that was laid on it.
pub(crate) fn take_out_removed(base: &mut Node) {
    for path in SETS {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if let Some(Kind::Table(sets)) = base.at_mut(&path).map(|sets| &mut sets.kind) {
            sets.retain(|(_, value)| !is_removed(value));
        }
    }
}

/// The sets that the file `own` removes and no file `below` it gives.
pub(crate) fn unknown_removals(own: &Node, below: Option<&Node>) -> Vec<Diagnostic> {
    let mut unknown = Vec::new();
    for path in SETS {
        let path = format!("base.{path}");
        let sets = own.at(&path).and_then(Node::table).unwrap_or_default();
        for (key, _) in sets.iter().filter(|(_, value)| is_removed(value)) {
            let given = below.and_then(|below| below.at(&path));
            unknown.extend(not_given(key, given));
        }
    }
    unknown
}

/// That a value set at a `path` of the `base` removes a set that is not there.
pub(crate) fn unknown_removal(path: &[Key], value: &Node, base: &Node) -> Option<Diagnostic> {
    let (last, table) = path.split_last()?;
    let table: Vec<&str> = table.iter().map(|key| &*key.name).collect();
    let table = table.join(".");
    if !is_removed(value) || !SETS.contains(&table.as_str()) {
        return None;
    }
    not_given(last, base.at(&table))
}

fn not_given(key: &Key, given: Option<&Node>) -> Option<Diagnostic> {
    let names = given.and_then(Node::table).unwrap_or_default();
    if names.iter().any(|(known, _)| known.name == key.name) {
        return None;
    }
    let message = format!("there is no set `{}` to leave out", key.name);
    let mut found = Diagnostic::new(key.place, message);
    let help = suggest(&key.name, names.iter().map(|(known, _)| &*known.name));
    found.help = help.or_else(|| Some("no file below gives a set of this kind".to_owned()));
    Some(found)
}
