//! `lions retry`.

use crate::base::{Clock as _, SystemClock};
use crate::cli::commands::cancel::named_runs;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::plan::RunId;
use crate::queue::RunState;
use crate::store::Store;
use serde_json::json;

/// Put failed, cancelled or skipped runs back into the queue
///
/// A run that is named by its id and done is made again if `lions gc` deleted weights of it. Of a sweep that is halved its
/// rungs are meant, too. Other runs are untouched. `lions run` then carries them out.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Runs, by the first digits of their ids, or a sweep's name or file for all that failed
    #[arg(required_unless_present = "failed")]
    what: Vec<String>,
    /// Of sweeps only the runs that failed, and not those that were cancelled; of all sweeps if none is
    /// named
    #[arg(long)]
    failed: bool,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &RetryArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let known = must_open(&project)?;
    let mut words = args.what.clone();
    if words.is_empty() {
        let sweeps = known.sweeps().map_err(store_error)?;
        words.extend(sweeps.into_iter().map(|sweep| sweep.name));
    }
    let wanted = if args.failed {
        |state| state == RunState::Failed
    } else {
        |state| matches!(state, RunState::Failed | RunState::Cancelled)
    };
    let runs = named_runs(&project, &known, &words, wanted)?;
    let mut store = Store::of_project(&project.root).map_err(store_error)?;
    let mut back = 0_usize;
    for run in &runs {
        let now = SystemClock.now();
        let is_back = store.retry(run, now).map_err(store_error)?.is_ok()
            || store
                .restore(&project.root, run, now)
                .map_err(store_error)?;
        back += usize::from(is_back);
    }
    if ui.json {
        ui.print_json(&json!({ "ready_again": back, "nothing_to_retry": runs.len() - back }))?;
    } else if back == 0 {
        ui.text(&nothing(&runs));
    } else {
        let them = if back == 1 { "it" } else { "them" };
        ui.text(&format!(
            "{} back in the queue; `lions run <sweep file>` carries {them} out",
            counted(back, "run")
        ));
    }
    Ok(DONE)
}

/// Why nothing is back.
fn nothing(runs: &[RunId]) -> String {
    match runs {
        [] => "nothing to retry: no run failed or was cancelled".to_owned(),
        [one] => format!(
            "nothing to retry: run {} neither failed nor was cancelled or skipped; `lions why {0}` says where it stands",
            one.short()
        ),
        several => format!(
            "nothing to retry: none of {} failed or was cancelled or skipped",
            counted(several.len(), "run")
        ),
    }
}
