//! `lions rm`.

use crate::cli::database::{must_open, store_error, unknown_sweep};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::name_typed;
use crate::cli::text::{bytes, counted};
use crate::cli::ui::Ui;
use crate::rundir::live_runners;
use crate::store::{ReadStore, Store};
use serde_json::json;
use std::path::PathBuf;

/// Remove a sweep with the runs that are its alone
///
/// Its trials and results go, and the folders of runs that no other sweep has and no other run needs. Its
/// file and its pages under `reports/` stay. The rungs of a sweep that is halved go with it. Without `--yes` it only says
/// what would go.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Sweep name, or its file
    sweep: String,
    /// Remove
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &RmArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let name = name_typed(&args.sweep)?;
    let read = must_open(&project)?;
    let mut remains = read
        .remains(&name)
        .map_err(|e| unknown_sweep(&project, &read, e))?;
    for sweep in remains.sweeps.iter().filter(|_| args.yes) {
        if is_run(&project, &read, sweep)? {
            let message = format!("nothing was removed: a `lions run` is at `{sweep}`");
            return Err(CommandError::user(message).hint("end it first, with Ctrl-C"));
        }
    }
    if args.yes && remains.at_work.is_empty() {
        let mut store = Store::of_project(&project.root).map_err(store_error)?;
        remains = store
            .remove_sweep(&project.root, &name)
            .map_err(store_error)?;
    }
    if args.yes && !remains.at_work.is_empty() {
        let count = counted(remains.at_work.len(), "run");
        return Err(CommandError::user(format!(
            "nothing was removed: {count} of `{name}` running"
        ))
        .hint(format!(
            "`lions cancel {name}` stops it, or end its `lions run`"
        )));
    }
    if ui.json {
        ui.print_json(&json!({ "sweep": name, "removed": args.yes, "remains": remains }))?;
        return Ok(DONE);
    }
    let runs = counted(remains.runs.len(), "run");
    let size = bytes(remains.bytes as f64);
    let rungs = match remains
        .sweeps
        .iter()
        .filter(|sweep| **sweep != name)
        .count()
    {
        0 => String::new(),
        rungs => format!("{}, ", counted(rungs, "rung")),
    };
    let kept = match remains.kept {
        0 => String::new(),
        kept => format!(", {} that others have or need stay", counted(kept, "run")),
    };
    if args.yes {
        ui.text(&format!(
            "{name} removed, with {rungs}{runs} and {size}{kept}"
        ));
    } else {
        ui.text(&format!(
            "{name} would go, with {rungs}{runs} and {size}{kept}; `--yes` removes"
        ));
    }
    Ok(DONE)
}

/// Whether the runner that began a sweep last is alive: it may be between two runs, or wait.
fn is_run(project: &Project, store: &ReadStore, sweep: &str) -> Result<bool, CommandError> {
    let Some(runner) = store.runner_of(sweep).map_err(store_error)? else {
        return Ok(false);
    };
    let live = live_runners(&project.root).map_err(CommandError::user)?;
    let name = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == runner.as_str());
    Ok(live.iter().any(name))
}
