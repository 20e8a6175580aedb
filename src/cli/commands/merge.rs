//! `lions merge`.

use crate::cli::commands::export::Format;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::text::counted;
use crate::cli::ui::Ui;
use crate::model::{ModelError, merge_adapter};
use serde_json::json;
use std::path::PathBuf;

/// Put adapters into the model that they were trained on, so that a sweep can start from it
///
/// Takes low-rank adapters in PEFT's layout, from PEFT or from a run here, and writes a model folder.
/// In bf16 a change below half a unit of its weight is rounded away; f32 keeps it.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    /// Folder with adapter_config.json and adapter_model.safetensors
    adapter: PathBuf,
    /// Model folder that the adapters were trained on
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder to write; must not be there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number format of the weights [default: that of the base]
    #[arg(long, value_name = "FORMAT")]
    precision: Option<Format>,
}

pub(crate) fn run(ui: &Ui, _global: &Global, args: &MergeArgs) -> Result<u8, CommandError> {
    if args.out.exists() {
        let message = format!("`{}` is there already", args.out.display());
        return Err(
            CommandError::user(message).hint("`--out` names a folder that is yet to be made")
        );
    }
    let format = args.precision.map(Into::into);
    let merged = merge_adapter(&args.model, &args.adapter, &args.out, format);
    let adapted = merged.map_err(|error| {
        // These are of the adapters alone, and say what to do.
        let of_adapter = matches!(
            error,
            ModelError::Config { .. }
                | ModelError::NotFinite { .. }
                | ModelError::WrongDtype { .. }
        );
        let failure = CommandError::user(error);
        let adapter = args.adapter.display();
        if !args.adapter.join("adapter_config.json").is_file() {
            return failure.hint(format!(
                "`{adapter}` is no folder of adapters in PEFT's layout"
            ));
        }
        if of_adapter {
            return failure;
        }
        failure.hint(format!(
            "`--model` names the folder of the model that `{adapter}` was trained on"
        ))
    })?;
    if ui.json {
        ui.print_json(&json!({ "model": args.out, "adapted": adapted }))?;
    } else {
        let (count, out) = (counted(adapted, "weight"), args.out.display());
        ui.out(&format!("{count} adapted: {out}"));
    }
    Ok(DONE)
}
