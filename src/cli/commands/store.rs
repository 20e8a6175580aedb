//! `lions store`.

use crate::base::{Clock as _, SystemClock};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::store::rebuild;
use clap::Subcommand;
use serde_json::json;

/// Look after the database
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make the database anew from the run folders; the old one is kept beside it
    ///
    /// Sweeps come back when `lions run` sees their file again; no finished run is repeated.
    Rebuild,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &StoreArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    match args.command {
        StoreCommand::Rebuild => {
            let rebuilt = rebuild(&project.root, SystemClock.now()).map_err(CommandError::user)?;
            if ui.json {
                ui.print_json(&json!({
                    "runs": rebuilt.runs, "done": rebuilt.done, "old": rebuilt.old,
                    "passed_over": rebuilt.passed_over,
                }))?;
                return Ok(DONE);
            }
            for (folder, reason) in &rebuilt.passed_over {
                ui.warn(&format!("{} is left out: {reason}", folder.display()));
            }
            if let Some(old) = &rebuilt.old {
                ui.say(&format!("the old database is at {}", old.display()));
            }
            ui.out(&format!(
                "{} known again, {} of them done",
                counted(rebuilt.runs, "run"),
                rebuilt.done
            ));
        }
    }
    Ok(DONE)
}
