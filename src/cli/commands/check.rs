//! `lions check`.

use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::SweepFile;
use crate::cli::text::counted;
use crate::cli::ui::{Tone, Ui};
use crate::config::Inputs;
use crate::config::sweep::Sweep;
use serde_json::json;

/// Check a sweep file without running anything
///
/// Reads the file and everything it extends, expands it into trials, types each of them and checks
/// the rules across fields. Any mistake is shown at its place with the nearest valid name.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    sweep: SweepFile,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &CheckArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), Some(&args.sweep.file))?;
    let sweep = args.sweep.load(ui, &project, Inputs::Required)?;
    if ui.json {
        let configurations = configurations(&sweep);
        ui.print_json(&json!({
            "sweep": sweep.name, "question": sweep.question, "trials": sweep.trials.len(),
            "configurations": configurations, "axes": sweep.axes,
        }))?;
        return Ok(DONE);
    }
    let trials = counted(sweep.trials.len(), "trial");
    let configs = counted(configurations(&sweep), "configuration");
    ui.out(&format!(
        "{} `{}` is fine: {configs}, {trials}",
        ui.tone(Tone::Good, "ok"),
        sweep.name
    ));
    Ok(DONE)
}

/// Number of distinct assignments, seeds apart.
fn configurations(sweep: &Sweep) -> usize {
    let mut seen: Vec<_> = sweep
        .trials
        .iter()
        .map(|trial| &trial.assignments)
        .collect();
    seen.sort_by_key(|assignments| format!("{assignments:?}"));
    seen.dedup();
    seen.len()
}
