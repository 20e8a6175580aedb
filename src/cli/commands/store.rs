//! `lions store`.

use crate::base::fs::create_dir;
use crate::base::{Clock as _, PathError, SystemClock, write_atomic};
use crate::cli::database::{must_open, store_error};
use crate::cli::error::{CommandError, exit_code};
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::table_files::{TableFiles, TableForm};
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::report::ColumnFit::Whole;
use crate::report::{event_file, export_tables, offline_run};
use crate::store::{ReadStore, Trouble, rebuild, verify};
use clap::Subcommand;
use serde_json::json;
use std::fs::{remove_dir_all, rename};
use std::path::{Path, PathBuf};

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
    /// while a `lions run` is running.
    Rebuild,
    /// Read everything that was stored and compare digests; exit code 1 if anything is damaged
    ///
    /// Nothing is changed. `lions run` makes damaged results again, `lions store rebuild` the database.
    Verify,
    /// Write runs, trials, metrics, training curves, evaluated rows and samples for other programs
    ///
    /// A file for each table, as docs/export.md describes them; or a folder of events for each run that was trained, which
    /// TensorBoard opens; or a folder for each run with results, which `wandb sync` uploads.
    Export(StoreExportArgs),
}

#[derive(Debug, clap::Args)]
struct StoreExportArgs {
    /// Folder to write; must not be there
    dir: PathBuf,
    /// Form of the files
    #[arg(long, value_enum, value_name = "FORM")]
    format: ExportForm,
}

/// Forms in which results leave the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportForm {
    Csv,
    Jsonl,
    Parquet,
    Tensorboard,
    Wandb,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &StoreArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    match &args.command {
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
        StoreCommand::Export(args) => return export(ui, &project, args),
    }
    Ok(DONE)
}

/// Writes everything into a folder, which appears when it is whole.
fn export(ui: &Ui, project: &Project, args: &StoreExportArgs) -> Result<u8, CommandError> {
    let dir = &args.dir;
    if dir.exists() {
        let error = CommandError::user(format!("`{}` is there already", dir.display()));
        return Err(error.hint("name a folder that is yet to be made"));
    }
    let store = must_open(project)?;
    let partial = dir.with_extension("partial");
    if partial.exists() {
        let removed = remove_dir_all(&partial);
        removed.map_err(|error| CommandError::user(PathError::new("remove", &partial, error)))?;
    }
    create_dir(&partial).map_err(CommandError::user)?;
    let written = match args.format {
        ExportForm::Tensorboard => write_events(&store, &partial)?,
        ExportForm::Wandb => write_offline_runs(&store, &partial)?,
        form => {
            let form = match form {
                ExportForm::Csv => TableForm::Csv,
                ExportForm::Parquet => TableForm::Parquet,
                _ => TableForm::Jsonl,
            };
            let mut files = TableFiles::new(&partial, form);
            export_tables(&store, &project.root, &mut |table| files.add(table))?;
            files.finish()?
        }
    };
    rename(&partial, dir)
        .map_err(|error| CommandError::user(PathError::new("write", dir, error)))?;
    if ui.json {
        ui.print_json(&json!({"folder": dir, "written": written}))?;
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = written
        .iter()
        .map(|(name, rows)| vec![name.clone(), rows.to_string()])
        .collect();
    ui.headed_table([("file", Whole), ("rows", Whole)], rows);
    ui.out(&format!("written to {}", dir.display()));
    Ok(DONE)
}

/// A file of events for each run with training curves: its name and the events in it.
fn write_events(store: &ReadStore, dir: &Path) -> Result<Vec<(String, usize)>, CommandError> {
    let mut written = Vec::new();
    for run in store.all_runs().map_err(store_error)? {
        let Some(bytes) = event_file(store, &run.id).map_err(CommandError::user)? else {
            continue;
        };
        // TensorBoard shows a folder as a run, and reads files whose name has this in it.
        let name = format!(
            "{}-{}/events.out.tfevents.0.lions",
            run.kind.name(),
            run.id.short()
        );
        write_atomic(&dir.join(&name), &bytes).map_err(CommandError::user)?;
        let steps = store.training_steps(&run.id).map_err(store_error)?;
        written.push((name, steps.len()));
    }
    Ok(written)
}

/// A file of Weights & Biases for each run with results: its name and the steps in it.
fn write_offline_runs(store: &ReadStore, dir: &Path) -> Result<Vec<(String, usize)>, CommandError> {
    let mut written = Vec::new();
    for run in store.all_runs().map_err(store_error)? {
        let found = offline_run(store, &run.id).map_err(CommandError::user)?;
        if let Some(found) = found {
            write_atomic(&dir.join(&found.path), &found.bytes).map_err(CommandError::user)?;
            written.push((found.path, found.steps));
        }
    }
    Ok(written)
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
