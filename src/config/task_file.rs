//! Task files: what a table of `eval.recipe.tasks` names is laid below it.

use crate::config::diagnose::{Diagnostic, Problems, SourceFile, Sources, nearest};
use crate::config::spec::TaskRecipe;
use crate::config::text::{parse_named, read_text};
use crate::config::tree::{Kind, Node};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The shipped tasks by name.
const SHIPPED: [(&str, &str); 7] = [
    (
        "arc_challenge",
        include_str!("../../data/tasks/arc_challenge.toml"),
    ),
    ("gsm8k", include_str!("../../data/tasks/gsm8k.toml")),
    ("hellaswag", include_str!("../../data/tasks/hellaswag.toml")),
    ("ifeval", include_str!("../../data/tasks/ifeval.toml")),
    ("mmlu", include_str!("../../data/tasks/mmlu.toml")),
    (
        "truthfulqa_mc2",
        include_str!("../../data/tasks/truthfulqa_mc2.toml"),
    ),
    (
        "winogrande",
        include_str!("../../data/tasks/winogrande.toml"),
    ),
];

/// The names of the shipped tasks.
pub fn shipped_tasks() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The text of a shipped task, or of a task file below `root`, or why there is none.
fn task_text(root: &Path, name: &str) -> Result<String, String> {
    if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        return Ok((*text).to_owned());
    }
    let file = root.join(name);
    match read_text(&file) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err("it is not UTF-8".to_owned()),
        Err(reason) => Err(reason),
    }
}

/// What to write instead of a name that is none.
fn task_help(name: &str) -> String {
    nearest(name, shipped_tasks()).map_or_else(
        || {
            let names: Vec<String> = shipped_tasks().map(|name| format!("`{name}`")).collect();
            format!(
                "a task is a file, relative to the project root, or one of {}",
                names.join(", ")
            )
        },
        |near| format!("did you mean `{near}`?"),
    )
}

/// Reads a shipped task, or a task file below `root`.
///
/// # Errors
/// There is none, or what is wrong with it.
pub fn load_task(root: &Path, name: &str) -> Result<TaskRecipe, String> {
    let text = task_text(root, name);
    let text =
        text.map_err(|why| format!("cannot read the task `{name}`: {why}; {}", task_help(name)))?;
    parse_named(&text, name).map_err(|e| e.to_string())
}

/// Where tasks stand in a trial's tree.
const TASKS: &str = "eval.recipe.tasks";

/// The trees of task files that were read, by name; none for one that cannot be.
#[derive(Debug, Default)]
pub(crate) struct TaskFiles(BTreeMap<String, Option<Node>>);

impl TaskFiles {
    /// Reads the files that the tasks of a trial's tree name and that were not read before.
    pub(crate) fn read(
        &mut self,
        tree: &Node,
        root: &Path,
        sources: &mut Sources,
        problems: &mut Problems,
    ) {
        for (_, task) in tree.at(TASKS).and_then(Node::table).unwrap_or_default() {
            // Another form than a text is refused when the tree is typed.
            let named = task.get("file");
            let Some((name, place)) = named.and_then(|node| Some((node.text()?, node.place)))
            else {
                continue;
            };
            if self.0.contains_key(name) {
                continue;
            }
            let read = match task_text(root, name) {
                Ok(text) => read_tree(name, &text, sources, problems),
                Err(reason) => {
                    let message = format!("cannot read the task `{name}`: {reason}");
                    problems.insert(Diagnostic::new(place, message).help(task_help(name)));
                    None
                }
            };
            self.0.insert(name.to_owned(), read);
        }
    }

    /// Lays every task of a trial's tree over the file that it names.
    pub(crate) fn lay_below(&self, tree: &mut Node) {
        let path: Vec<String> = TASKS.split('.').map(str::to_owned).collect();
        let Some(Kind::Table(tasks)) = tree.at_mut(&path).map(|node| &mut node.kind) else {
            return;
        };
        for (_, task) in tasks {
            let name = task.get("file").and_then(Node::text);
            match name.and_then(|name| self.0.get(name)) {
                Some(Some(below)) => {
                    let mut merged = below.clone();
                    merged.place = task.place;
                    task.remove("file");
                    merged.merge(task, None);
                    *task = merged;
                }
                // That it cannot be read is told: what it lacks is not told again.
                Some(None) => {
                    for key in ["data", "prompt", "request", "score"] {
                        if task.get(key).is_none() {
                            task.put_hole(key);
                        }
                    }
                }
                None => {}
            }
        }
    }
}

/// The tree of a task file, in the lowest layer.
fn read_tree(
    name: &str,
    text: &str,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Node> {
    let number = u32::try_from(sources.0.len()).ok()?;
    let text: Arc<str> = Arc::from(text);
    sources.0.push(SourceFile {
        name: name.to_owned(),
        text: Arc::clone(&text),
    });
    match Node::parse(&text, number) {
        Ok(mut tree) => {
            tree.set_layers(0);
            Some(tree)
        }
        Err(problem) => {
            problems.insert(*problem);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_task_can_be_read() {
        for name in shipped_tasks() {
            let task = load_task(Path::new(""), name).unwrap();
            let harness = task.harness.unwrap();
            assert_eq!(
                (harness.name.as_str(), harness.version.is_some()),
                (name, true)
            );
        }
        let error = load_task(Path::new(""), "gsm8").unwrap_err();
        assert!(error.contains("`gsm8k`"), "{error}");
    }

    #[test]
    fn the_subjects_of_mmlu_are_fifty_seven() {
        let task = load_task(Path::new(""), "mmlu").unwrap();
        let names = task.parts.unwrap().groups;
        assert_eq!(names.values().map(Vec::len).sum::<usize>(), 57);
        assert_eq!(
            names.keys().collect::<Vec<_>>(),
            ["humanities", "other", "social_sciences", "stem"]
        );
    }
}
