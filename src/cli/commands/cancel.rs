//! `lions cancel`.

use crate::base::{Clock as _, SystemClock};
use crate::cli::commands::show::find;
use crate::cli::database::{must_open, not_run, store_error, unknown_sweep};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::name_typed;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::config::nearest;
use crate::plan::RunId;
use crate::queue::RunState;
use crate::store::{CancelAnswer, ReadStore, Store};
use serde_json::json;
use std::collections::BTreeSet;

/// Give up on runs, or on everything a sweep has not done
///
/// Runs that need a cancelled one are skipped. A sweep that is halved is cancelled with its rungs so far. `retry` takes it
/// back.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Runs, by the first digits of their ids, or a sweep's name or file
    #[arg(required = true)]
    what: Vec<String>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &CancelArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let runs = named_runs(&project, &must_open(&project)?, &args.what, unfinished)?;
    let mut store = Store::of_project(&project.root).map_err(store_error)?;
    let (mut cancelled, mut requested, mut ended) = (0_usize, 0_usize, 0_usize);
    for run in &runs {
        match store.cancel(run, SystemClock.now()).map_err(store_error)? {
            CancelAnswer::Cancelled(_) => cancelled += 1,
            CancelAnswer::Requested => requested += 1,
            CancelAnswer::Ended(_) => ended += 1,
        }
    }
    if ui.json {
        ui.print_json(
            &json!({ "cancelled": cancelled, "requested": requested, "ended_already": ended }),
        )?;
    } else {
        ui.text(&format!(
            "{} cancelled, {requested} asked to stop, {ended} ended already",
            counted(cancelled, "run")
        ));
    }
    Ok(DONE)
}

fn unfinished(state: RunState) -> bool {
    matches!(
        state,
        RunState::Blocked | RunState::Ready | RunState::Leased { .. }
    )
}

/// The runs that the words mean: a sweep's name means its runs in states that `wanted` picks.
pub(crate) fn named_runs(
    project: &Project,
    store: &ReadStore,
    words: &[String],
    wanted: fn(RunState) -> bool,
) -> Result<Vec<RunId>, CommandError> {
    let mut runs = Vec::new();
    for word in named(project, store, words)? {
        match word {
            Named::Run(run) => runs.push(run),
            Named::Sweep { known, .. } => {
                for sweep in known {
                    let states = store.run_states(&sweep).map_err(store_error)?;
                    let wanted = states.into_iter().filter(|(_, state)| wanted(*state));
                    runs.extend(wanted.map(|(id, _)| id));
                }
            }
        }
    }
    // Sweeps share runs.
    let mut seen = BTreeSet::new();
    runs.retain(|run| seen.insert(run.clone()));
    Ok(runs)
}

/// What a word of a command means.
pub(crate) enum Named {
    /// A sweep.
    Sweep {
        /// Its name.
        name: String,
        /// Those that are known here: itself, and its rungs if it is halved. Of one that is still being halved the rungs alone.
        known: Vec<String>,
    },
    /// A run.
    Run(RunId),
}

/// What the words mean, in their order.
pub(crate) fn named(
    project: &Project,
    store: &ReadStore,
    words: &[String],
) -> Result<Vec<Named>, CommandError> {
    let names: Vec<_> = store
        .sweeps()
        .map_err(store_error)?
        .into_iter()
        .map(|sweep| sweep.name)
        .collect();
    let mut named = Vec::new();
    for typed in words {
        let word = name_typed(typed)?;
        let mut sweeps = store.rungs_of(&word).map_err(store_error)?;
        // A file means its sweep, known here or not.
        if names.contains(&word) || !sweeps.is_empty() || word != *typed {
            if names.contains(&word) || sweeps.is_empty() {
                store
                    .sweep(&word)
                    .map_err(|e| unknown_sweep(project, store, e))?;
                sweeps.push(word.clone());
            }
            named.push(Named::Sweep {
                name: word,
                known: sweeps,
            });
        } else {
            let run = find(store, &word).map_err(|error| neither(project, error, &word, &names));
            named.push(Named::Run(run?));
        }
    }
    Ok(named)
}

/// What is said of a word that is no run: also which sweeps there are, if none is near.
fn neither(project: &Project, error: CommandError, word: &str, names: &[String]) -> CommandError {
    if nearest(word, names.iter().map(String::as_str)).is_some() {
        return error;
    }
    if let Some(begins) = not_run(project, word) {
        return CommandError::user(format!("no run begins with `{word}`")).hint(begins);
    }
    match names {
        [] => error,
        names => error.hint(format!("sweeps that have run here: {}", names.join(", "))),
    }
}
