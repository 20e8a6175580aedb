//! `lions export`.

use crate::arch::FloatFormat;
use crate::cli::commands::show;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::model::convert_checkpoint;
use crate::plan::{MODEL_ARTIFACT, checkpoint_artifact};
use crate::rundir::RunDir;
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
    #[arg(long, value_name = "STEP")]
    step: Option<u64>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    F32,
    Bf16,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ExportArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let id = show::find(&store, &args.id)?;
    let wanted = args
        .step
        .map_or_else(|| MODEL_ARTIFACT.to_owned(), checkpoint_artifact);
    let artifacts = store.artifacts(&id).map_err(store_error)?;
    let prefix = format!("{wanted}/");
    if !artifacts.iter().any(|file| file.path.starts_with(&prefix)) {
        let short = &id.0[..12];
        return Err(
            CommandError::user(format!("run `{short}` has no `{wanted}`"))
                .hint(format!("`lions show {short}` lists what it has")),
        );
    }
    if args.out.exists() {
        let message = format!("`{}` is there already", args.out.display());
        return Err(
            CommandError::user(message).hint("`--out` names a folder that is yet to be made")
        );
    }
    let identity: Value =
        serde_json::from_str(&store.identity(&id).map_err(store_error)?).unwrap_or(Value::Null);
    let format = match args.precision {
        Some(Format::Bf16) => FloatFormat::Bf16,
        None if identity["recipe"]["precision"] == "bf16" => FloatFormat::Bf16,
        Some(Format::F32) | None => FloatFormat::F32,
    };
    let folder = RunDir::new(&project.root, &id).artifacts().join(wanted);
    let weights = convert_checkpoint(&folder, &args.out, format).map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&json!({ "model": args.out, "tensors": weights }))?;
    } else {
        let (count, out) = (counted(weights, "tensor"), args.out.display());
        ui.out(&format!("{count} written: {out}"));
    }
    Ok(DONE)
}
