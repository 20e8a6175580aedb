//! The project's database and the results in it, or an error that says what to do.

use crate::base::fs::read_to_string;
use crate::cli::error::CommandError;
use crate::cli::project::Project;
use crate::cli::sweep_file::sweep_file_named;
use crate::cli::ui::Ui;
use crate::config::{RUNG_MARK, SweepName, nearest};
use crate::report::{Depth, SweepResults, load_results};
use crate::store::{ReadStore, StoreError};

/// The store, or nothing if there is none yet.
pub(crate) fn open(project: &Project) -> Result<Option<ReadStore>, CommandError> {
    match ReadStore::of_project(&project.root) {
        Err(StoreError::Missing { .. }) => Ok(None),
        opened => opened.map(Some).map_err(store_error),
    }
}

/// The store, which must be there.
pub(crate) fn must_open(project: &Project) -> Result<ReadStore, CommandError> {
    open(project)?.ok_or_else(|| {
        CommandError::user(format!(
            "there is no database at `{}`",
            project.database().display()
        ))
        .hint("`lions run <sweep file>` makes it; `--root` names another project folder")
    })
}

/// Everything known of a sweep that has run here.
pub(crate) fn results(
    ui: &Ui,
    project: &Project,
    name: &str,
) -> Result<SweepResults, CommandError> {
    results_to(ui, project, name, Depth::Everything)
}

/// What is known of a sweep that has run here, as deep as is asked.
pub(crate) fn results_to(
    ui: &Ui,
    project: &Project,
    name: &str,
    depth: Depth,
) -> Result<SweepResults, CommandError> {
    let store = must_open(project)?;
    store
        .sweep(name)
        .map_err(|error| unknown_sweep(project, &store, error))?;
    let file = sweep_file_named(project, SweepName::of(name).own);
    let source = file.and_then(|path| read_to_string(&path).ok());
    let source = source.unwrap_or_default();
    let results =
        load_results(&store, &project.root, name, &source, depth).map_err(CommandError::user)?;
    results.sweep.unread.iter().for_each(|text| ui.warn(text));
    Ok(results)
}

/// What earlier runs of a sweep left, if it has run here; whatever cannot be read is as good as absent.
pub(crate) fn earlier(project: &Project, name: &str) -> Option<SweepResults> {
    let store = open(project).ok()??;
    store.sweep(name).ok()?;
    load_results(&store, &project.root, name, "", Depth::Scores).ok()
}

/// A sweep that the store does not know; the error names those that it does.
pub(crate) fn unknown_sweep(
    project: &Project,
    store: &ReadStore,
    error: StoreError,
) -> CommandError {
    let near = match &error {
        StoreError::NoSweep { name, known } => rung_of(name, known)
            .or_else(|| not_run(project, name))
            .or_else(|| {
                nearest(name, known.split(", ")).map(|near| format!("did you mean `{near}`?"))
            }),
        _ => None,
    };
    let failure = CommandError::user(error);
    if store.sweeps().is_ok_and(|sweeps| sweeps.is_empty()) {
        return failure.hint("no sweep has run here yet; `lions run <sweep file>` begins");
    }
    match near {
        Some(near) => failure.hint(near),
        None => failure,
    }
}

/// That a sweep is halved, and its rungs alone have run.
fn rung_of(name: &str, known: &str) -> Option<String> {
    let is_rung = |known: &&str| {
        known
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(RUNG_MARK))
    };
    let last = known.split(", ").filter(is_rung).last()?;
    Some(format!(
        "its configurations are still being chosen: `lions status {last}`"
    ))
}

/// What runs a sweep that has a file and no results.
pub(crate) fn not_run(project: &Project, name: &str) -> Option<String> {
    let file = sweep_file_named(project, name)?;
    let file = file.strip_prefix(&project.root).ok()?.display().to_string();
    Some(format!(
        "it has not run here yet; `lions run {file}` begins"
    ))
}

/// A store that cannot be used, with the way out.
pub(crate) fn store_error(error: StoreError) -> CommandError {
    let remedy = error.remedy();
    let failure = CommandError::user(error);
    match remedy {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}
