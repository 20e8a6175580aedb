//! Reads `[[report.figure]]` from the tree of a file, each mistake at its place.

use crate::config::diagnose::{Diagnostic, suggest};
use crate::config::figure_spec::{FigureHead, FigureKind, FigureSpec};
use crate::config::struct_keys::keys_of;
use crate::config::tree::{Key, Node};
use crate::config::typed;
use strum::VariantArray as _;

/// Reads the figure at `path`; a key that no kind of figure takes is a mistake, one that another
/// kind takes is told by [`misplaced_keys`].
pub(crate) fn read_figure(node: &Node, path: &str) -> Result<FigureSpec, Vec<Diagnostic>> {
    let read = typed::read_by(node, path, |_| None, FigureSpec::read);
    let mut problems = unknown_keys(node, path);
    match read {
        Ok(spec) if problems.is_empty() => Ok(spec),
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.push(*problem);
            Err(problems)
        }
    }
}

/// The keys of every figure.
fn common_keys() -> Vec<&'static str> {
    [&["kind"], keys_of::<FigureHead>()].concat()
}

/// The kind that a figure names, if it is one.
fn kind_of(node: &Node) -> Option<FigureKind> {
    let word = node.get("kind")?.text()?;
    FigureKind::VARIANTS
        .iter()
        .copied()
        .find(|k| k.word() == word)
}

/// The kinds that take a key.
fn kinds_with(name: &str) -> Vec<FigureKind> {
    let mut kinds = FigureKind::VARIANTS.to_vec();
    kinds.retain(|k| k.keys().contains(&name));
    kinds
}

fn unknown_keys(node: &Node, path: &str) -> Vec<Diagnostic> {
    // Without a kind any kind may be meant.
    let kinds = kind_of(node).map_or(FigureKind::VARIANTS.to_vec(), |kind| vec![kind]);
    let mut valid = common_keys();
    valid.extend(kinds.into_iter().flat_map(FigureKind::keys));
    let unknown =
        |(key, _): &&(Key, Node)| !valid.contains(&&*key.name) && kinds_with(&key.name).is_empty();
    let problem = |(key, _): &(Key, Node)| {
        let message = format!("unknown key `{}` in `{path}`", key.name);
        let found = Diagnostic::new(key.place, message);
        match suggest(&key.name, valid.iter().copied()) {
            Some(help) => found.help(help),
            None => found,
        }
    };
    let entries = node.table().unwrap_or_default();
    entries.iter().filter(unknown).map(problem).collect()
}

/// Keys that mean nothing to the figure's kind, each with the kinds that they go with.
pub(crate) fn misplaced_keys(node: &Node) -> Vec<Diagnostic> {
    let Some(kind) = kind_of(node) else {
        return Vec::new();
    };
    let mut valid = common_keys();
    valid.extend(kind.keys());
    let entries = node.table().unwrap_or_default().iter();
    let others = entries.filter(|(key, _)| !valid.contains(&&*key.name));
    let problem = |(key, value): &(Key, Node)| {
        let (message, help) = match (&*key.name, kind) {
            ("x", FigureKind::Training) => (
                "a training figure has the step on x".to_owned(),
                "remove `x`".to_owned(),
            ),
            ("x", FigureKind::Scaling) => (
                "a scaling figure has a metric on x".to_owned(),
                "use `x-metric`".to_owned(),
            ),
            (name, kind) => {
                let takers = kinds_with(name).into_iter();
                let takers: Vec<String> = takers.map(|k| format!("`{}`", k.word())).collect();
                let kind = kind.word();
                (
                    format!("`{name}` means nothing to a figure of kind `{kind}`"),
                    format!("it goes with {}", takers.join(", ")),
                )
            }
        };
        Diagnostic::new(value.place, message).help(help)
    };
    others.map(problem).collect()
}
