//! `lions report`.

use crate::cli::database::results;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::SweepWord;
use crate::cli::ui::Ui;
use crate::report::{SweepResults, write_report};
use std::path::PathBuf;

/// Write the report of a sweep: Markdown and a self-contained HTML page
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    sweep: SweepWord,
    /// Folder to write into [default: reports/<sweep>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ReportArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), args.sweep.near())?;
    let name = args.sweep.name()?;
    let results = results(ui, &project, &name)?;
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| project.report_dir(&name));
    let paths = write_report(&results, &folder).map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&paths)?;
    } else {
        paths
            .iter()
            .for_each(|path| ui.out(&path.display().to_string()));
    }
    Ok(DONE)
}

/// Writes `reports/<sweep>`.
pub(crate) fn write(project: &Project, results: &SweepResults) -> Result<(), CommandError> {
    let folder = project.report_dir(&results.sweep.name);
    write_report(results, &folder).map_err(CommandError::user)?;
    Ok(())
}
