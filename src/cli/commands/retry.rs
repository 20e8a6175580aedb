//! `lions retry`.

use crate::base::{Clock as _, SystemClock};
use crate::cli::commands::cancel::named_runs;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::queue::RunState;
use crate::store::Store;
use serde_json::json;

/// Put failed, cancelled or skipped runs back into the queue
///
/// Other runs are untouched. `lions run` then carries them out.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Runs, by the first digits of their ids, or a sweep's name or file for all that failed
    #[arg(required = true)]
    what: Vec<String>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &RetryArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let runs = named_runs(&project, &must_open(&project)?, &args.what, |state| {
        matches!(state, RunState::Failed | RunState::Cancelled)
    })?;
    let mut store = Store::of_project(&project.root).map_err(store_error)?;
    let mut back = 0_usize;
    for run in &runs {
        if store
            .retry(run, SystemClock.now())
            .map_err(store_error)?
            .is_ok()
        {
            back += 1;
        }
    }
    if ui.json {
        ui.print_json(&json!({ "ready_again": back, "nothing_to_retry": runs.len() - back }))?;
    } else {
        let them = if back == 1 { "it" } else { "them" };
        ui.text(&format!(
            "{} back in the queue; `lions run <sweep file>` carries {them} out",
            counted(back, "run")
        ));
    }
    Ok(DONE)
}
