//! `lions figures`.

use crate::cli::commands::report::warn_of_labels;
use crate::cli::database::{must_open, results};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::pick::TrialFilter;
use crate::cli::project::Project;
use crate::cli::sweep_file::{Changes, SweepWord};
use crate::cli::ui::Ui;
use crate::report::{write_figures, write_paper};
use std::path::PathBuf;

/// Draw the figures of a sweep, or those of the paper, from the store
///
/// SVG and PNG, each with its numbers as CSV and the ids of its runs; the same bytes each time.
#[derive(Debug, clap::Args)]
pub(crate) struct FiguresArgs {
    /// Sweep name, or its file
    #[arg(required_unless_present = "paper", conflicts_with = "paper")]
    sweep: Option<String>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    picked: TrialFilter,
    /// All figures of all sweeps that redraw one of the paper, with an index beside what is published
    #[arg(long, conflicts_with_all = ["base", "sets", "wheres"])]
    paper: bool,
    /// Folder to write into [default: reports/<sweep>/figures, with `--where` figures-where beside it, or
    /// reports/paper]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &FiguresArgs) -> Result<u8, CommandError> {
    let paths = match &args.sweep {
        Some(sweep) => {
            let word = SweepWord {
                sweep: sweep.clone(),
                changes: args.changes.clone(),
            };
            of_sweep(ui, global, &word, args)?
        }
        None => of_paper(ui, global, args.out.clone())?,
    };
    if ui.json {
        ui.print_json(&paths)?;
    } else if paths.is_empty() {
        ui.say(match args.sweep {
            Some(_) => "the sweep file asks for no figure; `[[report.figure]]` in it would",
            None => "no sweep that has run here redraws a figure of the paper",
        });
    } else {
        paths
            .iter()
            .for_each(|path| ui.out(&path.display().to_string()));
    }
    Ok(DONE)
}

fn of_sweep(
    ui: &Ui,
    global: &Global,
    sweep: &SweepWord,
    args: &FiguresArgs,
) -> Result<Vec<PathBuf>, CommandError> {
    let project = Project::find(global.root.as_deref(), sweep.near())?;
    let name = sweep.name()?;
    let mut results = results(ui, &project, &name)?;
    args.picked.keep_results(&mut results)?;
    warn_of_labels(ui, &results);
    let out = args.out.clone();
    // Those of the report show every trial.
    let own = if args.picked.is_empty() {
        "figures"
    } else {
        "figures-where"
    };
    let folder = out.unwrap_or_else(|| project.report_dir(&name).join(own));
    write_figures(&results, &folder).map_err(CommandError::user)
}

/// Sweeps that redraw nothing of the paper are not read further than their report.
fn of_paper(ui: &Ui, global: &Global, out: Option<PathBuf>) -> Result<Vec<PathBuf>, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let mut names: Vec<String> = Vec::new();
    for row in store.sweeps().map_err(CommandError::user)? {
        let sweep = store.sweep(&row.name).map_err(CommandError::user)?;
        let figures = sweep.report.figures.iter().any(|f| f.head.paper.is_some());
        let tables = sweep.report.tables.iter().any(|t| t.published.is_some());
        if figures || tables {
            names.push(row.name);
        }
    }
    names.sort();
    let sweeps = names
        .iter()
        .map(|name| results(ui, &project, name))
        .collect::<Result<Vec<_>, _>>()?;
    let folder = out.unwrap_or_else(|| project.report_dir("paper"));
    write_paper(&sweeps, &folder).map_err(CommandError::user)
}
