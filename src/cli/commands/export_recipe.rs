//! `lions export-recipe`.

use crate::base::write_atomic;
use crate::cli::commands::show;
use crate::cli::database::must_open;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::trl::{TrlRecipe, trl_recipe, yaml_text};
use crate::cli::ui::Ui;
use crate::config::toml_text;
use crate::plan::{InputRef, InputRole};
use crate::rundir::{RunDir, read_stage};
use serde_json::json;
use std::path::PathBuf;

/// Write what TRL would be told to do the same as a run
///
/// YAML for `trl sft --config FILE` or `trl dpo --config FILE`. Above it stands, as remarks, whatever
/// TRL cannot express or does otherwise. Paths are relative to the project folder.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportRecipeArgs {
    /// Run of `sft` or `dpo`, by the first digits of its id
    id: String,
    /// File to write instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ExportRecipeArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let id = show::find(&store, &args.id)?;
    let dir = RunDir::new(&project.root, &id);
    let stage = read_stage(&dir).map_err(CommandError::user)?;
    let (model, from) = match stage.inputs.get(&InputRole::Model) {
        Some(InputRef::Folder { path, .. }) => (path.clone(), None),
        Some(InputRef::Run { id, .. }) => {
            let short = id.short();
            let folder = format!("models/{short}");
            let how = format!("lions export {short} --out {folder}");
            (folder, Some(how))
        }
        None => (String::new(), None),
    };
    let Some(trl) = trl_recipe(&stage, &model) else {
        let message = format!(
            "run `{}` is `{}`, which trains nothing",
            id.short(),
            stage.task.kind()
        );
        return Err(CommandError::user(message)
            .hint("`lions status SWEEP --only dpo` lists runs that train"));
    };
    if ui.json {
        let config: serde_json::Map<_, _> = trl
            .keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        ui.print_json(&json!({
            "run": id, "trainer": trl.trainer, "config": config, "not_expressed": trl.lost, "model_from": from,
        }))?;
        return Ok(DONE);
    }
    let text = text(id.short(), &trl, from.as_deref());
    match &args.out {
        Some(out) => {
            write_atomic(out, text.as_bytes()).map_err(CommandError::user)?;
            ui.say(&format!("wrote {}", out.display()));
        }
        None => ui.raw(&text),
    }
    Ok(DONE)
}

/// The file: what it is, what it does not say, and the keys.
fn text(run: &str, trl: &TrlRecipe, from: Option<&str>) -> String {
    let mut text = format!(
        "# Run {run} of lions, for TRL: `trl {} --config THIS.yaml`.\n",
        trl.trainer
    );
    if !["sft", "dpo"].contains(&trl.trainer) {
        text = format!(
            "# Run {run} of lions, for TRL's trainer of `{}`, which has a script of its own.\n",
            trl.trainer
        );
    }
    if let Some(how) = from {
        text += &format!("# The model comes from an earlier run: `{how}` writes it.\n");
    }
    if !trl.lost.is_empty() {
        text += "#\n# What TRL cannot express, or does otherwise:\n";
    }
    for lost in &trl.lost {
        text += &format!(
            "#   {} = {}: {}\n",
            lost.field,
            toml_text(&lost.value),
            lost.why
        );
    }
    text + "\n" + &yaml_text(trl.keys.iter().map(|(key, value)| (*key, value)))
}
