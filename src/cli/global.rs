//! What every command is given, and how it ends if all went well.

use crate::cli::error::exit_code;
use crate::cli::ui::ColorChoice;
use std::path::PathBuf;

/// The code of a command that did what was asked.
pub(crate) const DONE: u8 = exit_code::OK;

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Project folder, which holds sweeps/, results/ and reports/ [default: found from the sweep file]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Write machine-readable JSON to stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}
