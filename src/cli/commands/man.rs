//! `lions man`.

use crate::base::PathError;
use crate::cli::error::CommandError;
use crate::cli::global::DONE;
use crate::cli::ui::Ui;
use std::path::PathBuf;

/// Write the manual pages, one a command, into a folder
///
/// For example `lions man ~/.local/share/man/man1`; then `man lions-run` shows one.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder to write into; made if it is not there
    dir: PathBuf,
}

pub(crate) fn run(ui: &Ui, lions: clap::Command, args: &ManArgs) -> Result<u8, CommandError> {
    let failed = |error| CommandError::user(PathError::new("write", &args.dir, error));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(lions, &args.dir).map_err(failed)?;
    ui.say(&format!(
        "wrote {} and a page for each command beside it",
        args.dir.join("lions.1").display()
    ));
    Ok(DONE)
}
