//! `lions why`.

use crate::base::{Clock as _, SystemClock};
use crate::cli::commands::show::find;
use crate::cli::commands::status::state_word;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::live::queue_reason;
use crate::queue::Blocker;
use crate::rundir::{RunDir, attempt_at_work, pauses};

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
    let state = store.run(&id).map_err(store_error)?.state;
    let waits = queue_reason(&project.root, &id, state);
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
