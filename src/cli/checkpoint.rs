//! Which model a command line means: a folder, a run, or a stage of a sweep.

use crate::cli::database::{open, store_error, unknown_sweep};
use crate::cli::error::CommandError;
use crate::cli::numbers::at_least;
use crate::cli::pick::TrialFilter;
use crate::cli::project::Project;
use crate::cli::sweep_file::sweep_file_named;
use crate::cli::text::counted;
use crate::plan::{MODEL_ARTIFACT, RunId, StageKind, checkpoint_artifact};
use crate::rundir::{RunDir, read_collected, verify_artifact};
use crate::store::{ReadStore, StoreError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model, however it is called.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckpointArgs {
    /// Model folder in Hugging Face layout, a run by the first digits of its id, or a sweep's stage (`study/dpo`)
    checkpoint: String,
    #[command(flatten)]
    picked: TrialFilter,
    /// Of a run the model kept after this step (`save-steps`), instead of the last
    #[arg(long, value_name = "STEP", value_parser = at_least(0_u64))]
    step: Option<u64>,
}

impl CheckpointArgs {
    /// What was typed, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.checkpoint
    }

    /// The model folder; that of a run is as it was published.
    ///
    /// # Errors
    /// There is no such folder, run or stage; the run has no such model, or it is damaged; or several trials fit.
    pub(crate) fn folder(&self, project: &Project) -> Result<PathBuf, CommandError> {
        let folder = Path::new(&self.checkpoint);
        let of_run = !self.picked.is_empty() || self.step.is_some();
        if folder.is_dir() && !of_run {
            return Ok(folder.to_owned());
        }
        let store = open(project)?.ok_or_else(|| self.no_folder())?;
        let id = match self.checkpoint.rsplit_once('/') {
            Some((sweep, stage)) if stage_named(stage).is_some() => {
                self.of_sweep(project, &store, sweep, stage)?
            }
            _ => match store.find_run(&self.checkpoint) {
                Err(StoreError::NoRun { .. }) => return Err(self.no_folder()),
                found => found.map_err(store_error)?,
            },
        };
        model_of(project, &store, &id, self.step)
    }

    fn no_folder(&self) -> CommandError {
        let name = &self.checkpoint;
        if Path::new(name).is_dir() {
            let message = format!("`{name}` is a folder, no run and no stage of a sweep");
            return CommandError::user(message)
                .hint("`--where` and `--step` choose among the models of a sweep or a run; leave them out");
        }
        let message = format!("`{name}` is no model folder, no run and no stage of a sweep");
        CommandError::user(message).hint(
            "name a folder with `config.json`, the first digits of a run's id, or `SWEEP/sft` and `SWEEP/dpo`; \
             `lions status` lists sweeps and runs",
        )
    }

    fn of_sweep(
        &self,
        project: &Project,
        store: &ReadStore,
        sweep: &str,
        stage: &str,
    ) -> Result<RunId, CommandError> {
        let stored = store
            .sweep(sweep)
            .map_err(|error| unknown_sweep(project, store, error))?;
        let mut trials = store.trials(sweep).map_err(store_error)?;
        self.picked.keep_trials(&stored.axes, &mut trials)?;
        let mut found: BTreeMap<RunId, String> = BTreeMap::new();
        for trial in &trials {
            // Of the rounds of online DPO the last.
            let run = trial.runs.iter().rev().find(|run| run.kind.name() == stage);
            if let Some(run) = run {
                let label = format!("{} seed={}", trial.label, trial.seed);
                found.entry(run.id.clone()).or_insert(label);
            }
        }
        if found.len() == 1
            && let Some((id, _)) = found.pop_first()
        {
            return Ok(id);
        }
        let error = format!(
            "{} of `{sweep}` {} a `{stage}`, and one is wanted",
            counted(found.len(), "run"),
            if found.len() == 1 { "is" } else { "are" }
        );
        let error = CommandError::user(error);
        Err(if found.is_empty() {
            error.hint(format!(
                "`lions status {sweep} --trials` lists trials and runs"
            ))
        } else {
            found.iter().take(8).fold(
                error.hint(
                    "`--where AXIS=VALUE` chooses one, as does the first digits of a run's id",
                ),
                |error, (id, label)| error.hint(format!("{} is {label}", id.short())),
            )
        })
    }
}

/// The stage of that name.
fn stage_named(name: &str) -> Option<&str> {
    let trained = [StageKind::Sft, StageKind::Dpo];
    trained
        .iter()
        .any(|kind| kind.name() == name)
        .then_some(name)
}

/// The folder of a model that a run published, verified.
///
/// # Errors
/// It has none, or it is damaged.
pub(crate) fn model_of(
    project: &Project,
    store: &ReadStore,
    id: &RunId,
    step: Option<u64>,
) -> Result<PathBuf, CommandError> {
    let wanted = step.map_or_else(|| MODEL_ARTIFACT.to_owned(), checkpoint_artifact);
    let artifacts = store.artifacts(id).map_err(store_error)?;
    let prefix = format!("{wanted}/");
    if !artifacts.iter().any(|file| file.path.starts_with(&prefix)) {
        let short = id.short();
        return Err(
            CommandError::user(format!("run `{short}` has no `{wanted}`"))
                .hint(format!("`lions show {short}` lists what it has")),
        );
    }
    let dir = RunDir::new(&project.root, id);
    let gone = read_collected(&dir).map_err(CommandError::user)?;
    if gone.iter().any(|path| path.starts_with(&prefix)) {
        return Err(deleted(project, store, id, &wanted));
    }
    verify_artifact(&dir, &wanted).map_err(|error| {
        CommandError::user(error).hint("`lions run` makes damaged results again")
    })?;
    Ok(dir.artifacts().join(wanted))
}

/// That `lions gc` deleted a model, and how to have it made again.
fn deleted(project: &Project, store: &ReadStore, id: &RunId, wanted: &str) -> CommandError {
    let short = id.short();
    let uses = store.trials_of(id).unwrap_or_default();
    let mut files = uses
        .iter()
        .filter_map(|of| sweep_file_named(project, &of.sweep));
    let sweep = match (files.next(), uses.first()) {
        (Some(file), _) => {
            let shown = file.strip_prefix(&project.root).unwrap_or(&file);
            format!("`lions run {}`", shown.display())
        }
        (None, Some(of)) => format!("`lions run` of the sweep `{}`", of.sweep),
        (None, None) => "`lions run` of its sweep".to_owned(),
    };
    CommandError::user(format!(
        "run `{short}` has no `{wanted}` any more: `lions gc` deleted it"
    ))
    .hint(format!(
        "`lions retry {short}`, then {sweep}, makes it again, the same bytes on the CPU"
    ))
}
