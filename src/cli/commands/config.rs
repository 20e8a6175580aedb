//! `lions config`.

use crate::cli::commands::inspect::pick;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::project::Project;
use crate::cli::sweep_file::SweepFile;
use crate::cli::ui::{Tone, Ui};
use crate::config::{Inputs, Written, toml_text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show what a sweep file comes to
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Show(ConfigShowArgs),
}

/// Show the whole configuration of one trial, with where each value comes from
///
/// It is TOML as a `[base]` takes it: behind each value stands the file and line that gives it, the
/// axis if one sets it, or that it is the default.
#[derive(Debug, clap::Args)]
struct ConfigShowArgs {
    #[command(flatten)]
    sweep: SweepFile,
    /// Trial, by its number in `lions plan --json`
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = at_least(0_usize))]
    trial: usize,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ConfigArgs) -> Result<u8, CommandError> {
    let What::Show(args) = &args.what;
    let project = Project::find(global.root.as_deref(), Some(&args.sweep.file))?;
    let (sweep, places) = args.sweep.load_placed(ui, &project, Inputs::Optional)?;
    let trial = pick(&sweep, args.trial)?;
    let config = serde_json::to_value(&trial.config).map_err(CommandError::internal)?;
    let mut leaves = Vec::new();
    gather(&config, String::new(), &mut leaves);
    let paths = leaves.iter().map(|(path, _)| path.as_str());
    let origins = places.written(trial.index, paths);
    let values = leaves.into_iter().zip(origins);
    // A table of defaults that has none says nothing.
    let said = values.filter(|((_, value), origin)| origin.is_some() || **value != json!({}));
    let (leaves, origins): (Vec<_>, Vec<_>) = said.unzip();
    if ui.json {
        let values: Vec<_> = leaves
            .iter()
            .zip(&origins)
            .map(|((path, value), origin)| {
                let from = origin
                    .as_ref()
                    .map(|at| json!({"file": at.file, "line": at.line, "axis": at.by_axis}));
                json!({"path": path, "value": value, "from": from})
            })
            .collect();
        ui.print_json(&json!({
            "sweep": sweep.name, "trial": trial.index, "label": trial.label(), "seed": trial.seed, "values": values,
        }))?;
        return Ok(DONE);
    }
    let head = format!(
        "# Trial {} of {}: {}, seed {}",
        trial.index,
        sweep.name,
        trial.label(),
        trial.seed
    );
    ui.raw(&format!("{}\n", ui.tone(Tone::Dim, &head)));
    for line in lines(ui, &leaves, &origins) {
        ui.raw(&format!("{line}\n"));
    }
    Ok(DONE)
}

/// Every value that is no table, with its dotted path; a list is one value.
fn gather<'v>(value: &'v Value, path: String, leaves: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Null => {}
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                gather(value, below, leaves);
            }
        }
        _ => leaves.push((path, value)),
    }
}

/// The values under the headings of their tables, those of no table first, each with its origin.
fn lines(ui: &Ui, leaves: &[(String, &Value)], origins: &[Option<Written>]) -> Vec<String> {
    let mut tables: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for ((path, value), origin) in leaves.iter().zip(origins) {
        let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
        let written = toml_text(value);
        let entry = (format!("{key} = {written}"), origin_text(origin.as_ref()));
        tables.entry(table).or_default().push(entry);
    }
    let widest = tables
        .values()
        .flatten()
        .map(|(text, _)| text.chars().count());
    // A long list does not push every origin out of sight.
    let column = widest.max().unwrap_or(0).min(MOST_INDENT);
    let mut lines = Vec::new();
    for (table, entries) in tables {
        if !table.is_empty() {
            lines.push(String::new());
            lines.push(ui.tone(Tone::Strong, &format!("[{table}]")));
        }
        for (text, origin) in entries {
            let origin = ui.tone(Tone::Dim, &format!("# {origin}"));
            lines.push(format!("{text:<column$}  {origin}"));
        }
    }
    lines
}

/// Origins stand at this column at most, so that they fit a terminal of 80 beside usual values.
const MOST_INDENT: usize = 44;

fn origin_text(origin: Option<&Written>) -> String {
    match origin {
        None => "default".to_owned(),
        Some(at) if at.by_axis => format!("axis, {}:{}", at.file, at.line),
        Some(at) => format!("{}:{}", at.file, at.line),
    }
}
