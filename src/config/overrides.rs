//! What the command line changes in a sweep file: another base, values of the base, or the text itself.

use crate::base::digest_bytes;
use crate::config::base_file::name_on_base;
use crate::config::diagnose::{Diagnostic, Place, Problems, SourceFile, Sources};
use crate::config::file::{Reader, is_plain};
use crate::config::presets::fill_presets;
use crate::config::removed::unknown_removal;
use crate::config::tree::{Key, Kind, Node};
use std::path::PathBuf;
use std::sync::Arc;

/// What the command line changes in a sweep file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Stands in the place of the file in `base/` that the sweep extends. It is relative to the working folder
    /// or, if there is none, to the sweep file's.
    pub base: Option<PathBuf>,
    /// `path=value`: values of `[base]` as if the file gave them.
    pub sets: Vec<String>,
    /// What the sweep file holds, instead of what is read from it.
    pub text: Option<String>,
}

impl Overrides {
    /// Another base and nothing else.
    pub fn on(base: Option<PathBuf>) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// The name of a sweep with these changes, so that results of two never mix:
    /// `study@gemma-2b+dpo.recipe.beta=0.1`.
    pub fn name(&self, sweep: &str) -> String {
        let mut name = match &self.base {
            Some(base) => name_on_base(sweep, base),
            None => sweep.to_owned(),
        };
        let mut parts: Vec<String> = self.sets.iter().map(|set| set_name(set)).collect();
        parts.sort();
        let told: String = parts
            .iter()
            .map(|part| format!("{SET_MARK}{part}"))
            .collect();
        if name.len() + told.len() <= LONGEST {
            name += &told;
        } else {
            let digest = digest_bytes(told.as_bytes());
            name += &format!("{SET_MARK}{}", digest.short());
        }
        name
    }
}

/// Stands between a sweep's own name and each value that the command line sets.
pub(crate) const SET_MARK: char = '+';

/// File names are made of a sweep's, with endings, and file systems take 255 bytes.
const LONGEST: usize = 160;
/// Longer values are named by their digest.
const LONGEST_VALUE: usize = 24;

/// `dpo.recipe.beta=0.1`, without characters that are none of a file's name.
fn set_name(set: &str) -> String {
    let (path, value) = set.split_once('=').unwrap_or((set, ""));
    let value = value.trim().trim_matches(['"', '\'']);
    let path = path
        .trim()
        .replace(|c: char| !is_plain(&c.to_string(), "-_."), "-");
    if is_plain(value, "-_.") && value.len() <= LONGEST_VALUE {
        format!("{path}={value}")
    } else {
        let digest = digest_bytes(value.as_bytes());
        format!("{path}={}", digest.short())
    }
}

/// What stands for the name of a file that was not read but made of the words of a command line.
pub(crate) const TEXT_SOURCE: &str = "--axis";

/// What stands for the name of a file where something is wrong with a value of the command line.
pub(crate) const SET_SOURCE: &str = "--set";

/// A path and a value of the command line, read.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) path: Vec<Key>,
    pub(crate) place: Place,
}

