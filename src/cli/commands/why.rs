//! `lions why`.

use crate::base::{Clock as _, SystemClock, Timestamp};
use crate::cli::commands::show::find;
use crate::cli::commands::status::state_word;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::plan::RunId;
use crate::queue::{Blocker, RunState};
use crate::rundir::{RunDir, attempt_at_work, pauses, read_job_note};
use crate::store::ReadStore;

/// Say why a run is not done
#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    /// Run, by the first digits of its id
    id: String,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &WhyArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let id = find(&store, &args.id)?;
    let paused = pauses(&project.root).map_err(CommandError::user)?;
    let paused = paused.into_iter().next().map(|p| (p.reason, p.since));
    let held = attempt_at_work(&RunDir::new(&project.root, &id)).map_err(CommandError::user)?;
    let waits = waits(&project, &store, &id)?;
    let why = store.why(&id, paused, (held, waits), SystemClock.now());
    let why = why.map_err(store_error)?;
    if ui.json {
        ui.print_json(&why)?;
        return Ok(DONE);
    }
    let state = state_word(ui, why.run.state);
    if why.blockers.is_empty() {
        ui.text(&format!("{} {id} is {state}", why.run.kind));
    }
    for blocker in &why.blockers {
        let kind = why.run.kind;
        match blocker {
            // These say the state themselves.
            Blocker::Failed { class: Some(_), .. } | Blocker::Cancelled => {
                ui.text(&format!("{kind} {id} {blocker}"));
            }
            _ => ui.text(&format!("{kind} {id} is {state}: {blocker}")),
        }
    }
    Ok(DONE)
}

/// Why the live attempt of a run waits at a scheduler, and since when.
fn waits(
    project: &Project,
    store: &ReadStore,
    id: &RunId,
) -> Result<Option<(String, Timestamp)>, CommandError> {
    let state = store.run(id).map_err(store_error)?.state;
    Ok(queue_reason(project, id, state))
}

/// The same of a run in this state.
pub(crate) fn queue_reason(
    project: &Project,
    id: &RunId,
    state: RunState,
) -> Option<(String, Timestamp)> {
    let RunState::Leased { attempt, .. } = state else {
        return None;
    };
    let note = read_job_note(&RunDir::new(&project.root, id).attempt(attempt))?;
    note.waits.map(|waits| (waits.reason, waits.since))
}
