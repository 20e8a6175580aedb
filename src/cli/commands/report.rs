//! `lions report`.

use crate::cli::database::{must_open, results};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::sweep_file::{Changes, SweepWord};
use crate::cli::ui::Ui;
use crate::report::{SweepResults, index_entry, unshown_labels, write_index, write_report};
use std::path::PathBuf;

/// Write the report of a sweep: Markdown and a self-contained HTML page
///
/// Of several sweeps, or of all, also an index page with the verdict on each of their claims.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Sweep names, or their files
    #[arg(
        required_unless_present = "all",
        conflicts_with = "all",
        value_name = "SWEEP"
    )]
    sweeps: Vec<String>,
    #[command(flatten)]
    changes: Changes,
    /// Every sweep that the store knows
    #[arg(long, conflicts_with_all = ["base", "sets"])]
    all: bool,
    /// Folder to write into; of several sweeps, that of their folders [default: reports/<sweep>, or reports]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ReportArgs) -> Result<u8, CommandError> {
    let words: Vec<SweepWord> = args.sweeps.iter().map(|sweep| word(args, sweep)).collect();
    let near = words.first().and_then(SweepWord::near);
    let project = Project::find(global.root.as_deref(), near)?;
    let names = if args.all {
        let rows = must_open(&project)?.sweeps().map_err(CommandError::user)?;
        let mut names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
        names.sort();
        names
    } else {
        let names = words.iter().map(SweepWord::name);
        names.collect::<Result<_, _>>()?
    };
    let paths = match names.as_slice() {
        [name] if !args.all => {
            let results = results(ui, &project, name)?;
            warn_of_labels(ui, &results);
            let folder = args.out.clone();
            let folder = folder.unwrap_or_else(|| project.report_dir(name));
            write_report(&results, &folder).map_err(CommandError::user)?
        }
        names => of_several(ui, &project, names, args.out.clone())?,
    };
    if ui.json {
        ui.print_json(&paths)?;
    } else {
        paths
            .iter()
            .for_each(|path| ui.out(&path.display().to_string()));
    }
    Ok(DONE)
}

fn word(args: &ReportArgs, sweep: &str) -> SweepWord {
    SweepWord {
        sweep: sweep.to_owned(),
        changes: args.changes.clone(),
    }
}

/// Writes the reports one after another, so that the results of one are in memory, and the index last.
fn of_several(
    ui: &Ui,
    project: &Project,
    names: &[String],
    out: Option<PathBuf>,
) -> Result<Vec<PathBuf>, CommandError> {
    let folder = out.unwrap_or_else(|| project.report_dir(""));
    let (mut entries, mut paths) = (Vec::new(), Vec::new());
    for name in names {
        let results = results(ui, project, name)?;
        warn_of_labels(ui, &results);
        paths.extend(write_report(&results, &folder.join(name)).map_err(CommandError::user)?);
        entries.push(index_entry(&results).map_err(CommandError::user)?);
    }
    paths.push(write_index(&entries, &folder).map_err(CommandError::user)?);
    Ok(paths)
}

/// Says which labels of its figures cannot be drawn.
pub(crate) fn warn_of_labels(ui: &Ui, results: &SweepResults) {
    unshown_labels(results)
        .iter()
        .for_each(|text| ui.warn(text));
}

/// Writes `reports/<sweep>`.
pub(crate) fn write(
    ui: &Ui,
    project: &Project,
    results: &SweepResults,
) -> Result<(), CommandError> {
    warn_of_labels(ui, results);
    let folder = project.report_dir(&results.sweep.name);
    write_report(results, &folder).map_err(CommandError::user)?;
    Ok(())
}
