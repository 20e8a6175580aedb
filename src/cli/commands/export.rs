//! `lions export`.

use crate::arch::FloatFormat;
use crate::base::write_atomic;
use crate::cli::checkpoint::model_of;
use crate::cli::commands::show;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::config::spec::Precision;
use crate::model::convert_checkpoint;
use crate::plan::{MODEL_ARTIFACT, RunId, checkpoint_artifact};
use crate::rundir::RunDir;
use crate::store::ReadStore;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Write the trained model of a run as a folder of its own, in the number format it was trained in
///
/// Runs keep their models with f32 weights, so that the next stage sees every update. What leaves
/// here opens in transformers and whatever reads its layout.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Run of `sft` or `dpo`, by the first digits of its id
    id: String,
    /// Folder to write; must not be there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number format of the weights [default: the run's `precision`]
    #[arg(long, value_name = "FORMAT")]
    precision: Option<Format>,
    /// The model kept after this step (`save-steps`), instead of the last
    #[arg(long, value_name = "STEP", value_parser = at_least(0_u64))]
    step: Option<u64>,
}

/// Number formats that a model is written in.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    F32,
    Bf16,
}

impl From<Format> for Precision {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::Bf16 => Self::Bf16,
        }
    }
}

impl From<Format> for FloatFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::Bf16 => Self::Bf16,
        }
    }
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ExportArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let id = show::find(&store, &args.id)?;
    if args.out.exists() {
        let message = format!("`{}` is there already", args.out.display());
        return Err(
            CommandError::user(message).hint("`--out` names a folder that is yet to be made")
        );
    }
    let format = match args.precision {
        Some(format) => format.into(),
        None => trained_in(&store, &id)?,
    };
    let folder = model_of(&project, &store, &id, args.step)?;
    let weights = convert_checkpoint(&folder, &args.out, format).map_err(CommandError::user)?;
    let attempts = store.attempts(&id).map_err(store_error)?;
    let artifact = args
        .step
        .map_or_else(|| MODEL_ARTIFACT.to_owned(), checkpoint_artifact);
    let about = json!({
        "run": id, "artifact": artifact, "recipe": identity(&store, &id)?,
        "provenance": show::provenance(&attempts, &RunDir::new(&project.root, &id)),
    });
    let text = serde_json::to_string_pretty(&about).map_err(CommandError::internal)?;
    write_atomic(&args.out.join("lions.json"), text.as_bytes()).map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&json!({ "model": args.out, "tensors": weights }))?;
    } else {
        let (count, out) = (counted(weights, "tensor"), args.out.display());
        ui.out(&format!("{count} written: {out}"));
    }
    Ok(DONE)
}

/// What the run's id is the digest of.
fn identity(store: &ReadStore, id: &RunId) -> Result<Value, CommandError> {
    let identity = store.identity(id).map_err(store_error)?;
    serde_json::from_str(&identity).map_err(CommandError::internal)
}

/// The number format of the run's training.
fn trained_in(store: &ReadStore, id: &RunId) -> Result<FloatFormat, CommandError> {
    match identity(store, id)?["recipe"]["precision"].as_str() {
        Some("f32") => Ok(FloatFormat::F32),
        Some("bf16") => Ok(FloatFormat::Bf16),
        _ => {
            let message = format!("the recipe of run `{id}` names no `precision` that is known");
            Err(CommandError::internal(message).hint("`--precision` names one"))
        }
    }
}
