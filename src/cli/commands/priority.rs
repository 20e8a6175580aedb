//! `lions priority`.

use crate::cli::commands::cancel::{Named, named};
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::whole;
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::store::Store;
use serde_json::json;

/// Say which sweeps go first
///
/// While a `lions run` is at a sweep of a higher priority that has something to start, those of lower ones
/// start nothing; what is running comes to its end. Of several sweeps of one command the highest is next.
/// The rungs of a sweep that is halved have its priority.
#[derive(Debug, clap::Args)]
pub(crate) struct PriorityArgs {
    /// Sweep name, or its file
    sweep: String,
    /// The higher goes first; 0 is usual
    #[arg(allow_negative_numbers = true, value_parser = whole)]
    priority: i64,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &PriorityArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let words = std::slice::from_ref(&args.sweep);
    let named = named(&project, &must_open(&project)?, words)?.pop();
    let Some(Named::Sweep { name: sweep, .. }) = named else {
        let message = format!("`{}` is a run; sweeps have priorities", args.sweep);
        return Err(CommandError::user(message).hint("`lions status` lists the sweeps"));
    };
    let mut store = Store::of_project(&project.root).map_err(store_error)?;
    store
        .set_priority(&sweep, args.priority)
        .map_err(store_error)?;
    if ui.json {
        ui.print_json(&json!({ "sweep": sweep, "priority": args.priority }))?;
    } else {
        ui.text(&format!("{sweep} has priority {}", args.priority));
    }
    Ok(DONE)
}
