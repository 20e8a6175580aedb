//! `lions resume`.

use crate::cli::commands::pause::order;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::ui::Ui;
use serde_json::json;

/// Let paused sweeps or runs go on
///
/// A `lions run` that waits goes on at once; otherwise the next one does, from the saved states.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// Runs, by the first digits of their ids, or sweeps, by name or file
    #[arg(required = true)]
    what: Vec<String>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ResumeArgs) -> Result<u8, CommandError> {
    let done = order(global, &args.what, None)?;
    if ui.json {
        ui.print_json(&json!({ "resumed": done.changed, "not_paused": done.unchanged }))?;
        return Ok(DONE);
    }
    let rest = match done.unchanged {
        0 => String::new(),
        count => format!(", {count} not paused"),
    };
    ui.text(&format!("{} resumed{rest}", done.changed_text()));
    Ok(DONE)
}
