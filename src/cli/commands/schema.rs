//! `lions schema`.

use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::ui::Ui;
use crate::config::{editor_schema, field_schema};

/// Print what a sweep file may hold as JSON schema, for editors that check and complete TOML
///
/// With a path only that field is told: its type, range or choices, and what it means.
/// docs/reference.md has all of them to read.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// A field of the configuration, as axes name it: dpo.recipe.beta
    path: Option<String>,
}

pub(crate) fn run(ui: &Ui, _global: &Global, args: &SchemaArgs) -> Result<u8, CommandError> {
    let schema = match &args.path {
        None => editor_schema(),
        Some(path) => field_schema(path).map_err(|near| {
            let error = CommandError::user(format!("there is no field `{path}`"));
            match near {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("docs/reference.md has all of them"),
            }
        })?,
    };
    ui.print_json(&schema)?;
    Ok(DONE)
}
