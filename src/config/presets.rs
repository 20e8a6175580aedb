//! `{ preset = "NAME" }`: a value that the base file gives, so that a study need not know it.

use crate::config::diagnose::{Diagnostic, Place, Problems, suggest};
use crate::config::tree::{Kind, Node};

/// The table of the values, at the root of a file.
pub(crate) const PRESETS: &str = "presets";

/// Puts the value of each preset where the file `own` names it, everywhere but in `[presets]` itself,
/// as if it were written there: its keys get the file's `layer`. The presets are those of the files
/// `below` it and its own.
pub(crate) fn fill_presets(
    own: &mut Node,
    below: Option<&Node>,
    layer: u32,
    problems: &mut Problems,
) {
    let mine = own.get(PRESETS).cloned();
    let mut presets = below.and_then(|below| below.get(PRESETS)).cloned();
    if let Some(mine) = &mine {
        refuse_chains(mine, problems);
        match &mut presets {
            Some(presets) => presets.merge(mine, None),
            None => presets = Some(mine.clone()),
        }
    }
    if let Kind::Table(entries) = &mut own.kind {
        for (key, node) in entries {
            if &*key.name != PRESETS {
                fill(node, presets.as_ref(), layer, problems);
            }
        }
    }
}

fn fill(node: &mut Node, presets: Option<&Node>, layer: u32, problems: &mut Problems) {
    if let Some((name, place)) = node.preset() {
        match look_up(name, place, presets) {
            Ok(value) => {
                *node = value.clone();
                node.set_layers(layer);
            }
            Err(problem) => _ = problems.insert(*problem),
        }
        return;
    }
    match &mut node.kind {
        Kind::List(items) => items
            .iter_mut()
            .for_each(|item| fill(item, presets, layer, problems)),
        Kind::Table(entries) => entries
            .iter_mut()
            .for_each(|(_, value)| fill(value, presets, layer, problems)),
        _ => {}
    }
}

/// A preset that names a preset would need an order among them.
fn refuse_chains(presets: &Node, problems: &mut Problems) {
    if let Some((name, place)) = presets.preset() {
        let message = format!("a preset cannot name another one, `{name}`");
        problems.insert(Diagnostic::new(place, message).help("write the value itself here"));
        return;
    }
    match &presets.kind {
        Kind::List(items) => items.iter().for_each(|item| refuse_chains(item, problems)),
        Kind::Table(entries) => entries
            .iter()
            .for_each(|(_, value)| refuse_chains(value, problems)),
        _ => {}
    }
}

/// The value at a dotted path below `[presets]`; a number picks from a list.
fn look_up<'n>(
    name: &str,
    place: Place,
    presets: Option<&'n Node>,
) -> Result<&'n Node, Box<Diagnostic>> {
    let unknown = || Diagnostic::new(place, format!("there is no preset `{name}`"));
    let Some(presets) = presets else {
        return Err(Box::new(
            unknown().help("no file of this sweep has a `[presets]` table"),
        ));
    };
    let mut node = presets;
    for part in name.split('.') {
        if let Some(next) = node.at(part) {
            node = next;
            continue;
        }
        let mut found = unknown();
        found.help = match &node.kind {
            Kind::Table(entries) => suggest(part, entries.iter().map(|(key, _)| &*key.name)),
            Kind::List(items) => Some(format!(
                "elements are 0 to {}",
                items.len().saturating_sub(1)
            )),
            _ => Some(format!("{} has no parts", node.kind_name())),
        };
        return Err(Box::new(found));
    }
    Ok(node)
}
