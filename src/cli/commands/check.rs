//! `lions check`.

use crate::cli::app::{DONE, Global};
use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::{Tone, Ui};
use crate::config::sweep::Sweep;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Check a sweep file without running anything
///
/// Reads the file and everything it extends, expands it into trials, types each of them and checks
/// the rules across fields. Any mistake is shown at its place with the nearest valid name.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Sweep file
    file: PathBuf,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &CheckArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), Some(&args.file))?;
    let sweep = load(ui, &project, &args.file)?;
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

/// Reads and expands a sweep file; a mistake becomes a diagnostic.
pub(crate) fn load(ui: &Ui, project: &Project, file: &Path) -> Result<Sweep, CommandError> {
    if !file.exists() {
        let hint = match sweep_files(project).as_slice() {
            [] => format!(
                "sweep files live in {}",
                project.root.join("sweeps").display()
            ),
            files => format!("sweep files here: {}", files.join(", ")),
        };
        return Err(
            CommandError::user(format!("there is no sweep file `{}`", file.display())).hint(hint),
        );
    }
    crate::config::load_sweep(file, &project.root).map_err(|error| {
        let rendered = error.render(ui.colors_err());
        let mut failure = CommandError::user(error);
        failure.rendered = Some(rendered);
        failure
    })
}

/// The sweep files of the project, in name order.
fn sweep_files(project: &Project) -> Vec<String> {
    let entries = std::fs::read_dir(project.root.join("sweeps"))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let tomls = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "toml"));
    let mut files: Vec<_> = tomls.map(|name| format!("sweeps/{name}")).collect();
    files.sort();
    files
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
