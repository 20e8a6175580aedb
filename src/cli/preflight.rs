//! What a look at a sweep's inputs found, told.

use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::config::sweep::Sweep;
use crate::config::{Finding, Places};
use crate::preflight::{Depth, Place, Preflight, Problem, Weight};
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
        let error = CommandError::user(in_file(problem));
        return match &problem.help {
            Some(help) => error.hint(help.clone()),
            None => error,
        };
    };
    let located = places.located(&[remark]);
    let rendered = located.render(ui.colors_err());
    let mut error = CommandError::user(located);
    error.rendered = Some(rendered);
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
    first.unwrap_or_else(|| Finding {
        file: match &problem.place {
            Place::File(at) => at.clone(),
            Place::Value { .. } => String::new(),
        },
        line: 0,
        column: 0,
        message: in_file(problem),
        help: problem.help.clone(),
    })
}
