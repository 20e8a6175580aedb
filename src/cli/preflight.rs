//! What a look at a sweep's inputs found, told.

use crate::base::Device;
use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::config::sweep::Sweep;
use crate::config::{Finding, Places};
use crate::plan::KnownLengths;
use crate::preflight::{Depth, Place, Preflight, Problem, Weight};
use crate::queue::Slot;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A look that tells what it finds.
pub(crate) struct Look {
    preflight: Preflight,
    /// What was told, for sweeps share files.
    said: BTreeSet<String>,
}

/// How much is wrong with what one sweep would use.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) errors: usize,
    /// Those that were not told of an earlier sweep.
    pub(crate) new_errors: usize,
    pub(crate) warnings: usize,
    /// Each as an object, for programs.
    pub(crate) listed: Vec<Value>,
}

impl Look {
    pub(crate) fn new(project: &Project, depth: Depth) -> Self {
        Self {
            preflight: Preflight::new(&project.root, depth),
            said: BTreeSet::new(),
        }
    }

    /// The same look where runs have these slots.
    pub(crate) fn for_slots(self, slots: &[Slot]) -> Self {
        if slots.iter().all(|slot| slot.device == Device::Cpu) {
            return self;
        }
        Self {
            preflight: self.preflight.on_gpus(),
            ..self
        }
    }

    /// How long the rows are that were looked at.
    pub(crate) fn lengths(&self) -> &KnownLengths {
        self.preflight.lengths()
    }

    /// Trials of the last sweep whose steps were counted, by their index: about their rungs all is told.
    pub(crate) fn counted(&self) -> &BTreeSet<usize> {
        self.preflight.counted()
    }

    /// The same, without the rows themselves.
    pub(crate) fn into_lengths(self) -> KnownLengths {
        self.preflight.into_lengths()
    }

    /// Looks at what a sweep would use, and tells what is wrong: errors with their place in the file,
    /// warnings on a line. What was told of an earlier sweep counts, and is not told again.
    pub(crate) fn tell(&mut self, ui: &Ui, sweep: &Sweep, places: &Places) -> Told {
        let mut told = Told::default();
        let mut lines = BTreeSet::new();
        for problem in &self.preflight.look(sweep) {
            let finding = found(problem, places);
            let line = finding.to_string();
            if !lines.insert(line.clone()) {
                continue;
            }
            let is_new = self.said.insert(line.clone());
            match problem.weight {
                Weight::Error => {
                    told.errors += 1;
                    if is_new {
                        told.new_errors += 1;
                        ui.error(&failure(ui, problem, places));
                    }
                }
                Weight::Warning => {
                    told.warnings += 1;
                    if is_new {
                        ui.warn(&line);
                    }
                }
            }
            told.listed.push(json!({
                "weight": if problem.weight == Weight::Error { "error" } else { "warning" },
                "file": finding.file, "line": finding.line, "column": finding.column,
                "message": finding.message, "help": finding.help,
            }));
        }
        told
    }
}

fn failure(ui: &Ui, problem: &Problem, places: &Places) -> CommandError {
    let Some(remark) = problem.remark() else {
        let mut error = CommandError::user(in_file(problem));
        error.hints.extend(problem.help.clone());
        error.findings.push(found(problem, places));
        return error;
    };
    let located = places.located(&[remark]);
    let (rendered, findings) = (located.render(ui.colors_err()), located.findings());
    let mut error = CommandError::user(located);
    error.rendered = Some(rendered);
    error.findings = findings;
    error
}

/// A problem of a file, with its place in front unless the message names it.
fn in_file(problem: &Problem) -> String {
    match &problem.place {
        Place::File(at) if !problem.message.contains(at.as_str()) => {
            format!("{at}: {}", problem.message)
        }
        _ => problem.message.clone(),
    }
}

fn found(problem: &Problem, places: &Places) -> Finding {
    let in_sweep = problem
        .remark()
        .map(|remark| places.located(&[remark]).findings());
    let first = in_sweep.and_then(|findings| findings.into_iter().next());
    first.unwrap_or_else(|| {
        let (file, line, column) = match &problem.place {
            Place::File(at) => parts(at),
            Place::Value { .. } => ("", 0, 0),
        };
        Finding {
            file: file.to_owned(),
            line,
            column,
            message: match line {
                0 => in_file(problem),
                _ => problem.message.clone(),
            },
            help: problem.help.clone(),
        }
    })
}

/// File, line and column of a place such as `data/a.jsonl:17:3`; 0 for what it does not have.
fn parts(at: &str) -> (&str, usize, usize) {
    match split(at).map(|(rest, last)| (split(rest), rest, last)) {
        Some((Some((file, line)), _, column)) => (file, line, column),
        Some((None, file, line)) => (file, line, 0),
        None => (at, 0, 0),
    }
}

/// A text in front of a number.
fn split(text: &str) -> Option<(&str, usize)> {
    let (rest, number) = text.rsplit_once(':')?;
    Some((rest, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_file_has_parts() {
        assert_eq!(parts("data/a.jsonl:17:3"), ("data/a.jsonl", 17, 3));
        assert_eq!(parts("data/a.jsonl:17"), ("data/a.jsonl", 17, 0));
        assert_eq!(parts("data/a.jsonl"), ("data/a.jsonl", 0, 0));
        assert_eq!(parts("a:b"), ("a:b", 0, 0));
    }
}
