//! `lions export-recipe`.

use crate::base::write_atomic;
use crate::cli::commands::show;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::trl::{Around, TrlRecipe, trl_recipe, trl_rows, yaml_text};
use crate::cli::ui::Ui;
use crate::config::toml_text;
use crate::plan::{InputRef, InputRole};
use crate::rundir::{RunDir, read_stage};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write what TRL would be told to do the same as a run
///
/// YAML for `trl sft --config FILE` or `trl dpo --config FILE` of TRL 1, to be started in the project
/// folder, to which paths in it are relative. Above it stands, as remarks, whatever TRL cannot express
/// or does otherwise. TRL knows fewer forms of rows than lions, and draws no part of them: `--rows`
/// writes those that the run was trained on, in a form that TRL reads.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportRecipeArgs {
    /// Run of `sft` or `dpo`, by the first digits of its id
    id: String,
    /// File to write instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write the rows that the run was trained on to this file of JSON lines, and name it in the YAML
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
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
    let rows = args
        .rows
        .as_deref()
        .map(|path| named_from(&project.root, path));
    let counts = store.counts(&id).map_err(store_error)?;
    let around = Around {
        model: &model,
        rows: rows.as_deref(),
        steps: counts.get("steps").copied(),
    };
    let Some(mut trl) = trl_recipe(&stage, &around) else {
        let message = format!(
            "run `{}` is `{}`, which trains nothing",
            id.short(),
            stage.task.kind()
        );
        return Err(CommandError::user(message)
            .hint("`lions status SWEEP --only dpo` lists runs that train"));
    };
    trl.keys.push(("logging_steps", json!(1)));
    trl.keys
        .push(("output_dir", json!(format!("trl/{}", id.short()))));
    if let Some(path) = &args.rows {
        let place = |path: &Path| path.canonicalize().ok();
        let mut own = stage.data.keys().map(|own| place(&project.root.join(own)));
        if place(path).is_some_and(|path| own.any(|own| own.as_ref() == Some(&path))) {
            let message = format!("`{}` is a data file of the run", path.display());
            return Err(CommandError::user(message).hint("name another file for `--rows`"));
        }
        let found = trl_rows(&project.root, &stage)?;
        let lines: String = found.rows.iter().map(|row| format!("{row}\n")).collect();
        write_atomic(path, lines.as_bytes()).map_err(CommandError::user)?;
        let how_many = counted(found.rows.len(), "row");
        ui.say(&format!("wrote {} with {how_many}", path.display()));
        if let Some((what, count)) = found.differ {
            let rows = counted(count, "row");
            ui.warn(&format!("{rows} with {what}, which TRL learns whole"));
        }
    }
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
    let text = text(id.short(), &trl, from.as_deref(), rows.is_some());
    match &args.out {
        Some(out) => {
            write_atomic(out, text.as_bytes()).map_err(CommandError::user)?;
            ui.say(&format!("wrote {}", out.display()));
        }
        None => ui.raw(&text),
    }
    Ok(DONE)
}

/// A path as a command in the project folder writes it.
fn named_from(root: &Path, path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let named = whole.strip_prefix(&root).unwrap_or(&whole);
    named.display().to_string()
}

/// The file: what it is, what it does not say, and the keys.
fn text(run: &str, trl: &TrlRecipe, from: Option<&str>, is_written: bool) -> String {
    let mut text = format!(
        "# Run {run} of lions, for TRL 1 and transformers 5: `trl {} --config THIS.yaml`, in the project folder.\n",
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
    text += "# TRL has an order of rows of its own: a step over a part of them has other rows than here.\n";
    if !is_written {
        text += "# It takes a string `prompt` as plain text, and no list of turns with replies that are strings: `--rows FILE`\n\
                 # writes the rows of the run as it reads them.\n";
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