/// Lays values on the base of `tree`, each above all files; gives those that could be read.
pub(crate) fn lay_sets(
    sets: &[String],
    tree: &mut Node,
    first_layer: u32,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Vec<Setting> {
    let mut laid = Vec::new();
    for (layer, set) in (first_layer..).zip(sets) {
        let Ok(file) = u32::try_from(sources.0.len()) else {
            break;
        };
        sources.0.push(SourceFile {
            name: SET_SOURCE.to_owned(),
            text: Arc::from(set.as_str()),
        });
        let Some((path, value)) = read_set(set, file, tree, sources, problems) else {
            continue;
        };
        let place = path.first().map_or(value.place, |key| key.place);
        let Some(base) = tree.at_mut(&["base".to_owned()]) else {
            continue; // that there is none is told of the file
        };
        problems.extend(unknown_removal(&path, &value, base));
        match base.set(&path, &value, layer) {
            Ok(()) => laid.push(Setting { path, place }),
            Err(problem) => _ = problems.insert(*problem),
        }
    }
    laid
}

/// Splits and reads `path=value`.
fn read_set(
    set: &str,
    file: u32,
    tree: &Node,
    sources: &Sources,
    problems: &mut Problems,
) -> Option<(Vec<Key>, Node)> {
    let whole = Place {
        file,
        start: 0,
        end: set.len(),
    };
    let Some((path, _)) = set
        .split_once('=')
        .filter(|(path, _)| !path.trim().is_empty())
    else {
        let message = "expected a path and a value with `=` between them";
        problems.insert(
            Diagnostic::new(whole, message).help("for example `--set dpo.recipe.beta=0.1`"),
        );
        return None;
    };
    let place = Place {
        end: path.len(),
        ..whole
    };
    let mut reader = Reader { sources, problems };
    let keys = reader.path(path.trim(), place, 0)?;
    let value = match read_value(set, path.len(), file) {
        Ok(value) => value,
        Err(problem) => {
            problems.insert(*problem);
            return None;
        }
    };
    // `{ preset = "NAME" }` means here what it means in the file.
    let key = Key {
        name: Arc::from("value"),
        place,
        layer: 0,
    };
    let mut own = Node::empty(whole);
    own.kind = Kind::Table(vec![(key, value)]);
    fill_presets(&mut own, Some(tree), 0, problems);
    let value = own.get("value")?.clone();
    Some((keys, value))
}

/// The TOML value behind the `=` at byte `at`; a plain word is the string that it would be in quotes.
fn read_value(set: &str, at: usize, file: u32) -> Result<Node, Box<Diagnostic>> {
    let text = &set[at + 1..];
    let bare = text.trim();
    let place = Place {
        file,
        start: at + 1 + (text.len() - text.trim_start().len()),
        end: at + 1 + text.trim_end().len(),
    };
    if bare.is_empty() {
        let found = Diagnostic::new(place, "there is no value behind the `=`");
        return Err(Box::new(
            found.help("write a number, a word, a list or a table"),
        ));
    }
    // As long as the path, so that places in it are places in the word as it was typed.
    let line = format!("v{}={text}", " ".repeat(at - 1));
    match Node::parse(&line, file) {
        Ok(tree) => {
            let Some([(_, value)]) = tree.table() else {
                let found = Diagnostic::new(place, "expected one value");
                return Err(Box::new(found.help("give each value a `--set` of its own")));
            };
            Ok(value.clone())
        }
        Err(_) if !bare.starts_with(['[', '{', '"', '\'']) && !bare.contains(['\n', '=']) => {
            Ok(Node {
                place,
                kind: Kind::Str(Arc::from(bare)),
            })
        }
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_values_in_one_order_and_long_ones_by_digest() {
        let name = |sets: &[&str]| {
            let sets = sets.iter().map(|&set| set.to_owned()).collect();
            let changes = Overrides {
                base: Some(PathBuf::from("base/mini.toml")),
                sets,
                text: None,
            };
            changes.name("study")
        };
        assert_eq!(name(&[]), "study@mini");
        let two = "study@mini+dpo.recipe.beta=0.1+sft.recipe.batching=padded";
        assert_eq!(
            name(&["sft.recipe.batching=\"padded\"", "dpo.recipe.beta=0.1"]),
            two
        );
        assert_eq!(
            name(&["dpo.recipe.beta=0.1", "sft.recipe.batching=padded"]),
            two
        );
        let data = name(&["dpo.recipe.data=[{ path = \"data/pref/polite_train.jsonl\" }]"]);
        assert!(is_plain(&data, "-_.@+="), "{data}");
        assert_ne!(
            data,
            name(&["dpo.recipe.data=[{ path = \"data/pref/other.jsonl\" }]"])
        );
        let many: Vec<String> = (0..20)
            .map(|at| format!("dpo.recipe.field-{at}=1"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(name(&many).len() <= LONGEST);
    }
}
