//! `lions figures`.

use crate::cli::app::{DONE, Global};
use crate::cli::commands::report::{results, sweep_name};
use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::ui::Ui;
use crate::report::write_figures;
use std::path::PathBuf;

/// Draw the figures of a sweep from the store
///
/// SVG and PNG, each with its numbers as CSV and the ids of its runs; the same bytes each time.
#[derive(Debug, clap::Args)]
pub(crate) struct FiguresArgs {
    /// Sweep name, or its file
    sweep: String,
    /// Folder to write into [default: reports/<sweep>/figures]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &FiguresArgs) -> Result<u8, CommandError> {
    let near = PathBuf::from(&args.sweep);
    let project = Project::find(
        global.root.as_deref(),
        near.is_file().then_some(near.as_path()),
    )?;
    let name = sweep_name(&args.sweep)?;
    let results = results(&project, &name)?;
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| project.report_dir(&name).join("figures"));
    let paths = write_figures(&results, &folder).map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&paths)?;
    } else {
        paths
            .iter()
            .for_each(|path| ui.out(&path.display().to_string()));
    }
    Ok(DONE)
}
