//! `lions completions`.

use crate::cli::error::CommandError;
use crate::cli::global::DONE;
use crate::cli::ui::Ui;
use clap_complete::{Shell, generate};

/// Write the completions of a shell to stdout
///
/// For example `lions completions bash > ~/.local/share/bash-completion/completions/lions`, or
/// `lions completions zsh > ~/.zfunc/_lions`, or
/// `lions completions fish > ~/.config/fish/completions/lions.fish`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(
    ui: &Ui,
    mut lions: clap::Command,
    args: &CompletionsArgs,
) -> Result<u8, CommandError> {
    let mut text = Vec::new();
    generate(args.shell, &mut lions, "lions", &mut text);
    let text = String::from_utf8(text).map_err(CommandError::internal)?;
    ui.raw(&text);
    Ok(DONE)
}
