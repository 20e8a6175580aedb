//! `lions store`.

use crate::base::{Clock as _, SystemClock};
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::store::{Trouble, rebuild, verify};
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
    /// Sweeps and trials come back as they were registered last; no finished run is repeated. Refused
    /// while a `lions run` is at work.
    Rebuild,
    /// Read everything that was stored and compare digests; exit code 1 if anything is damaged
    ///
    /// Nothing is changed. `lions run` makes damaged results again, `lions store rebuild` the database.
    Verify,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &StoreArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    match args.command {
        StoreCommand::Rebuild => {
            let rebuilt = rebuild(&project.root, SystemClock.now()).map_err(CommandError::user)?;
            if ui.json {
                ui.print_json(&json!({
                    "runs": rebuilt.runs, "done": rebuilt.done, "sweeps": rebuilt.sweeps,
                    "trials": rebuilt.trials, "old": rebuilt.old,
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
            ui.text(&format!(
                "{} and {} with {} known again, {} of the runs done",
                counted(rebuilt.sweeps, "sweep"),
                counted(rebuilt.trials, "trial"),
                counted(rebuilt.runs, "run"),
                rebuilt.done
            ));
        }
        StoreCommand::Verify => return verified(ui, &project),
    }
    Ok(DONE)
}

/// Says what is damaged, and what mends it.
fn verified(ui: &Ui, project: &Project) -> Result<u8, CommandError> {
    let found = verify(&project.root).map_err(CommandError::user)?;
    let code = if found.damage.is_empty() {
        DONE
    } else {
        exit_code::USER
    };
    if ui.json {
        ui.print_json(&found)?;
        return Ok(code);
    }
    for damage in &found.damage {
        ui.warn(&damage.message);
    }
    let mib = found.bytes as f64 / f64::from(1 << 20);
    let (runs, files) = (counted(found.runs, "run"), counted(found.files, "file"));
    if found.damage.is_empty() {
        ui.text(&format!(
            "{runs}, {files}, {mib:.1} MiB: everything is as it was written"
        ));
        return Ok(code);
    }
    let count = found.damage.len();
    ui.text(&format!(
        "{runs}, {files}, {mib:.1} MiB: {count} damaged or unreadable"
    ));
    let has = |trouble| found.damage.iter().any(|damage| damage.trouble == trouble);
    for (trouble, hint) in [
        (
            Trouble::Result,
            "`lions run <sweep file>` makes damaged results again",
        ),
        (
            Trouble::Description,
            "`lions run <sweep file>` writes damaged descriptions of runs again",
        ),
        (
            Trouble::Database,
            "`lions store rebuild` makes the database anew from the run folders",
        ),
        (
            Trouble::Unreadable,
            "what cannot be read may be whole: see to permissions and the disk",
        ),
    ] {
        if has(trouble) {
            ui.say(hint);
        }
    }
    Ok(code)
}
