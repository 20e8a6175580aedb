//! `lions gc`.

use crate::cli::commands::cancel::{Named, named};
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::{Changes, SweepFile, base_files, sweep_file_named};
use crate::cli::text::{bytes, counted};
use crate::cli::ui::Ui;
use crate::config::{Inputs, KeepPolicy, SweepName};
use crate::plan::RunId;
use crate::report::{
    ColumnFit::{Whole, Wrap},
    Depth, best_runs, load_results,
};
use crate::store::{Garbage, ReadStore, Store};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Delete weights that no sweep wants kept
///
/// What a sweep keeps stands in its file: `keep = "last"` under `[sweep]` lets the checkpoints of earlier
/// steps go, `"none"` all weights, `"best"` all of configurations that are clearly worse than the best by the
/// first metric of the first table; each once every run that needs it is done. Nothing is said: all stays.
/// Of runs that sweeps share the one that keeps most decides. Results stay, and a run that needs what is gone
/// has it made again. Without `--yes` it only says what would go.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Only runs of these sweeps and their rungs, by name or file; absent: of all
    what: Vec<String>,
    /// Delete
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &GcArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let read = must_open(&project)?;
    let best = best_of_sweeps(&project, &read)?;
    let mut garbage = read.garbage(&project.root, &best).map_err(store_error)?;
    let mut keeps = read.keeps().map_err(store_error)?;
    if !args.what.is_empty() {
        let (mut sweeps, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        for word in named(&project, &read, &args.what)? {
            match word {
                Named::Run(run) => wanted.extend([run]),
                Named::Sweep { known, .. } => {
                    for sweep in known {
                        let runs = read.run_states(&sweep).map_err(store_error)?;
                        wanted.extend(runs.into_iter().map(|(run, _)| run));
                        sweeps.insert(sweep);
                    }
                }
            }
        }
        garbage.retain(|found| wanted.contains(&found.run));
        keeps.retain(|sweep, _| sweeps.contains(sweep));
    }
    for (sweep, kept) in keeps {
        let Some((message, hint)) = other_keep(ui, &project, &sweep, kept) else {
            continue;
        };
        if args.yes {
            return Err(CommandError::user(format!("nothing was deleted: {message}")).hint(hint));
        }
        ui.warn(&format!("{message}; {hint}"));
    }
    let mut freed = 0;
    if args.yes {
        let mut store = Store::of_project(&project.root).map_err(store_error)?;
        for found in &garbage {
            freed += store.collect(&project.root, found).map_err(store_error)?;
        }
    }
    tell(ui, args.yes.then_some(freed), &garbage)?;
    Ok(DONE)
}

/// That a sweep's file says something else of what is kept than when it was run last, and what helps.
fn other_keep(
    ui: &Ui,
    project: &Project,
    sweep: &str,
    kept: KeepPolicy,
) -> Option<(String, String)> {
    let name = SweepName::of(sweep);
    let file = sweep_file_named(project, name.own)?;
    // Read whole, on the base that it was run on: it may take `keep` from a file that it extends. One that is wrong, or
    // lies on a base that is not to be found, says nothing.
    let base = match name.base {
        Some(stem) => Some(base_named(project, stem)?),
        None => None,
    };
    let shown = file.strip_prefix(&project.root).unwrap_or(&file);
    let shown = shown.display().to_string();
    let changes = Changes {
        base: base.as_ref().map(|base| project.root.join(base)),
        sets: Vec::new(),
    };
    let word = SweepFile { file, changes };
    let read = word.load(ui, project, Inputs::Optional).ok()?.keep;
    let now = name.halved.map_or(read, |_| read.of_rung());
    let base = base.map_or_else(String::new, |base| format!(" --base {base}"));
    (now != kept).then(|| {
        (
            format!("`keep` in `{shown}` is another than when `{sweep}` was run last"),
            format!("the next `lions run {shown}{base}` takes it over"),
        )
    })
}

/// The base file of the project that `--base` gave, by the part of the sweep's name.
fn base_named(project: &Project, stem: &str) -> Option<String> {
    let mut bases = base_files(project).into_iter();
    bases.find(|base| Path::new(base).file_stem().is_some_and(|own| own == stem))
}

/// Runs of the best configurations, of each sweep that keeps these alone and knows them.
fn best_of_sweeps(
    project: &Project,
    read: &ReadStore,
) -> Result<BTreeMap<String, BTreeSet<RunId>>, CommandError> {
    let mut best = BTreeMap::new();
    for sweep in read.sweeps_with_best().map_err(store_error)? {
        let results = load_results(read, &project.root, &sweep, "", Depth::Scores);
        let results = results.map_err(CommandError::user)?;
        if let Some(runs) = best_runs(&results).map_err(CommandError::user)? {
            best.insert(sweep, runs);
        }
    }
    Ok(best)
}

/// What goes, or has gone with so many bytes.
fn tell(ui: &Ui, freed: Option<u64>, garbage: &[Garbage]) -> Result<(), CommandError> {
    let all: u64 = garbage.iter().map(|found| found.bytes).sum();
    if ui.json {
        let all = freed.unwrap_or(all);
        return ui.print_json(&json!({
            "deleted": freed.is_some(), "bytes": all, "runs": garbage,
        }));
    }
    if garbage.is_empty() {
        ui.text("nothing to delete; `keep = \"last\"`, `\"best\"` or `\"none\"` under `[sweep]` says what a sweep lets go");
        return Ok(());
    }
    let row = |found: &Garbage| {
        let mut names: Vec<String> = Vec::new();
        for file in &found.files {
            let folder = file
                .rsplit_once('/')
                .map_or(file.as_str(), |(folder, _)| folder);
            if names.last().is_none_or(|last| last != folder) {
                names.push(folder.to_owned());
            }
        }
        vec![
            found.run.to_string(),
            found.kind.name().to_owned(),
            bytes(found.bytes as f64),
            names.join(" "),
        ]
    };
    let columns = [
        ("run", Whole),
        ("stage", Whole),
        ("size", Whole),
        ("weights", Wrap),
    ];
    ui.headed_table(columns, garbage.iter().map(row));
    let runs = counted(garbage.len(), "run");
    match freed {
        Some(freed) => ui.text(&format!("{} of {runs} deleted", bytes(freed as f64))),
        None => ui.text(&format!(
            "{} of {runs} would go; `--yes` deletes",
            bytes(all as f64)
        )),
    }
    Ok(())
}
